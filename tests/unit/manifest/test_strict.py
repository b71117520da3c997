"""Good input is read as it stands, and locks survive; bad input has its table in tests/attack/test_inputs.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.install.site import Site, load_site
from bundler.manifest.form import words
from bundler.manifest.lock import dump_lock, load_lock
from bundler.manifest.models import Manifest, load_manifest
from custody.errors import InputInvalid
from tests.bundles import lock
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import site_yml

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("file", sorted((ROOT / "manifests").glob("*.yml")), ids=lambda file: file.name)
def test_shipped_manifests_are_good(file: Path) -> None:
    assert load_manifest(file).bundle.version >= 1


def test_the_example_sites_are_good(tmp_path: Path) -> None:
    page = (ROOT / "docs/reference/site-file.md").read_text()
    file = tmp_path / "site.yml"
    for text in (site_yml(load_hosts()["appliance"]), page.split("```yaml\n")[1].split("```")[0]):
        file.write_text(text)
        assert load_site(file).host.name == "appliance-01"


def test_a_lock_survives_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_bytes(dump_lock(lock()))
    assert load_lock(path) == lock()


def test_every_fault_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "input.yml"
    file.write_text((ROOT / "manifests/demo.yml").read_text().replace("version: 1", "version: -1"))
    with pytest.raises(InputInvalid) as caught:
        load_manifest(file)
    lines = file.read_text().splitlines()
    for complaint, field in zip(caught.value.message.splitlines(), ("schema_version", "bundle.version"), strict=True):
        name, line, rest = complaint.split(":", 2)
        assert (name, lines[int(line) - 1].strip()) == (str(file), field.rpartition(".")[2] + ": -1")
        assert rest.startswith(f" {field}: expected ")


def test_types_have_words() -> None:
    def of(model: type[Manifest] | type[Site], field: str) -> str:
        return words(model.model_fields[field].annotation)

    assert of(Manifest, "schema_version") == "1"
    assert of(Manifest, "models") == "a list, each a mapping"
    assert of(Site, "host") == "a mapping"
    assert words(dict[str, int | None]) == "a mapping from text to a whole number, or null"
