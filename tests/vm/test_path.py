"""What the walk left: an appliance that answers and reaches nothing, looked at from inside and from its wire."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from tests.vm import demo, path
from tests.vm.conftest import Walked
from tests.vm.packets import conversations
from tests.vm.sitefiles import DATA_KEY

OPERATOR = "10.0.2.2"


@pytest.fixture(scope="module")
def host(walked: Walked) -> Any:
    """testinfra's view of the appliance."""
    return walked.machine.testinfra_host()


def test_the_model_answers_and_the_same_after_a_reboot(walked: Walked) -> None:
    assert "network" in walked.first.lower()
    assert walked.first == walked.second


def test_the_demos_screen_says_yes(walked: Walked) -> None:
    checks = demo.proven(walked.walk, walked.machine, walked.first, walked.second)
    assert all(checks.values()), checks
    shown = demo.screen(walked.walk, checks, walked.second)
    assert "NO " not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_burn_refuses_the_system_disk_and_a_wrong_serial(walked: Walked) -> None:
    facts = walked.walk.facts
    assert facts["burn refuses system disk"].startswith("22 ")
    assert "/dev/vda" in facts["burn refuses system disk"]
    assert facts["burn refuses wrong serial"].startswith("22 ")
    assert "expected serial 'WRONG', found 'AIRGAPMEDIUM1'" in facts["burn refuses wrong serial"]


def test_the_fresh_host_had_what_the_install_removed(walked: Walked) -> None:
    before = walked.walk.facts["default routes before"]
    assert "via 10.0.2.2" in before
    assert "proto ra" in before


def test_no_default_route_even_after_a_router_calls(walked: Walked) -> None:
    assert path.default_routes(walked.machine) == ""
    path.offer_route(walked.machine)
    assert path.default_routes(walked.machine) == ""
    assert "2001:db8" not in walked.machine.run("ip -6 addr; ip -6 route show table all").text


def test_no_way_out(host: Any) -> None:
    assert host.run("ip route get 192.0.2.1").rc != 0
    assert host.run("timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'").rc != 0
    # Even with a route the filters hold.
    host.run_expect([0], "ip route add 192.0.2.0/24 via 10.0.2.2")
    try:
        assert host.run("timeout 5 bash -c 'exec 3<>/dev/tcp/192.0.2.1/80'").rc != 0
        assert host.run("timeout 5 bash -c 'echo x >/dev/udp/192.0.2.1/53'").rc != 0
    finally:
        host.run_expect([0], "ip route del 192.0.2.0/24 via 10.0.2.2")
    resolv = host.run("grep -s '^nameserver' /etc/resolv.conf")
    assert resolv.stdout == ""


def test_explicit_routes_are_there(host: Any) -> None:
    assert "172.20.0.0/16 via 10.0.2.2" in host.check_output("ip -4 route")
    assert host.check_output("ip -6 addr show scope link") == ""


def test_own_table_drops_in_out_and_forward(host: Any) -> None:
    ruleset = json.loads(host.check_output("nft --json list ruleset"))["nftables"]
    policies = {
        (chain["family"], chain["hook"]): chain["policy"]
        for chain in (entry["chain"] for entry in ruleset if "chain" in entry)
        if chain["table"] == "airgap" and "hook" in chain
    }
    for hook in ("input", "output", "forward"):
        assert policies[("inet", hook)] == "drop"


def test_ufw_is_active_and_denies_both_ways(host: Any) -> None:
    said = host.check_output("ufw status verbose")
    assert "Status: active" in said
    assert "deny (incoming), deny (outgoing)" in said


def test_own_table_outlives_a_stopped_ufw(host: Any) -> None:
    host.run_expect([0], "ufw disable")
    try:
        ruleset = host.check_output("nft list table inet airgap")
        assert ruleset.count("policy drop") >= 3
    finally:
        host.run_expect([0], "ufw --force enable")


def test_ipv6_leaks_of_ufws_defaults_are_closed(walked: Walked, host: Any) -> None:
    assert host.run("timeout 5 bash -c 'exec 3<>/dev/tcp/2001:db8::1/80'").rc != 0


def test_nothing_but_the_operator_was_on_the_wire(walked: Walked) -> None:
    strange = []
    for talk in conversations(walked.pcaps):
        ends = {(talk.src, talk.sport), (talk.dst, talk.dport)}
        operator_talk = talk.proto == "tcp" and {OPERATOR, "10.0.2.15"} == {talk.src, talk.dst}
        if operator_talk and any(("10.0.2.15", port) in ends for port in (22, 443)):
            continue
        if talk.ethertype == "arp" and ("10.0.2.2" in talk.kind or "10.0.2.15" in talk.kind):
            continue
        if talk.kind == "router-advertisement":  # what the tests sent at it
            continue
        strange.append(talk)
    assert strange == []


def test_data_volume_is_luks2_and_was_closed_while_locked(walked: Walked, host: Any) -> None:
    disk = host.check_output("readlink -f /dev/disk/by-id/virtio-AIRGAPDATA01")
    assert "Version:       \t2" in host.check_output(f"cryptsetup luksDump {disk}")
    assert "aes-xts-plain64" in host.check_output(f"cryptsetup luksDump {disk}")
    assert "airgap-data" not in walked.walk.facts["mapper while locked"]
    mount = host.check_output("findmnt -no SOURCE,OPTIONS /srv/airgap")
    assert "/dev/mapper/airgap-data" in mount
    assert all(option in mount for option in ("nosuid", "nodev", "noexec"))


def test_locked_host_boots_soon_and_says_503(walked: Walked) -> None:
    facts = walked.walk.facts
    assert path.soon(walked.walk), walked.walk.seconds
    assert facts["status while locked"] == "503"
    assert facts["failed units while locked"] == ""


def test_a_planted_python_module_does_not_run(host: Any) -> None:
    planted = "/run/planted"
    host.run_expect([0], f'mkdir {planted}; echo \'open("{planted}/mark", "w")\' >{planted}/sitecustomize.py')
    try:
        host.run_expect([0], f"PYTHONPATH={planted} airgap --version")
        assert not host.file(f"{planted}/mark").exists
        host.run_expect([0], f"PYTHONPATH={planted} python3 -c pass")  # whom it works on
        assert host.file(f"{planted}/mark").exists
    finally:
        host.run_expect([0], f"rm -r {planted}")


def test_no_unit_failed(host: Any) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


def test_tls_1_3_is_spoken_and_1_2_refused(walked: Walked) -> None:
    assert path.request(walked.walk, walked.machine, "/v1/models")[0] == 200
    with pytest.raises(ssl.SSLError):
        path.request(walked.walk, walked.machine, "/v1/models", maximum=ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize(("route", "key", "status"), [
    ("/v1/models", "wrong", 401), ("/v1/models", "", 401), ("/", None, 404), ("/metrics", None, 404),
    ("/v1/../metrics", None, 404),
])  # fmt: skip
def test_strangers_and_strange_paths_are_refused(walked: Walked, route: str, key: str | None, status: int) -> None:
    assert path.request(walked.walk, walked.machine, route, key=key)[0] == status


def test_nothing_but_ssh_and_https_listens_beyond_the_loopback(host: Any) -> None:
    listening = host.check_output("ss -H -lntu").splitlines()
    outside = {line.split()[4] for line in listening if not line.split()[4].startswith(("127.", "[::1]"))}
    assert all(place.rsplit(":", 1)[1] in ("22", "443") for place in outside), outside


def test_swap_and_core_dumps_are_off(host: Any) -> None:
    assert host.check_output("swapon --show") == ""
    assert "core" not in host.check_output("sysctl -n kernel.core_pattern").replace("/bin/false", "")


def test_status_is_ok_on_every_line(walked: Walked) -> None:
    said = json.loads(walked.machine.run("airgap status --json", check=False).stdout)
    assert [line for line in said["lines"] if line["verdict"] != "ok"] == []


def test_hints_name_pages_that_are_there(walked: Walked) -> None:
    install = f"airgap install /opt/airgap/current --fingerprint {'0' * 64} --site /etc/hostname"
    done = walked.machine.run(install, check=False)
    page = done.stderr.decode().split("next: ")[1].split()[0]
    assert page.endswith("/share/doc/airgap/reference/site-file.md")
    assert "storage.passphrase" in walked.machine.get(page).decode()


def test_the_hosts_ledger_tells_how_the_release_came(walked: Walked) -> None:
    events = json.loads(walked.machine.run("airgap ledger show --json").stdout)["events"]
    assert [event["event"] for event in events if event["event"] != "clock set"][:5] == [
        "begun", "received", "verified", "policy changed", "installed",
    ]  # fmt: skip
    received = next(event for event in events if event["event"] == "received")
    assert received["details"] == {"source": path.MEDIUM_SERIAL}


def test_what_goes_to_a_helper_names_nothing_of_the_site(walked: Walked) -> None:
    text = walked.machine.run("airgap support --dry-run", timeout_s=300).stdout.decode()
    assert "POST /v1/chat/completions 200" in text
    needles = [secret.strip().splitlines()[1 if "BEGIN" in secret else 0] for secret in walked.walk.secrets.values()]
    needles += ["10.0.2.15", OPERATOR, "52:54:00:a1:00:01", "AIRGAPDATA01", "appliance-01", "site.example"]
    assert [needle for needle in needles if needle in text] == []


def test_unlock_with_a_wrong_passphrase_is_refused(walked: Walked) -> None:
    walked.machine.run("systemctl stop srv-airgap.mount && cryptsetup close airgap-data")
    wrong = walked.machine.run("airgap unlock", stdin=b"wrong wrong wrong", check=False)
    assert wrong.rc == 24
    assert "Traceback" not in wrong.stderr.decode()
    unlock(walked)
    assert path.ask(walked.walk, walked.machine) == walked.first


def unlock(walked: Walked) -> None:
    """As the operator does, without a terminal."""
    walked.machine.run("airgap unlock", stdin=walked.walk.secrets[DATA_KEY].encode())


@contextlib.contextmanager
def failing(walked: Walked, host: Any) -> Iterator[None]:
    """Every block of the volume fails (dm-error) while the service runs; then the disk is well again."""
    sectors = host.check_output("blockdev --getsz /dev/mapper/airgap-data")
    # As from a disk that fails: udev, which would tell systemd to unmount what it cannot read, does not look.
    host.run_expect([0], "udevadm control --stop-exec-queue")
    host.run_expect([0], f"dmsetup load airgap-data --table '0 {sectors} error'")
    host.run_expect([0], "dmsetup suspend --noflush --nolockfs airgap-data")
    host.run_expect([0], "dmsetup resume --noudevsync airgap-data")
    try:
        yield
    finally:
        host.run("systemctl stop srv-airgap.mount")
        host.run_expect([0], "dmsetup remove --retry --noudevsync airgap-data && udevadm control --start-exec-queue")
        unlock(walked)


def audited(walked: Walked) -> dict[str, Any]:
    """What `airgap audit verify` finds."""
    found: dict[str, Any] = json.loads(walked.machine.run("airgap audit verify --json", timeout_s=300).stdout)
    return found


def test_while_the_data_disk_fails_nobody_is_answered_and_no_record_is_lost(walked: Walked, host: Any) -> None:
    path.ask(walked.walk, walked.machine)
    before = audited(walked)
    body = {"model": "airgap-words", "messages": [{"role": "user", "content": "Who answers without a record?"}]}
    with failing(walked, host):
        for number in range(10):
            status, answer = path.request(walked.walk, walked.machine, "/v1/chat/completions", body)
            assert (status, answer["error"]["code"]) == (503, "no_record"), answer
            told = json.loads(walked.machine.run("airgap status --json", check=False).text)
            (line,) = (line for line in told["lines"] if line["what"] == "file system")
            # ext4 counts an error when something is begun after its journal was given up.
            if number >= 2 and line["verdict"] == "bad":
                break
        assert "errors since its last repair" in line["found"]
    assert path.ask(walked.walk, walked.machine) == walked.first
    after = audited(walked)
    assert after["intact"]
    assert after["entries"] > before["entries"]
    assert after["admitted"] == before["admitted"] + 1


def test_no_secret_was_seen_anywhere(walked: Walked) -> None:
    """In what `ps` shows, in logs and transcripts, and in every file that others may read."""
    needles = {name: secret.strip().splitlines()[1 if "BEGIN" in secret else 0] for name, secret in
               walked.walk.secrets.items()}  # fmt: skip
    assert len(walked.walk.said["processes before the reboot"]) > 10_000
    assert "ansible-playbook" in walked.walk.said["processes before the reboot"]
    for where, text in walked.walk.said.items():
        seen = [name for name, secret in needles.items() if secret in text]
        assert seen == [], f"{where} shows {seen}"
    patterns = "".join(f"{secret}\n" for secret in needles.values()).encode()
    world = "find / -xdev -type f -perm -o=r -newer /etc/machine-id -size -64M -not -path '/proc/*' -print0"
    command = f"cat >/run/needles; chmod 600 /run/needles; {world} | xargs -0r grep -lFf /run/needles; rm /run/needles"
    assert walked.machine.run(command, stdin=patterns, timeout_s=900, check=False).text == ""
    logs = "{ journalctl --no-pager; cat /var/log/airgap/*.log /var/log/nginx/*.log; } 2>/dev/null"
    said = walked.machine.run(logs, timeout_s=300, check=False).stdout.decode(errors="replace")
    assert "airgap" in said
    assert [name for name, secret in needles.items() if secret in said] == []


def test_ansible_stayed_within_its_budget(walked: Walked) -> None:
    line = next(text for text in walked.walk.said["start"].splitlines() if "module executions" in text)
    assert int(line.split()[1]) <= 90, line


@pytest.mark.nightly  # five minutes; in containers every role runs twice (make molecule)
def test_a_second_run_changes_nothing(walked: Walked) -> None:
    path.bring_site(walked.walk, walked.machine)  # the secrets went with the reboot
    release = walked.machine.run("readlink -f /opt/airgap/current").text.strip()
    command = f"airgap install {release} --site /root/site/site.yml --fingerprint {walked.walk.fingerprint} --json"
    said = json.loads(walked.machine.run(command, timeout_s=1800).stdout)
    assert said["changed"] == 0
    assert path.ask(walked.walk, walked.machine) == walked.first
