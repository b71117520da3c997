"""`airgap status` on a whole appliance made of namespaces: what is well is ok, and each thing that is wrong shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.cli.status import render
from appliance.status import isolation
from appliance.status.line import Line, Verdict
from tests.unit.appliance import host as hosts
from tests.unit.appliance.conftest import Programs
from tests.unit.appliance.diode import wire
from tests.unit.appliance.host import AIRGAP, FINGERPRINT, Host, certificate_for, listener, new_host

pytestmark = pytest.mark.root


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with new_host(tmp_path) as made:
        yield made


def test_an_appliance_that_is_well_is_ok_on_every_line_and_fits_a_screen(host: Host) -> None:
    lines = host.status()
    assert {verdict for verdict, _ in lines.values()} == {"ok"}, lines
    assert lines["release", "root"][1].replace(" ", "") == FINGERPRINT
    assert lines["models", "words"] == ("ok", "0.00 GB, served")
    done = host.run(AIRGAP, "status")
    rows = done.stdout.splitlines()
    assert max(map(len, rows)) <= 80
    assert len(rows) <= 40
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "changes",
    [
        {
            "ip route add default via 10.83.2.2 table 77": ("isolation", "default routes", "10.83.2.2 in table 77"),
            "nft insert rule inet airgap output accept": ("isolation", "own packet filter", "not as in firewall.nft"),
            "nft chain ip6 filter OUTPUT { policy accept; }": ("isolation", "ufw", "ip6 OUTPUT"),
            "sysctl -qw net.ipv6.conf.all.forwarding=1": ("isolation", "forwarding", "ipv6"),
            "ip link add br0 up type bridge": ("isolation", "interfaces", "also up: br0"),
            "truncate -s 3 /srv/airgap/models/demo-1/words.gguf": ("models", "words", "found 3"),
            "rm /etc/airgap/gateway/tls.crt": ("tls", "not looked at", "tls.crt"),
        },
        {
            "ip -6 route add default via fd00:83::2": ("isolation", "default routes", "fd00:83::2 in table main"),
            "ip address add 10.83.2.99/24 dev card": ("isolation", "addresses", "10.83.2.99 is not the site's"),
            "nft add element inet airgap management4 { 9.9.9.9 }": ("isolation", "own packet filter", "not as in"),
            "nft delete table ip filter": ("isolation", "ufw", "ip INPUT"),
            "ln -sfn /opt/airgap/releases/demo-2 /opt/airgap/current": ("release", "not looked at", "facts.txt"),
        },
        {
            "ip route add 128.0.0.0/1 via 10.83.2.2": ("isolation", "default routes", "128.0.0.0/1"),
            f"ip address del {hosts.V6}/64 dev card": ("isolation", "addresses", f"{hosts.V6} is missing"),
            "nft delete table inet airgap": ("isolation", "own packet filter", "not loaded"),
        },
    ],
)
def test_what_is_wrong_is_bad(host: Host, changes: dict[str, tuple[str, str, str]]) -> None:
    for change in changes:
        host.run(*change.split())
    lines = host.status()
    for topic, what, found in changes.values():
        verdict, said = lines[topic, what]
        assert (verdict, found in said) == ("bad", True), said
    assert lines["drives", f"disk {hosts.SERIAL}"][0] == "ok"


def test_sockets_of_strangers_are_named(host: Host) -> None:
    with host.running(listener("tcp")), host.running(listener("packet")):
        lines = host.status()
    assert lines["isolation", "listening"][0] == "bad"
    assert lines["isolation", "listening"][1].startswith("tcp 8000 (python")
    assert lines["isolation", "packet sockets"][0] == "warning"
    assert lines["isolation", "packet sockets"][1].startswith("python")


def test_a_locked_volume_is_told_and_stops_no_other_line(host: Host) -> None:
    host.run("umount", "/srv/airgap")
    host.run("rm", "/dev/mapper/airgap-data")
    lines = host.status()
    assert lines["drives", "volume"] == ("warning", "locked: airgap unlock")
    assert lines["service", "engines, gateway"] == ("warning", "stopped while the volume is locked")
    assert lines["models", "words"][0] == "warning"
    assert {verdict for verdict, _ in lines.values()} == {"ok", "warning"}


def test_errors_that_the_file_system_has_counted_are_told(host: Host) -> None:
    assert host.status()["drives", "file system"] == ("ok", "no error")
    host.run("mount", "-t", "tmpfs", "counts", "/sys/fs/ext4")
    host.run("mkdir", "/sys/fs/ext4/airgap-data")
    for count, verdict in (("0", "ok"), ("3", "bad")):
        host.write("/sys/fs/ext4/airgap-data/errors_count", f"{count}\n")
        assert host.status()["drives", "file system"][0] == verdict
    assert "3 errors since its last repair" in host.status()["drives", "file system"][1]


def test_a_volume_that_no_longer_opens_by_itself_is_told(host: Host) -> None:
    storage = json.loads(host.run("cat", "/etc/airgap/storage.json").stdout)
    host.write("/etc/airgap/storage.json", json.dumps({**storage, "unattended": True}))
    assert host.status()["drives", "at boot"] == ("warning", "not by the TPM any more: airgap drive seal")
    host.write("/var/lib/airgap/unattended.cred", "sealed", 0o600)
    host.program("systemd-creds", "exit 1")
    assert host.status()["drives", "at boot"][0] == "warning"
    host.program("systemd-creds", '[ "$1 $2" = "decrypt --name=airgap-data" ]')
    assert host.status()["drives", "at boot"] == ("ok", "by the TPM, PCR 7")


def test_the_wire_to_a_diode_is_no_way_out_while_its_filter_stands(host: Host) -> None:
    host.run("ip", "link", "add", "diode0", "type", "veth", "peer", "name", "far0")
    host.run("ip", "link", "set", "diode0", "up")
    assert host.status()["isolation", "interfaces"] == ("bad", "also up: diode0")
    settings = {"schema_version": 1, "log": "/srv/airgap/audit", "position": "/srv/airgap/diode/position"}
    settings |= {"interface": "diode0", "address": wire.FAR, "port": wire.PORT}
    host.write("/etc/airgap/diode.json", json.dumps(settings))
    lines = host.status()
    assert lines["isolation", "interfaces"][0] == "ok"
    assert lines["isolation", "diode"] == ("bad", "not as installed: systemctl restart airgap-diode-link")
    assert lines["service", "diode"] == ("ok", "active")
    host.run("nft", "-f", "-", stdin=wire.rendered("diode.nft.j2", diode_interface="diode0"))
    assert host.status()["isolation", "diode"] == ("ok", "one flow to 10.9.0.2 by diode0, nothing in")
    host.run("nft", "add", "rule", "netdev", "airgap_diode", "in", "accept")
    assert host.status()["isolation", "diode"][0] == "bad"


def test_certificates_days_are_counted(host: Host) -> None:
    for days, verdict in ((29, "warning"), (6, "bad")):
        host.write("/etc/airgap/gateway/tls.crt", certificate_for(days))
        said = host.status()["tls", "certificate"]
        assert said == (verdict, f"CN={hosts.SERVER_NAME}: {days} days left")


def test_failed_units_a_silent_gateway_a_strange_kernel_and_another_release_show(host: Host) -> None:
    failed = hosts.answer([{"unit": "smartd.service", "load": "loaded", "active": "failed", "sub": "failed"}])
    host.program("systemctl", f'case "$1" in is-active) echo inactive;; *) {failed}\n;; esac')
    host.write("/var/lib/airgap/state.json", '{"release": "demo-0"}')
    host.write("/etc/airgap/gpu.json", '{"kernel": "6.12.0-none", "driver": "550.163.01"}')
    lines = host.status()
    assert "expected 6.12.0-none, found" in lines["gpu", "not looked at"][1]
    assert lines["units", "failed"] == ("bad", "smartd.service")
    assert lines["service", "gateway"] == ("bad", "inactive")
    assert lines["service", "audit log"] == ("bad", "inactive")
    assert lines["service", "https"] == ("bad", "inactive")
    assert lines["service", "engine words"] == ("bad", "inactive, answers")
    assert lines["release", "accepted"] == ("bad", "demo-0: the installation of demo-1 did not end")
    assert lines["release", "root"] == ("bad", "none pinned")


def test_a_clock_before_the_releases_own_time_is_bad_and_fits_a_screen(host: Host) -> None:
    facts = "/opt/airgap/releases/demo-1/sealed/facts.txt"
    host.write(facts, host.run("cat", facts).stdout.replace("epoch=1700000000", "epoch=4000000000"))
    verdict, found = host.status()["clock", "time"]
    assert verdict == "bad"
    assert found.endswith(
        "before the release's 2096-10-02 07:06 UTC: stop chrony, then timedatectl set-time (troubleshooting.md)"
    )
    assert max(map(len, host.run(AIRGAP, "status", ok=False).stdout.splitlines())) <= 80


def test_a_clock_with_sources_must_be_synchronised(host: Host) -> None:
    host.write("/etc/chrony/chrony.conf", "server 10.83.2.2 iburst\n")
    for tracking, verdict, found in (
        ("0A530202,10.83.2.2,3,1795239118.1,0.0004,0,0,1,0,0.1,0.01,0.001,64.2,Normal", "ok", "10.83.2.2, stratum 3"),
        ("00000000,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised", "warning", "not synchronised"),
        ("", "warning", "not synchronised"),
    ):
        host.program("chronyc", f"echo '{tracking}'")
        said = host.status()["clock", "kept by"]
        assert (said[0], found in said[1]) == (verdict, True), said


def test_sockets_of_every_family_are_read(programs: Callable[..., Programs]) -> None:
    rows = """\
udp UNCONN 0 0 [fe80::1]%ens2:546 [::]:* users:(("systemd-network",pid=1,fd=3))
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*
tcp LISTEN 0 128 [::1]:631 [::]:*
tcp LISTEN 0 128 *:22 *:* users:(("sshd",pid=2,fd=3))
"""
    programs("appliance.status.isolation", answers={"ss": (0, rows)})
    said = isolation._listening()
    assert (said.verdict, said.found) == (Verdict.BAD, "udp 546 (systemd-network)")


def test_of_networkd_s_packet_sockets_only_those_for_dhcp_are_told(programs: Callable[..., Programs]) -> None:
    rows = [
        'p_dgr 0 0 [2054]:ens2 * users:(("systemd-network",pid=65,fd=19))',
        'p_raw 0 0 [35020]:ens2 * users:(("systemd-network",pid=65,fd=22))',
        'p_dgr 0 0 [2048]:ens2 * users:(("systemd-network",pid=65,fd=23))',
    ]
    for given, verdict in ((rows[:2], Verdict.OK), (rows, Verdict.WARNING)):
        programs("appliance.status.isolation", answers={"ss": (0, "\n".join(given))})
        assert isolation._packet_sockets().verdict is verdict


def test_the_word_says_the_verdict_with_and_without_colour() -> None:
    lines = [Line("units", "failed", Verdict.BAD, "x " * 60)]
    plain = render(lines, colour=False)
    assert plain[0].startswith("bad      units     failed: x")
    assert all(len(row) <= 80 for row in plain) and len(plain) == 3
    assert "\x1b[31mbad" in render(lines, colour=True)[0]
