"""Inventories are strict: a mistake is named with its place, before any host is spoken to."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.install.remote.inventory import load_inventory
from custody.errors import InputInvalid
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import site_yml

HOST = """\
  - name: {name}
    address: {address}
    key: /root/.ssh/site
    site: {name}.yml
"""


def write(folder: Path, *names: str, head: str = "schema_version: 1\n", tail: str = "") -> Path:
    """An inventory and site files beside it."""
    text = head + "hosts:\n"
    for number, name in enumerate(names):
        text += HOST.format(name=name, address=f"10.20.0.{number + 1}")
        site = site_yml(load_hosts()["appliance"]).replace("name: appliance-01", f"name: {name}")
        (folder / f"{name}.yml").write_text(site)
    file = folder / "hosts.inventory"
    file.write_text(text + tail)
    return file


def test_defaults_are_those_of_the_reference(tmp_path: Path) -> None:
    inventory = load_inventory(write(tmp_path, "a", "b"))
    first = inventory.hosts[0]
    assert (inventory.forks, inventory.serial, first.port, first.user, first.host_key) == (5, 5, 22, "root", None)
    assert first.site == tmp_path / "a.yml"
    assert str(first.folder) == "/var/lib/airgap/carried"
    assert first.place == "10.20.0.1"


@pytest.mark.parametrize(("tail", "said"), [
    ("    port: 0\n", "port"),
    ("    user: 'root; id'\n", "user"),
    ("    host_key: 'MD5:00:11'\n", "host_key"),
    ("    folder: /srv\n", "folder"),
    ("    folder: /srv/$(id)/x\n", "folder"),
    ("    folder: ../x/y/z\n", "folder"),
    ("    password: hunter2\n", "password"),
])  # fmt: skip
def test_a_bad_field_is_named(tmp_path: Path, tail: str, said: str) -> None:
    with pytest.raises(InputInvalid, match=rf"hosts\.inventory:\d+: hosts\[0\]\.{said}"):
        load_inventory(write(tmp_path, "a", tail=tail))


@pytest.mark.parametrize("address", ["host.example", "10.20.0.0/24", "0.0.0.0", "224.0.0.1", "fe80::1%eth0"])
def test_an_address_is_one_machines(tmp_path: Path, address: str) -> None:
    file = write(tmp_path, "a")
    file.write_text(file.read_text().replace("10.20.0.1", f'"{address}"'))
    with pytest.raises(InputInvalid, match=r"hosts\[0\]\.address"):
        load_inventory(file)


def test_two_hosts_may_not_share_name_or_address(tmp_path: Path) -> None:
    file = write(tmp_path, "a", "b")
    good = file.read_text()
    file.write_text(good.replace("name: b", "name: a"))
    with pytest.raises(InputInvalid, match=r"hosts\[1\]\.name"):
        load_inventory(file)
    file.write_text(good.replace("10.20.0.2", "10.20.0.1"))
    with pytest.raises(InputInvalid, match=r"hosts\[1\]\.address"):
        load_inventory(file)
    file.write_text(good.replace("10.20.0.2", "10.20.0.1\n    port: 2222"))
    assert load_inventory(file).hosts[1].place == "[10.20.0.1]:2222"


def test_two_hosts_may_not_get_one_site_file(tmp_path: Path) -> None:
    file = write(tmp_path, "a", "b")
    file.write_text(file.read_text().replace("b.yml", "a.yml"))
    with pytest.raises(InputInvalid, match=r"host\.name: expected another than a's"):
        load_inventory(file)


def test_a_broken_site_file_stops_before_any_host(tmp_path: Path) -> None:
    file = write(tmp_path, "a")
    site = tmp_path / "a.yml"
    site.write_text(site.read_text().replace("10.0.2.0/24", "0.0.0.0/0"))
    with pytest.raises(InputInvalid, match=r"a\.yml:\d+"):
        load_inventory(file)


def test_the_example_of_the_reference_is_an_inventory(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/reference/inventory.md").read_text()
    write(tmp_path, "gpu-01", "gpu-02")
    file = tmp_path / "hosts.yml"
    file.write_text(page.split("```yaml\n")[1].split("```")[0])
    assert [host.name for host in load_inventory(file).hosts] == ["gpu-01", "gpu-02"]
