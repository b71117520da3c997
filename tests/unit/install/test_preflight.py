"""Everything wrong is one list, each with its remedy. The hardware is files; programs and checks are real."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bundler.install.preflight import Case, Finding, preflight, render, require
from custody.errors import InputInvalid, PreflightFailed
from tests.bundles import make
from tests.unit.install.hosts import GPU, KERNEL, MAC, MODEL, SERIAL, FakeHost, deb, in_own_network

pytestmark = pytest.mark.root
AIRGAP = Path(sys.executable).with_name("airgap")
YEAR_S = 365 * 86400
HEADERS = f"linux-headers-{KERNEL}"
DRIVER: dict[str, Any] = {"gpu": GPU, "debs": [deb(HEADERS), deb("nvidia-open-kernel-dkms")]}


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


def look(case: Case) -> dict[str, Finding]:
    """What preflight finds, by what it is about; in a network of its own, where nobody else listens."""
    found = in_own_network(lambda: preflight(case))
    assert len({finding.what for finding in found}) == len(found)
    assert all(finding.remedy and finding.expected and finding.found for finding in found)
    return {finding.what: finding for finding in found}


def test_a_good_host_has_no_finding(host: FakeHost) -> None:
    assert look(host.case()) == {}


def wrong_system(host: FakeHost) -> Case:
    host.write("/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
    host.write("/proc/sys/kernel/osrelease", "6.1.0-40-amd64")
    host.write("/proc/1/comm", "runit")
    return host.case()


def newer_package(host: FakeHost) -> Case:
    host.packages({"nginx": "1:2.0-1"})
    return host.case(debs=[deb("nginx", "1.26-3")])


def clock_two_years_behind(host: FakeHost) -> Case:
    return host.case(epoch=time.time() + 2 * YEAR_S)


def clock_two_years_ahead(host: FakeHost) -> Case:
    host.certificates(days=(-3 * 365, -2 * 365))
    return host.case(epoch=time.time() - 2 * YEAR_S)


def disk_too_small(host: FakeHost) -> Case:
    return host.case({"data/models/words.gguf": 10 << 30})


def file_systems_too_small(host: FakeHost) -> Case:
    return host.case({"data/files/huge": 1 << 49}, debs=[deb("huge", size_bytes=1 << 48)])


def wrong_serial(host: FakeHost) -> Case:
    host.site["storage"]["data_disk_serial"] = "OTHER"
    return host.case()


def serial_twice(host: FakeHost) -> Case:
    host.disk("vdc", "254:32", SERIAL, {})
    return host.case()


def system_disk(host: FakeHost) -> Case:
    host.site["storage"]["data_disk_serial"] = "SYSTEMDISK1"
    return host.case()


def raid_member(host: FakeHost) -> Case:
    host.partition("vdb", "vdb1", "254:17", {"ID_FS_TYPE": "linux_raid_member"})
    return host.case()


def written_disk(host: FakeHost) -> Case:
    host.write("/dev/vdb", f"ID_SERIAL_SHORT={SERIAL}\nID_FS_TYPE=xfs\n")
    return host.case()


def little_memory(host: FakeHost) -> Case:
    host.write("/proc/meminfo", f"MemTotal: {2 << 20} kB\n")
    return host.case()


def long_context(host: FakeHost) -> Case:
    return host.case(models=[{**MODEL, "context_tokens": 131072}])


def two_models(host: FakeHost) -> Case:
    """Each alone would fit."""
    host.site["service"]["models"] = ["words", "more"]
    host.write("/proc/meminfo", f"MemTotal: {8 << 20} kB\n")
    return host.case(models=[MODEL, {**MODEL, "name": "more", "filename": "more.gguf"}])


def unknown_model(host: FakeHost) -> Case:
    host.site["service"]["models"] = ["words", "another"]
    return host.case()


def no_headers(host: FakeHost) -> Case:
    host.gpu()
    host.nvidia_smi("NVIDIA H200, 143771, Enabled")
    return host.case(gpu=GPU, debs=[deb("linux-headers-6.12.99+deb13-amd64"), deb("nvidia-open-kernel-dkms")])


def other_kernel(host: FakeHost) -> Case:
    host.gpu()
    host.nvidia_smi("NVIDIA H200, 143771, Enabled")
    host.write("/proc/sys/kernel/osrelease", "6.12.1-amd64")
    return host.case(**DRIVER)


def secure_boot(host: FakeHost) -> Case:
    host.gpu()
    host.nvidia_smi("NVIDIA H200, 143771, Enabled")
    host.efi("SecureBoot", b"\x01")
    host.write("/var/lib/dkms/mok.pub", b"our certificate")
    host.efi("MokListRT", b"somebody else's certificate")
    return host.case(**DRIVER)


def small_gpus(host: FakeHost) -> Case:
    host.gpu()
    host.nvidia_smi("NVIDIA T400, 2048, [N/A]")
    return host.case(**DRIVER)


def no_gpu(host: FakeHost) -> Case:
    host.nvidia_smi("NVIDIA H200, 143771, Enabled")
    return host.case(**DRIVER)


def no_such_card(host: FakeHost) -> Case:
    host.site["network"]["interface_mac"] = "52:54:00:00:00:99"
    return host.case()


def secrets(host: FakeHost) -> Case:
    (host.site_folder / "passphrase").chmod(0o644)
    (host.site_folder / "tls-key").unlink()
    return host.case()


def other_client_ca(host: FakeHost) -> Case:
    file = host.site_folder / "client-ca.pem"
    file.write_text("no certificate")
    host.site["tls"]["client_ca"] = str(file)
    return host.case()


def other_key(host: FakeHost) -> Case:
    pem = (host.site_folder / "server.pem").read_bytes()
    host.certificates()
    (host.site_folder / "server.pem").write_bytes(pem)
    return host.case()


def other_name(host: FakeHost) -> Case:
    host.certificates("elsewhere.example")
    return host.case()


def turned_chain(host: FakeHost) -> Case:
    host.certificates(turned=True)
    return host.case()


def no_certificate(host: FakeHost) -> Case:
    (host.site_folder / "server.pem").write_text("nothing")
    return host.case()


CERTIFICATES = {f"tls.certificate, number {n}": "2" for n in (1, 2, 3)}
WRONG: list[tuple[Callable[[FakeHost], Case], dict[str, str]]] = [
    (wrong_system, {"release": "bookworm", "kernel": "6.1", "process 1": "runit"}),
    (newer_package, {"package nginx": "1:2.0-1"}),
    (clock_two_years_behind, {"clock": time.strftime("%Y-")}),
    (disk_too_small, {f"size of data disk {SERIAL}": "21.47 GB"}),
    (wrong_serial, {"data disk OTHER": f"0 of: /dev/vda SYSTEMDISK1, /dev/vdb {SERIAL}"}),
    (serial_twice, {f"data disk {SERIAL}": "2 of: "}),
    (system_disk, {"data disk SYSTEMDISK1": "/dev/vda: the system's disk, mounted at /"}),
    (raid_member, {f"data disk {SERIAL}": "/dev/vdb: linux_raid_member"}),
    (written_disk, {f"data disk {SERIAL}": "/dev/vdb: xfs"}),
    (little_memory, {"memory for words": "2.15 GB"}),
    (long_context, {"memory for words": "8.59 GB"}),
    (two_models, {"memory for words, more": "8.59 GB"}),
    (unknown_model, {"service.models": "another"}),
    (no_headers, {"headers for driver 550.163.01": "not there"}),
    (other_kernel, {"kernel for driver 550.163.01": "6.12.1-amd64"}),
    (secure_boot, {"Secure Boot": "on, and the key is not enrolled"}),
    (small_gpus, {"GPU memory for words": "2.15 GB"}),
    (no_gpu, {"GPU": "none"}),
    (no_such_card, {"network.interface_mac": f"eth0 {MAC}"}),
    (secrets, {"storage.passphrase": "mode 0644", "tls.key": "No such file", "tls": "FileNotFoundError"}),
    (other_client_ca, {"tls.client_ca": "ValueError"}),
    (other_key, {"tls.key": "another key"}),
    (other_name, {"tls.certificate": "elsewhere.example"}),
    (turned_chain, {"tls.certificate, number 2": "CN=root CA", "tls.certificate, number 3": "CN=issuing CA"}),
    (no_certificate, {"tls": "ValueError"}),
]


@pytest.mark.parametrize(("spoil", "expected"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_wrong_is_named(host: FakeHost, spoil: Callable[[FakeHost], Case], expected: dict[str, str]) -> None:
    found = look(spoil(host))
    assert set(found) == set(expected)
    for what, text in expected.items():
        assert found[what].stops
        assert text in found[what].found


def test_a_release_that_ran_here_is_a_floor_for_the_clock(host: FakeHost) -> None:
    case = dataclasses.replace(host.case(), floor_s=int(time.time()) + 86400)
    found = look(case)["clock"]
    assert found.expected.endswith("the time of a release that ran here")
    assert "timedatectl set-ntp false; timedatectl set-time" in found.remedy


def test_a_clock_far_ahead_is_a_warning_and_outlived_certificates_are_findings(host: FakeHost) -> None:
    found = look(clock_two_years_ahead(host))
    assert set(found) == {"clock", *(f"tls.certificate, number {n}" for n in (1, 2, 3))}
    assert not found.pop("clock").stops
    assert all(finding.stops for finding in found.values())


def test_file_systems_are_added_up(host: FakeHost) -> None:
    (finding,) = look(file_systems_too_small(host)).values()
    releases, packages = 2.2 * (1 << 49) / 1e9, 4 * (1 << 48) / 1e9
    assert f"/opt/airgap/releases {releases:.2f} GB" in finding.expected
    assert f"/usr {packages:.2f} GB" in finding.expected
    assert float(finding.expected.split()[0]) > releases + packages


def test_each_file_system_is_looked_at_alone(host: FakeHost) -> None:
    release = host.case().release
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", release.parent], check=True)
    try:
        found = look(host.case({"data/files/large": 8 << 20}))
    finally:
        subprocess.run(["umount", release.parent], check=True)
    (finding,) = found.values()
    assert finding.what == "space for /opt/airgap/releases"
    assert finding.found == "0.00 GB"


def test_what_lies_there_already_counts(host: FakeHost) -> None:
    case = host.case({"data/files/large": 8 << 20})
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", case.release.parent], check=True)
    try:
        case.release.mkdir()
        (case.release / "large").write_bytes(bytes(8 << 20))
        assert look(case) == {}
        (case.release / "large").rename(case.release.with_name("foreign"))
        assert set(look(case)) == {"space for /opt/airgap/releases"}
    finally:
        subprocess.run(["umount", case.release.parent], check=True)


def test_a_good_host_with_a_driver(host: FakeHost) -> None:
    host.gpu()
    host.nvidia_smi("NVIDIA H200, 143771, Enabled")
    host.efi("SecureBoot", b"\x01")
    host.write("/var/lib/dkms/mok.pub", b"our certificate")
    host.efi("MokListRT", b"somebody else's")
    host.efi("MokListRT1", b"...our certificate...")
    assert look(host.case(**DRIVER)) == {}
    host.packages({HEADERS: "6.12.48-1"})
    assert look(host.case(gpu=GPU)) == {}


def test_before_its_driver_a_gpu_tells_nothing(host: FakeHost) -> None:
    host.gpu()
    found = look(host.case(**DRIVER))
    assert {what: finding.stops for what, finding in found.items()} == {"GPU memory for words": False}


def test_ecc_switched_off_is_a_warning(host: FakeHost) -> None:
    host.gpu()
    host.nvidia_smi("NVIDIA H200, 143771, Enabled\\nNVIDIA H200, 143771, Disabled")
    found = look(host.case(**DRIVER))
    assert [(finding.what, finding.stops) for finding in found.values()] == [("ECC of GPU 1", False)]
    assert "--id=1 --ecc-config=1" in found["ECC of GPU 1"].remedy


def test_a_gpu_without_a_driver_in_the_bundle_is_a_warning(host: FakeHost) -> None:
    host.gpu()
    assert [finding.stops for finding in look(host.case()).values()] == [False]


WAYS: dict[str, Callable[[FakeHost], object]] = {
    "wireless:wlan0": lambda h: h.card("wlan0", "pci0/0000:02:00.0", {"uevent": "DEVTYPE=wlan\n"}),
    "wireless:wlan1": lambda h: h.card("wlan1", "pci0/0000:03:00.0", {"phy80211/name": "phy1"}),
    "wireless:0000:04:00.0": lambda h: h.write("/sys/bus/pci/devices/0000:04:00.0/class", "0x028000"),
    "modem:wwan0": lambda h: h.card("wwan0", "usb1/1-1/1-1:1.4", {"address": "", "uevent": "DEVTYPE=wwan\n"}),
    "modem:cdc-wdm0": lambda h: h.write("/sys/class/usbmisc/cdc-wdm0/uevent", ""),
    "modem:wwan1": lambda h: h.write("/sys/class/wwan/wwan1/uevent", ""),
    "usb-network:enx0": lambda h: h.card("enx0", "pci0/usb2/2-1/2-1:1.0", {"address": "02:00:00:00:00:02"}),
    "bluetooth:hci0": lambda h: h.write("/sys/class/bluetooth/hci0/uevent", ""),
    "card:eth1": lambda h: h.card("eth1", "pci0/0000:05:00.0", {"address": "02:00:00:00:00:03", "carrier": "1"}),
    "virtual:br0": lambda h: h.card("br0", None, {"address": MAC, "flags": "0x1003", "uevent": "DEVTYPE=bridge\n"}),
    "virtual:wg0": lambda h: h.card("wg0", None, {"address": "", "flags": "0x91", "uevent": "DEVTYPE=wireguard\n"}),
    "virtual:tun0": lambda h: h.card("tun0", None, {"address": "", "flags": "0x1051", "uevent": ""}),
    "bmc:ipmi": lambda h: h.write("/sys/firmware/dmi/entries/38-0/type", "38"),
    "containers:dockerd": lambda h: h.write("/proc/812/comm", "dockerd\n"),
    "containers:conmon": lambda h: h.write("/proc/813/comm", "conmon\n"),
    "forwarding:ipv4": lambda h: h.write("/proc/sys/net/ipv4/ip_forward", "1\n"),
    "forwarding:ipv6": lambda h: h.write("/proc/sys/net/ipv6/conf/all/forwarding", "1\n"),
}
HARMLESS: list[Callable[[FakeHost], object]] = [
    lambda h: h.card("eth1", "pci0/0000:05:00.0", {"address": "02:00:00:00:00:03", "carrier": "0"}),
    lambda h: h.card("sit0", None, {"address": "", "flags": "0x80"}),
    lambda h: h.write("/sys/class/net/bonding_masters", "\n"),
    lambda h: h.write("/proc/814/comm", "docker-fan\n"),
]


def test_every_other_way_out_is_named_in_one_list(host: FakeHost) -> None:
    for add in WAYS.values():
        add(host)
    found = look(host.case())
    assert set(found) == set(WAYS)
    assert all(finding.stops and "accept it by name" in finding.remedy for finding in found.values())
    host.site["accept"] = [{"what": name, "reason": "seen, and wanted"} for name in WAYS]
    assert [finding.what for finding in look(host.case()).values() if finding.stops] == []


def test_the_host_contract_lists_every_kind() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/host-contract.md").read_text()
    listed = set(re.findall(r"`([a-z-]+):[A-Za-z0-9]+`", page))
    assert listed == {name.partition(":")[0] for name in WAYS}


def test_a_management_controller_is_one_finding_however_it_shows(host: FakeHost) -> None:
    host.write("/sys/class/ipmi/ipmi0/uevent", "")
    host.write("/dev/ipmi0", "")
    host.write("/sys/firmware/dmi/entries/38-0/type", "38")
    assert set(look(host.case())) == {"bmc:ipmi"}


def test_what_leads_nowhere_is_no_way_out(host: FakeHost) -> None:
    for add in HARMLESS:
        add(host)
    assert look(host.case()) == {}


def test_an_accepted_way_out_is_a_warning_with_its_reason(host: FakeHost) -> None:
    WAYS["bmc:ipmi"](host)
    WAYS["card:eth1"](host)
    reason = "management network of its own, see plan 7"
    host.site["accept"] = [{"what": "bmc:ipmi", "reason": reason}, {"what": "modem:wwan0", "reason": "long gone"}]
    found = look(host.case())
    assert {what: finding.stops for what, finding in found.items()} == {
        "bmc:ipmi": False, "card:eth1": True, "modem:wwan0": False,
    }  # fmt: skip
    assert reason in found["bmc:ipmi"].remedy
    assert "not there" in found["modem:wwan0"].found


@pytest.mark.parametrize("entries", [
    [{"what": "everything", "reason": "I do not like findings"}],
    [{"what": "bmc:*", "reason": "I do not like findings"}],
    [{"what": "bmc:ipmi", "reason": ""}],
    [{"what": "bmc:ipmi"}],
    [{"what": "bmc:ipmi", "reason": "because of plan 7"}] * 2,
])  # fmt: skip
def test_what_cannot_be_accepted(host: FakeHost, entries: list[dict[str, str]]) -> None:
    host.site["accept"] = entries
    with pytest.raises(InputInvalid, match="accept"):
        host.case()


def test_the_card_of_a_diode_is_no_way_out_and_has_to_be_there(host: FakeHost) -> None:
    receiver = {"address": "10.9.0.2", "mac": "02:00:00:00:09:02"}
    host.site["diode"] = {"interface": "eth1", "address": "10.9.0.1", "receiver": receiver}
    assert "eth0" in look(host.case())["diode.interface"].found
    WAYS["card:eth1"](host)
    assert look(host.case()) == {}
    host.card("eth2", "pci0/0000:06:00.0", {"address": "02:00:00:00:00:04", "carrier": "1"})
    assert set(look(host.case())) == {"card:eth2"}
    host.site["diode"]["interface"] = "eth0"
    assert "diode.interface" in look(host.case())


@pytest.mark.parametrize("port", [22, 443])
def test_an_occupied_port_is_named_with_who_holds_it(host: FakeHost, port: int) -> None:
    case = host.case()

    def listen_and_look() -> list[Finding]:
        with socket.create_server(("0.0.0.0", port)):
            return preflight(case)

    (finding,) = in_own_network(listen_and_look)
    assert finding.what == f"port {port}"
    assert "py" in finding.found
    assert in_own_network(lambda: preflight(case)) == []


def test_an_address_on_another_card_is_named(host: FakeHost) -> None:
    case = host.case()

    def take_and_look() -> list[Finding]:
        subprocess.run(["ip", "address", "add", "192.0.2.15/24", "dev", "lo"], check=True)
        return preflight(case)

    (finding,) = in_own_network(take_and_look)
    assert (finding.what, finding.found) == ("address 192.0.2.15", "on lo")


def many(host: FakeHost) -> Iterator[Finding]:
    """One of everything at once."""
    for add in (wrong_system, wrong_serial, secrets, *WAYS.values()):
        add(host)
    yield from look(clock_two_years_behind(host)).values()


def test_everything_wrong_is_one_list(host: FakeHost) -> None:
    found = list(many(host))
    with pytest.raises(PreflightFailed) as refused:
        require(found)
    words = " ".join(refused.value.message.split())
    assert f"{len(found)} findings, 0 warnings" in words
    lines = refused.value.message.splitlines()
    assert max(map(len, lines)) <= 78
    for name in ("clock", "process 1", "bookworm", "SYSTEMDISK1", "mode 0644"):
        assert name in words


def test_warnings_do_not_stop_and_come_last() -> None:
    warning = Finding("clock", "a", "b", "c", stops=False)
    require([warning])
    lines = render([warning, Finding("disk", "a", "b", "c")]).split()
    assert lines.index("disk") < lines.index("warning:")


def test_a_dry_run_tells_programs_and_people_the_same(host: FakeHost, tmp_path: Path) -> None:
    """The real command, a signed bundle, and this machine, which is no bare Debian 13 with a blank disk."""
    made = make(tmp_path / "made")
    host.site["service"]["models"] = ["words", "another"]
    host.case()  # writes the site file
    argv: list[str | Path] = [
        "install",
        made.folder,
        "--models",
        made.folder / "sealed/data/models",
        "--fingerprint",
        made.fingerprint,
    ]
    argv += ["--site", host.site_folder / "site.yml", "--minimum-version", "1", "--dry-run", "--json"]
    before = Path("/var/lib/airgap/state.json").exists()
    apart = ["unshare", "--mount", "--net", "sh", "-c", 'mount -t tmpfs tmpfs /run; exec "$@"', "sh"]
    done = subprocess.run([*apart, AIRGAP, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == PreflightFailed.exit_code, done.stderr
    said = json.loads(done.stdout)
    assert said["schema"] == "airgap.install-plan/1"
    assert any(line.startswith("firewall") for line in said["plan"])
    found = {finding["what"]: finding for finding in said["findings"]}
    assert {f"data disk {SERIAL}", "network.interface_mac", "service.models"} <= set(found)
    assert set(found["service.models"]) == {"what", "expected", "found", "remedy", "stops"}
    assert f"{sum(finding['stops'] for finding in found.values())} findings" in done.stderr
    assert all(len(line) <= 80 for line in done.stderr.splitlines())
    assert all(finding["remedy"].split()[0] in done.stderr for finding in found.values())
    assert Path("/var/lib/airgap/state.json").exists() == before
