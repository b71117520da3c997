"""Two bare hosts from a laptop: keys, carrying, kills, and a table; in containers with real sshd and systemd.

Everything up to `airgap install` is real: ssh, carrying, the hosts' own packages, `start`, openssl, the private
Python. What stands in is the installer's wheel, because a container has no device mapper; `test_fleet.py` installs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bundler.manifest.lock import load_lock
from tests.bundles import PAYLOAD, make
from tests.carried import lay_down
from tests.containers import Container, bare
from tests.vm import path
from tests.vm.hosts import load_hosts
from tests.vm.images import client_key
from tests.vm.sitefiles import site_yml

MODEL = "data/models/words.gguf"
CARRIED = "/var/lib/airgap/carried"
#: Holds while /run/hold is there; fails for a site without its disk, as preflight does; else leaves what success does.
INSTALLER = """
import base64, hashlib, json, os, pathlib, shutil, sys, time
def main():
    release, site = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[sys.argv.index("--site") + 1])
    models = pathlib.Path(sys.argv[sys.argv.index("--models") + 1])
    open("/run/count", "a").write("one run\\n")
    print("==> stand-in", hashlib.sha256((models / "words.gguf").read_bytes()).hexdigest(), file=sys.stderr, flush=True)
    while os.path.exists("/run/hold"):
        time.sleep(0.1)
    if "NODISK" in site.read_text():
        print("data disk NODISK: expected one disk, found 0 disks", file=sys.stderr)
        sys.exit(23)
    root = base64.b64encode((release / "carrier/trust/1.root.json").read_bytes()).decode()
    pinned = sys.argv[sys.argv.index("--fingerprint") + 1]
    state = {"root_fingerprint": pinned, "root_fingerprints": [pinned], "root": root, "channel": "test", "version": 1,
             "security_epoch": 1, "release": release.name, "schema_version": 1}
    os.makedirs("/etc/airgap", exist_ok=True)
    pathlib.Path("/var/lib/airgap/state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
    shutil.copyfile(site, "/etc/airgap/site.yml")
"""


@dataclass
class Site:
    """Two hosts, what is carried to them, and the laptop's files."""

    work: Path
    folder: Path
    fingerprint: str
    start_digest: str
    hosts: dict[str, Container]

    def inventory(self, *extra: str) -> Path:
        """An inventory; lines are added to the first host."""
        text = "schema_version: 1\nserial: 2\nhosts:\n"
        for name, host in self.hosts.items():
            site = site_yml(load_hosts()["appliance"]).replace("name: appliance-01", f"name: {name}")
            if name == "broken":
                site = site.replace("AIRGAPDATA01", "NODISK")
            (self.work / f"{name}.yml").write_text(site)
            text += f"  - name: {name}\n    address: {host.address}\n    key: {client_key()}\n    site: {name}.yml\n"
            text += "".join(f"    {line}\n" for line in extra if name == "good")
        file = self.work / "hosts.inventory"
        file.write_text(text)
        return file

    def command(self, *options: str | Path) -> list[str]:
        """The laptop's command."""
        return [
            str(path.AIRGAP), "install", str(self.folder), "-i", str(self.work / "hosts.inventory"),
            "--fingerprint", self.fingerprint, "--start-digest", self.start_digest,
            "--known-hosts", str(self.work / "known_hosts"), "--minimum-version", "1", *map(str, options),
        ]  # fmt: skip

    def run(self, *options: str | Path) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
        """Run it to its end; returns the rows by host."""
        done = subprocess.run(
            self.command("--json", *options), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
        )
        assert done.stdout, done.stderr
        return {row["name"]: row for row in json.loads(done.stdout)["hosts"]}, done

    def pin(self) -> None:
        """Pin the keys that the hosts' consoles show."""
        lines = [f"{host.address} {_public_key(host)}\n" for host in self.hosts.values()]
        file = self.work / "known_hosts"
        file.touch(0o600)
        file.write_text("".join(lines))

    def lying_at(self, name: str) -> Path:
        """What a host wrote below the folder of what is carried, seen from the builder."""
        return self.hosts[name].folder / "upper" / CARRIED.lstrip("/") / "cargo"


@pytest.fixture(scope="module")
def site(bundled: path.Walk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A bundle to carry, and two bare hosts."""
    work = tmp_path_factory.mktemp("laptop")
    folder, fingerprint, digest = _staged(bundled, work)
    hosts = {
        "good": Container("good", bare(), link="10.99.11.0/30"),
        "broken": Container("broken", bare(), link="10.99.12.0/30"),
    }
    with hosts["good"], hosts["broken"]:
        for host in hosts.values():
            _new_key(host)
        yield Site(work, folder, fingerprint, digest, hosts)


def _staged(bundled: path.Walk, work: Path, profile: str = "p384") -> tuple[Path, str, str]:
    """A small signed bundle with the real packages of partition 1, laid down; its fingerprint, and start's digest."""
    debs = tuple(deb for deb in load_lock(bundled.work / "demo.lock.json").debs if "bootstrap" in deb.uses)
    wheel = _wheel()
    payload = PAYLOAD | {MODEL: random.Random(3).randbytes((96 << 20) + 5)}
    payload["data/wheels/airgap-0-py3-none-any.whl"] = wheel
    payload["data/wheels/control.txt"] = f"airgap==0 --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n".encode()
    sealed = bundled.bundle / "sealed"
    (pip,) = sealed.glob("data/wheels/pip-*.whl")
    for name in (f"data/wheels/{pip.name}", *(f"data/apt/{deb.archive}/{deb.path}" for deb in debs)):
        payload[name] = (sealed / name).read_bytes()
    made = make(work / "made", payload, debs, profile)
    folder, digest = lay_down(made.folder, made.fingerprint, work / "carry")
    shutil.rmtree(made.folder)
    return folder, made.fingerprint, digest


def test_ssh_keys_are_shown_pinned_and_a_changed_one_refused(site: Site) -> None:
    shown = {name: _fingerprint(host) for name, host in site.hosts.items()}
    pins = site.work / "known_hosts"

    # Without a terminal nobody vouches: refused, the fingerprint said, nothing sent.
    site.inventory()
    rows, done = site.run()
    assert done.returncode == 16
    for name, row in rows.items():
        assert (row["exit_code"], row["stage"], row["host_key"]) == (16, "key", shown[name])
        assert shown[name] in done.stderr
        assert not site.lying_at(name).exists()

    # At a terminal a person says yes to one and no to the other; a rehearsal pins nothing.
    assert _answer(site.command("--dry-run"), b"y\nn\n") == 16
    assert not pins.exists()
    # What the inventory says of a key counts as well, both ways.
    site.inventory(f"host_key: {shown['broken']}")
    rows, _ = site.run("--dry-run")
    assert rows["good"]["exit_code"] == 16
    assert shown["broken"] in rows["good"]["message"] and shown["good"] in rows["good"]["message"]
    site.inventory(f"host_key: {shown['good']}")
    rows, _ = site.run("--dry-run")
    assert (rows["good"]["exit_code"], rows["good"]["stage"]) == (0, "facts")

    # Pinned, then changed: refused with both fingerprints; the other host goes on.
    site.pin()
    before = pins.read_bytes()
    _new_key(site.hosts["broken"])
    site.inventory()
    rows, done = site.run("--dry-run")
    assert done.returncode == 16
    assert rows["broken"]["exit_code"] == 16
    assert shown["broken"] in rows["broken"]["message"]
    assert _fingerprint(site.hosts["broken"]) in rows["broken"]["message"]
    assert rows["good"]["exit_code"] == 0
    assert pins.read_bytes() == before

    # A server with nothing but an RSA key is not spoken to.
    rsa = "ssh-keygen -q -t rsa -b 3072 -N '' -f /root/rsa && /usr/sbin/sshd -p 2022 -h /root/rsa -o PidFile=none"
    site.hosts["good"].run(rsa)
    site.inventory("port: 2022")
    rows, _ = site.run("--dry-run")
    assert rows["good"]["exit_code"] == 40
    assert "ssh-ed25519" in rows["good"]["message"]


def test_carried_killed_mended_installed_and_one_host_broken(site: Site) -> None:
    site.inventory()
    site.pin()
    good, broken = site.hosts["good"], site.hosts["broken"]
    total = sum(p.stat().st_size for p in site.folder.rglob("*") if p.is_file())
    model = site.lying_at("good") / "bundle/sealed" / MODEL

    # Killed in the middle of the model.
    laptop = _start(site.command())
    _wait_until(lambda: model.exists() and model.stat().st_size > 20 << 20, laptop)
    laptop.kill()
    laptop.wait()
    there = model.stat().st_size
    assert there < 96 << 20
    time.sleep(1)  # the far end's sftp server ends
    # Meanwhile one byte of what lies there turns, and a file comes that nobody signed.
    good.run(f"printf X | dd of={CARRIED}/cargo/bundle/sealed/{MODEL} bs=1 seek=5000000 conv=notrunc status=none")
    good.run(f"echo evil >{CARRIED}/cargo/bundle/sealed/data/models/evil.gguf; echo 'exit 1' >{CARRIED}/cargo/start")

    # Again: only what is missing or differs goes; while the installer is held, the operator stops the laptop.
    good.run("touch /run/hold")
    laptop = _start(site.command("--json"))
    said = _read_until(laptop, "good: stand-in")
    laptop.send_signal(signal.SIGINT)
    assert laptop.wait(timeout=20) == 130
    assert hashlib.sha256((site.folder / "sealed" / MODEL).read_bytes()).hexdigest() in said
    invocation = good.run("systemctl show --property=InvocationID --value airgap-install").text
    assert good.run("systemctl is-active airgap-install").text == "active"

    # Again: it joins the run that went on, and the host without its disk tells what is wrong.
    laptop = _start(site.command("--json"))
    said = _read_until(laptop, "good: stand-in")
    assert good.run("systemctl show --property=InvocationID --value airgap-install").text == invocation
    good.run('for p in /proc/[0-9]*; do [ "$(cat $p/comm)" != sshd-session ] || kill ${p#/proc/}; done', check=False)
    said += _read_until(laptop, "good: connection lost")
    good.run("rm /run/hold")
    output, rest = laptop.communicate(timeout=600)
    rows = {row["name"]: row for row in json.loads(output)["hosts"]}
    assert laptop.returncode == 23, said + rest
    assert (rows["good"]["result"], rows["good"]["stage"], rows["good"]["carried_bytes"]) == ("installed", "done", 0)
    assert (rows["broken"]["result"], rows["broken"]["stage"]) == ("exit 23", "install")
    assert rows["broken"]["message"] == "data disk NODISK: expected one disk, found 0 disks"
    assert good.run("wc -l </run/count").text == "1"
    assert good.run(f"ls {CARRIED}").text.split() == ["log", "result"]

    # Every byte at the broken host is what was staged; the good one is left alone from now on; the table is narrow.
    sums = "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(site.folder)}\n"
        for p in sorted(site.folder.rglob("*")) if p.is_file() and p.name != "start" and p.parent.name != "audit"
    )  # fmt: skip
    broken.run(f"cd {CARRIED}/cargo/bundle && sha256sum --check --strict --quiet", stdin=sums.encode())
    done = subprocess.run(site.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    print(done.stdout)
    assert done.returncode == 23
    table = done.stdout.split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= 80
    assert [line.split()[0] for line in table] == ["host", "good", "broken"]
    assert table[1].split()[3:7] == ["0.0", "MB", "done", "unchanged"]
    assert table[2].split()[3:8] == ["0.0", "MB", "install", "exit", "23"]
    assert good.run("wc -l </run/count").text == "1"

    # Resumed, not begun again: what went over the wire in all is little more than the bundle.
    received = int((Path("/sys/class/net") / f"air-{good.name}" / "statistics/tx_bytes").read_text())
    assert received < total * 1.15, (received, total)


def test_a_host_with_a_release_judges_by_its_own_root_and_verifier(site: Site) -> None:
    host = site.hosts["broken"]
    site.inventory()
    site.pin()
    state = {"root_fingerprint": "0" * 64, "channel": "test", "version": 1, "security_epoch": 1, "release": "old-1"}
    host.put(json.dumps(state, indent=1).encode(), "/var/lib/airgap/state.json")
    rows, _ = site.run("--dry-run")
    assert rows["broken"]["exit_code"] == 14
    assert "0" * 64 in rows["broken"]["message"]
    assert site.fingerprint in rows["broken"]["message"]

    # The right root, and an installed verifier that says no: nothing of the new release runs.
    host.run("rm -f /run/count")
    state["root_fingerprint"] = site.fingerprint
    host.put(json.dumps(state, indent=1).encode(), "/var/lib/airgap/state.json")
    host.run("mkdir -p /opt/airgap/current/venv/bin")
    verifier = b'#!/bin/sh\necho "$@" >/run/verified\nexit 12\n'
    host.put(verifier, "/opt/airgap/current/venv/bin/airgap", 0o755)
    rows, done = site.run()
    assert done.returncode == rows["broken"]["exit_code"] == 12
    assert host.run("cat /run/verified").text == (
        f"verify {CARRIED}/cargo/bundle --as-host --fingerprint {site.fingerprint} --minimum-version 1"
    )
    assert host.run("test -e /run/count", check=False).rc == 1


@pytest.mark.parametrize("profile", ["p384", "cnsa"])
def test_a_laptop_gets_a_folder_that_stands_for_the_medium(
    bundled: path.Walk, site: Site, tmp_path: Path, profile: str
) -> None:
    """With `cnsa` the openssl that judges ML-DSA is the one that the medium itself brought."""
    folder, fingerprint, start_digest = (site.folder, site.fingerprint, site.start_digest)
    if profile != "p384":
        folder, fingerprint, start_digest = _staged(bundled, tmp_path, profile)
    with Container("laptop", bare(), {"/mnt": folder}) as laptop:
        laptop.run("install -D -m 0700 /mnt/start /root/airgap/start")
        command = "sh /root/airgap/start /mnt --stage /srv/carry"
        done = laptop.run(command, stdin=f"{fingerprint}\n".encode())
        assert f"--start-digest {start_digest}" in done.text
        assert laptop.run("diff -r /mnt /srv/carry").text == ""
        assert laptop.run("ls /opt/airgap").text == "releases"
        assert laptop.run("ls -A /var/lib/airgap /etc/airgap /run/count", check=False).stdout == b"/var/lib/airgap:\n"
        again = laptop.run(command, stdin=f"{fingerprint}\n".encode(), check=False)
        assert again.rc == 20
        # And it starts from there, as it would from a medium.
        site_text = site_yml(load_hosts()["appliance"]).replace("AIRGAPDATA01", "NODISK")
        laptop.put(site_text.encode(), "/root/site.yml")
        from_folder = "sh /root/airgap/start /srv/carry --site /root/site.yml --minimum-version 1"
        done = laptop.run(from_folder, stdin=f"{fingerprint}\n".encode(), check=False)
        assert (done.rc, laptop.run("wc -l </run/count").text) == (23, "1")


def _new_key(host: Container) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    host.run(f"rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f {key} && systemctl restart ssh")


def _public_key(host: Container) -> str:
    return " ".join(host.run("cat /etc/ssh/ssh_host_ed25519_key.pub").text.split()[:2])


def _fingerprint(host: Container) -> str:
    return host.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").text.split()[1]


def _answer(command: list[str], typed: bytes) -> int:
    """Run the laptop's command at a terminal; returns its exit status."""
    terminal, inside = pty.openpty()
    try:
        os.write(terminal, typed)
        return subprocess.run(command, stdin=inside, capture_output=True, timeout=600).returncode
    finally:
        os.close(terminal)
        os.close(inside)


def _start(command: list[str]) -> subprocess.Popen[str]:
    # As from a terminal: whoever runs the tests in the background has SIGINT ignored, and children inherit that.
    command = ["env", "--default-signal=INT", *command]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if text in line:
            return said
    raise AssertionError(f"never said {text!r}:\n{said}")


def _wait_until(done: Any, process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 300
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def _wheel() -> bytes:
    """The stand-in for this project's wheel."""
    info = "airgap-0.dist-info"
    files = {
        "standin.py": INSTALLER,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: airgap\nVersion: 0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nairgap = standin:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    return content.getvalue()
