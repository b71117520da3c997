"""Bad input: one clear message with file, line and field; never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.install.site import load_site
from bundler.manifest.lock import dump_lock, load_lock
from bundler.manifest.models import load_manifest
from custody.errors import InputInvalid
from tests.bundles import lock
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import site_yml

ROOT = Path(__file__).parents[3]
MANIFEST = (ROOT / "manifests/demo.yml").read_text()
SITE = site_yml(load_hosts()["appliance"])


def written(folder: Path, text: str) -> Path:
    path = folder / "input.yml"
    path.write_text(text)
    return path


def test_shipped_manifest_and_example_site_are_good(tmp_path: Path) -> None:
    assert load_manifest(ROOT / "manifests/demo.yml").bundle.name == "airgap-demo"
    assert load_site(written(tmp_path, SITE)).host.name == "appliance-01"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schema_version: 1", "schema_version: 2", "input.yml:"),
        ("schema_version: 1", "schema_version: 1\nschema_version: 1", "the key appears twice"),
        ("schema_version: 1", "schema_version: 1\nnonsense: 1", "nonsense: Extra inputs"),
        ("  name: airgap-demo", "  name: Demo!", "bundle.name"),
        ("  name: airgap-demo", "  name: [demo]", "bundle.name"),
        ("  version: 1", "  version: 99999999999999999999", "bundle.version"),
        ("  version: 1", "  version: -1", "bundle.version"),
        ("  version: 1", '  version: "1"', "bundle.version"),
        ("  version: 1", "  version: 2026-01-01", "quote dates"),
        ("  name: airgap-demo", "  name: &x demo\n  channel: *x", "aliases"),
        ("  name: airgap-demo", "  name: !!python/name:os.system demo", "not YAML"),
        ("schema_version: 1", "\tschema_version: 1", "not YAML"),
        ("schema_version: 1", "{" * 2000, "not YAML"),
    ],
)
def test_bad_manifests(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in MANIFEST
    path = written(tmp_path, MANIFEST.replace(old, new, 1))
    with pytest.raises(InputInvalid) as caught:
        load_manifest(path)
    shown = caught.value.message + caught.value.hint
    assert str(path) in shown
    assert expected in shown


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("10.0.2.15/24", "10.0.2.15", "prefix length"),
        ("10.0.2.15/24", "10.0.2.999/24", "network.addresses[0]"),
        ("network: 10.0.2.0/24", "network: 0.0.0.0/0", "whole address space"),
        ("network: 10.0.2.0/24", "network: 10.9.0.0/24", "is on no link"),
        ("via: 10.0.2.2", "via: 192.0.2.1", "is on no link"),
        ("AIRGAPDATA01", "'{{ lookup(\"pipe\") }}'", "storage.data_disk_serial"),
        ("AIRGAPDATA01", "a/b", "storage.data_disk_serial"),
        ("appliance-01", "Appliance_01", "host.name"),
        ("{file: /run/secrets-in/api-key}", "hunter2", "service.api_key"),
        ("/run/secrets-in/api-key", "relative/path", "absolute path"),
        ("52:54:00:a1:00:01", "52-54-00-a1-00-01", "network.interface_mac"),
    ],
)
def test_bad_site_files(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in SITE
    path = written(tmp_path, SITE.replace(old, new, 1))
    with pytest.raises(InputInvalid, match=r"input\.yml:\d+: ") as caught:
        load_site(path)
    assert expected in caught.value.message


def test_locks_survive_and_bad_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_bytes(dump_lock(lock()))
    assert load_lock(path) == lock()
    for data in (b"", b"[]", dump_lock(lock())[:-20], dump_lock(lock()).replace(b'"bundle"', b'"bundle":1,"bundle"')):
        path.write_bytes(data)
        with pytest.raises(InputInvalid, match=r"lock\.json"):
            load_lock(path)


def test_missing_empty_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputInvalid, match="No such file"):
        load_manifest(tmp_path / "none")
    with pytest.raises(InputInvalid, match="empty"):
        load_manifest(written(tmp_path, ""))
    with pytest.raises(InputInvalid, match="at most"):
        load_manifest(written(tmp_path, "#" * (2 << 20)))
