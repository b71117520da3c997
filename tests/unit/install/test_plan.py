"""The plan speaks the roles' language: every variable that it makes is one that a role declares."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from appliance.audit.config import Config
from bundler.install.plan import describe, role_variables
from bundler.install.site import load_site
from bundler.manifest.gpu import LockedGpu
from custody.errors import InputInvalid
from tests.bundles import lock
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import site_yml

ROLES = Path(__file__).parents[3] / "roles"


def declared() -> set[str]:
    """Public variables of all roles."""
    names: set[str] = set()
    for file in ROLES.glob("*/defaults/main.yml"):
        names |= set(yaml.safe_load(file.read_text()))
    return names


def test_every_variable_is_declared_by_a_role(tmp_path: Path) -> None:
    file = tmp_path / "site.yml"
    file.write_text(site_yml(load_hosts()["appliance"]))
    site, release = load_site(file), Path("/opt/airgap/releases/small-1")
    variables = role_variables(lock(), site, release)
    assert set(variables) <= declared()
    assert (variables["gpu_driver"], variables["engine_gpu"]) == ("", False)
    assert variables["base_keep_boot_image"]
    assert variables["network_routes"] == [{"to": "172.20.0.0/16", "via": "10.0.2.2"}]
    assert any("172.20.0.0/16" in line for line in describe(lock(), site, release))


def test_how_long_requests_are_kept_travels_to_the_audit_process(tmp_path: Path) -> None:
    file = tmp_path / "site.yml"
    text = site_yml(load_hosts()["appliance"])
    release = Path("/opt/airgap/releases/small-1")
    file.write_text(text)
    variables = role_variables(lock(), load_site(file), release)
    assert (variables["audit_retention_days"], variables["audit_collector_key"]) == ({"default": 2190}, "")
    key = variables["audit_auditor_key"]
    file.write_text(text + f"  retention_days: {{default: 30, clinical: 3650}}\n  collector_key: {key}\n")
    variables = role_variables(lock(), load_site(file), release)
    assert variables["audit_retention_days"] == {"default": 30, "clinical": 3650}
    assert variables["audit_collector_key"] == key
    file.write_text(text + "  retention_days: {clinical: 3650}\n")
    with pytest.raises(InputInvalid, match="retention_days: expected a class default"):
        load_site(file)
    written = yaml.safe_load((ROLES / "audit/vars/main.yml").read_text())["_audit_config"]
    assert set(written) == set(Config.model_fields)


def test_only_networks_that_pass_the_firewall_may_read_figures(tmp_path: Path) -> None:
    file, text = tmp_path / "site.yml", site_yml(load_hosts()["appliance"])
    release = Path("/opt/airgap/releases/small-1")
    file.write_text(text)
    assert role_variables(lock(), load_site(file), release)["gateway_monitoring_networks"] == []
    assert not any("/metrics" in line for line in describe(lock(), load_site(file), release))
    file.write_text(text + "  monitoring: [10.0.2.0/24, 172.20.7.1/32]\n")
    variables = role_variables(lock(), load_site(file), release)
    assert variables["gateway_monitoring_networks"] == ["10.0.2.0/24", "172.20.7.1/32"]
    assert any(
        "/metrics, for 10.0.2.0/24, 172.20.7.1/32" in line for line in describe(lock(), load_site(file), release)
    )
    for wider in ("10.0.0.0/16", '"fd00::/64"'):
        file.write_text(f"{text}  monitoring: [10.0.2.0/24, {wider}]\n")
        with pytest.raises(InputInvalid, match=r"monitoring\[1\]: expected a network within .*10\.0\.2\.0/24, 172\.20"):
            load_site(file)


def test_a_lock_with_a_gpu_has_its_driver_loaded_and_its_site_s_layout(tmp_path: Path) -> None:
    file = tmp_path / "site.yml"
    file.write_text(site_yml(load_hosts()["appliance"]) + "gpu:\n  mig: [3g.71gb, 3g.71gb]\n")
    tuple_ = LockedGpu(
        kernel="6.12.1-amd64", headers="linux-headers-6.12.1-amd64", driver="550.1", cuda="12.4", sm="90"
    )
    site, release = load_site(file), Path("/opt/airgap/releases/small-1")
    variables = role_variables(lock().model_copy(update={"gpu": tuple_}), site, release)
    assert set(variables) <= declared()
    assert (variables["gpu_kernel"], variables["gpu_driver"], variables["engine_gpu"]) == (
        "6.12.1-amd64",
        "550.1",
        True,
    )
    assert variables["gpu_mig"] == ["3g.71gb", "3g.71gb"]
    assert variables["gpu_ecc"]
    assert not variables["base_keep_boot_image"]


DIODE = """\
diode:
  interface: enp5s0
  address: 10.9.0.1
  receiver: {address: 10.9.0.2, mac: "02:00:00:00:09:02"}
"""


def test_only_a_site_with_a_diode_is_told_of_it(tmp_path: Path) -> None:
    file, text = tmp_path / "site.yml", site_yml(load_hosts()["appliance"])
    release = Path("/opt/airgap/releases/small-1")
    file.write_text(text)
    plain = role_variables(lock(), load_site(file), release)
    assert not [name for name in plain if "diode" in name or name == "base_more_service_users"]
    file.write_text(text + DIODE)
    site = load_site(file)
    variables = role_variables(lock(), site, release)
    assert set(variables) <= declared()
    assert plain.items() <= variables.items()
    assert variables["base_more_service_users"] == ["airgap-diode"]
    assert variables["diode_receiver_mac"] == "02:00:00:00:09:02"
    assert (variables["firewall_diode_receiver"], variables["firewall_diode_port"]) == ("10.9.0.2", 5514)
    assert (variables["diode_repeat"], variables["diode_rate"], variables["diode_mtu"]) == (2, 1000, 1500)
    assert any("10.9.0.2 UDP 5514 by enp5s0" in line for line in describe(lock(), site, release))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("10.9.0.2", "10.9.0.1", "another address of IPv4"),
        ("10.9.0.2", '"fd00::2"', "another address of IPv4"),
        ("10.9.0.1", "10.0.2.77", "outside the host's other networks"),
        ("10.9.0.2", "172.20.0.9", "outside the host's other networks"),
        ("enp5s0", "enp5s0;drop", "the name of a card"),
        ("02:00", "01:00", "the MAC address of one card"),
        ("}", ", port: 0}", "port"),
        ("  address: 10.9.0.1\n", "  address: 10.9.0.1\n  repeat: 9\n", "repeat"),
    ],
)
def test_a_wire_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "site.yml"
    file.write_text(site_yml(load_hosts()["appliance"]) + DIODE.replace(old, new, 1))
    with pytest.raises(InputInvalid, match=said):
        load_site(file)
