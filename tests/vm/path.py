"""The whole path, once, for real: lock, build, sign, burn, start, install, ask, reboot, unlock, ask again.

`make demo` shows it, `make test` walks it once and looks closely at what it left. Two guests take part: the
workstation, which burns the medium, and the appliance, a bare host whose card reaches nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tests.vm import execs
from tests.vm.images import Image, appliance_status, derive, image
from tests.vm.machine import Machine
from tests.vm.packets import router_advertisement
from tests.vm.qemu import Share
from tests.vm.sitefiles import DATA_KEY, SERVER_NAME, TLS_KEY, SiteFiles, make_site

ROOT = Path(__file__).parents[2]
AIRGAP = Path(sys.executable).with_name("airgap")
#: Where a run's files lie; `build/` is ignored by git.
WORK = ROOT / "build" / "path"
MEDIUM_SERIAL = "AIRGAPMEDIUM1"
QUESTION = "What is an air gap?"
ROUTER_MAC = "52:54:00:bb:00:01"
PASSPHRASES = "/run/secrets-in"
#: Until the gateway has seen a change of people: it looks every half second, an emulated one later.
_KNOWN_S = 60.0
#: Who signs, and with which roles: three for the root, so that one lost key can be revoked.
PEOPLE = {"alice": "root,builder", "bob": "root,approver", "carol": "root,recovery"}


@dataclass
class Walk:
    """What a walk made, for whoever looks at it afterwards.

    Attributes:
        seconds: by stage.
        secrets: by name; none of them may be seen anywhere.
        said: terminal transcripts by stage.
        schemes: of the keys that each person has: both for profile `cnsa`.
        watched: keep arguments and environment of every process.
        screen: shows what the operator's terminals do, meanwhile.
    """

    work: Path
    bundle: Path
    seconds: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    site: SiteFiles | None = None
    schemes: tuple[str, ...] = ("p384",)
    watched: bool = True
    screen: TextIO | None = None

    @property
    def profile(self) -> str:
        """The root's."""
        return "cnsa" if len(self.schemes) > 1 else "p384"

    def keys(self, person: str, suffix: str) -> list[Path]:
        """A person's key files."""
        return [self.work / f"people/{person}-{scheme}.{suffix}" for scheme in self.schemes]

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and say on standard error that it runs."""
        print(f"--- {name}", file=sys.stderr, flush=True)
        begun_s = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun_s
        print(f"    {name}: {self.seconds[name]:.0f} s", file=sys.stderr, flush=True)


def airgap(walk: Walk, name: str, *arguments: str | Path, stdin: str = "", prefix: tuple[str, ...] = ()) -> str:
    """Run the command line on the builder; returns standard output, keeps everything that was said."""
    command = [*prefix, str(AIRGAP), *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT)
    walk.said[name] = done.stdout + done.stderr
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def make_bundle(walk: Walk, cache: Path) -> None:
    """Lock for the appliance's own package status, and build, unless this work folder holds that bundle already."""
    lock = walk.work / "demo.lock.json"
    with walk.stage("lock"):
        status = appliance_status()
        airgap(walk, "lock", "lock", ROOT / "manifests/demo.yml", "-o", lock, "--dpkg-status", status, "--cache", cache)
    with walk.stage("build"):
        shutil.rmtree(walk.bundle, ignore_errors=True)
        airgap(walk, "build", "build", lock, walk.bundle, "--cache", cache)
    walk.sizes["bundle"] = sum(p.stat().st_size for p in walk.bundle.rglob("*") if p.is_file())


def sign(walk: Walk) -> None:
    """Three persons, their root, two signatures; then verify without any network."""
    with walk.stage("sign and verify"):
        people = walk.work / "people"
        shutil.rmtree(people, ignore_errors=True)
        persons: list[str | Path] = []
        for person, roles in PEOPLE.items():
            typed = walk.secrets[f"passphrase of {person}"] = secrets.token_urlsafe(18)
            for scheme in walk.schemes:
                words = ("keys", "new", f"{person}-{scheme}", "--scheme", scheme, "--out", people)
                airgap(walk, f"keys {person} {scheme}", *words, "--passphrase-file", "-", stdin=typed)
            files = ",".join(map(str, walk.keys(person, "pub")))
            persons += ["--person", f"{person}:{roles}:{files}"]
        airgap(walk, "trust init", "trust", "init", people / "trust", "--profile", walk.profile, *persons)
        for person in ("alice", "bob"):
            sign_as(walk, person, "trust", "sign", people / "trust")
        sign_bundle(walk)
        shown = airgap(walk, "trust show", "trust", "show", people / "trust")
        walk.fingerprint = shown.split("fingerprint ")[1].split()[0]
        alone = ("unshare", "--net")
        airgap(walk, "verify", "verify", walk.bundle, "--fingerprint", walk.fingerprint, prefix=alone)


def sign_bundle(walk: Walk, *persons: str) -> None:
    """Builder and approver sign the walk's bundle, or whoever is named."""
    for person in persons or ("alice", "bob"):
        sign_as(walk, person, "sign", walk.bundle, "--trust", walk.work / "people/trust")


def sign_as(walk: Walk, person: str, *command: str | Path) -> None:
    """Run a command that signs, once with each key of a person."""
    typed = walk.secrets[f"passphrase of {person}"]
    for key in walk.keys(person, "key"):
        airgap(walk, f"{command[0]} {key.stem}", *command, "--key", key, "--passphrase-file", "-", stdin=typed)


def workstation_image(bundle: Path) -> Image:
    """The workstation with this project installed from the bundle's own wheels."""
    pip = "/opt/airgap/bin/python -I -m pip --isolated -q install --no-index --no-deps --require-hashes"
    return derive(
        image("workstation"),
        "burner",
        files={"/opt/wheels": bundle / "sealed/data/wheels"},
        commands=(
            "python3 -m venv --without-pip /opt/airgap",
            "python3 -m zipfile -e /opt/wheels/pip-*.whl /opt/airgap/lib/python3*/site-packages",
            f"{pip} --find-links /opt/wheels -r /opt/wheels/control.txt",
            "rm -r /opt/wheels",
        ),
    )


def burn(walk: Walk) -> Path:
    """Burn the medium on the workstation, typing serial and passphrase; returns the medium's image."""
    medium = walk.work / "medium.img"
    medium.unlink(missing_ok=True)
    walk.secrets["medium passphrase"] = secrets.token_urlsafe(18)
    with walk.stage("workstation image"):
        guest = workstation_image(walk.bundle)
    shares = {"bundle": Share(walk.bundle.parent)}
    with (
        walk.stage("burn and read back"),
        Machine("workstation", guest, disks={"medium": medium}, shares=shares) as machine,
    ):
        machine.wait_ssh()
        walk.facts["accelerator"] = machine.accelerator
        machine.mount_share("bundle", "/mnt")
        disk = machine.disk_path(MEDIUM_SERIAL)
        airgap = f"/opt/airgap/bin/airgap burn /mnt/{walk.bundle.name} --fingerprint {walk.fingerprint}"
        for name, arguments in (("system disk", "/dev/vda --serial x"), ("wrong serial", f"{disk} --serial WRONG")):
            refused = machine.run(f"{airgap} {arguments}", check=False)
            walk.facts[f"burn refuses {name}"] = f"{refused.rc} {refused.stderr.decode()}"
        command = f"{airgap} {disk}"
        with machine.shell(f"{command} --paper /root/paper", walk.screen) as shell:
            try:
                shell.expect("Type the serial.*: ", 300)
                shell.send(MEDIUM_SERIAL)
                for _ in range(2):
                    shell.expect("(Passphrase for the medium|Repeat for confirmation): ")
                    shell.send(walk.secrets["medium passphrase"])
                status = shell.wait(900)
            finally:
                walk.said["burn"] = shell.transcript
                (walk.work / "burn.log").write_text(shell.transcript)
        if status != 0:
            raise AssertionError(f"airgap burn ended with {status}:\n{walk.said['burn']}")
        walk.facts["paper"] = machine.get("/root/paper").decode()
        machine.stop()
    walk.sizes["medium"] = medium.stat().st_blocks * 512
    return medium


def paper(walk: Walk, line: str) -> str:
    """A value of the paper that travels apart from the medium."""
    return next(text.split(":")[1].strip() for text in walk.facts["paper"].splitlines() if text.startswith(line))


@contextlib.contextmanager
def appliance(walk: Walk) -> Iterator[Machine]:
    """The bare host, started, with a watcher on every process's arguments and environment."""
    run = walk.work / "appliance"
    shutil.rmtree(run, ignore_errors=True)
    with Machine("appliance", work_dir=run) as machine:
        walk.seconds["boot"] = machine.wait_ssh()
        walk.facts["accelerator"] = machine.accelerator
        # A fresh host believes whoever calls itself a router; the installed one must not.
        offer_route(machine)
        walk.facts["default routes before"] = default_routes(machine)
        yield machine


def ssh_listened_s(machine: Machine) -> float:
    """Seconds from the kernel's start to the moment at which sshd told systemd that it listens."""
    return int(machine.run("systemctl show ssh.service --property ActiveEnterTimestampMonotonic --value").text) / 1e6


def offer_route(machine: Machine) -> None:
    """Send a router advertisement at the machine, as any router on its wire would."""
    machine.inject(router_advertisement(ROUTER_MAC, "2001:db8:1::/64"))
    time.sleep(3)


def default_routes(machine: Machine) -> str:
    """All default routes, v4 and v6, of every table."""
    return machine.run("ip -4 route show table all default; ip -6 route show table all default").text


def watch(walk: Walk, machine: Machine) -> None:
    """Begin to keep what is started, until the next boot."""
    if walk.watched:
        execs.watch(machine)


def bring_site(walk: Walk, machine: Machine) -> None:
    """On site: put the site file, the certificate and the secrets on the host."""
    walk.site = walk.site or make_site(walk, machine.host)
    machine.run(f"mkdir -m 700 -p {PASSPHRASES} /root/site")
    for name in (DATA_KEY, TLS_KEY):
        machine.put(walk.secrets[name].encode(), f"{PASSPHRASES}/{name}", 0o600)
    machine.put(walk.site.certificate, "/root/site/server.pem")
    machine.put(walk.site.site_yml, "/root/site/site.yml")


def plug(walk: Walk, machine: Machine, medium: Path, *, readonly: bool = False) -> None:
    """Plug the medium in, copy start from it, and compare that with the paper."""
    machine.attach_medium(medium, MEDIUM_SERIAL, readonly=readonly)
    machine.run("mount -o ro,nosuid,nodev,noexec /dev/disk/by-partlabel/airgap-start /mnt")
    machine.run("install -D -m 0700 /mnt/start /root/airgap/start")
    algorithm = "sha384" if walk.profile == "cnsa" else "sha256"
    digest, told = (
        machine.run(f"{algorithm}sum /root/airgap/start").text.split()[0],
        paper(walk, f"{algorithm} of start"),
    )
    if digest != told:
        raise AssertionError(f"start: the paper says {told}, the medium {digest}")


def install(walk: Walk, machine: Machine, medium: Path) -> None:
    """Install as an operator does, from the medium."""
    watch(walk, machine)
    bring_site(walk, machine)
    with walk.stage("start and install"):
        plug(walk, machine, medium)
        start(walk, machine, "start")
    machine.run("umount /mnt")
    machine.detach_medium()


def start(walk: Walk, machine: Machine, name: str) -> None:
    """Run `start` on a terminal, as the operator does."""
    command = "sh /root/airgap/start /mnt --site /root/site/site.yml --minimum-version 1"
    with machine.shell(command, walk.screen) as shell:
        try:
            shell.expect("Passphrase of the medium: ", 1200)
            shell.send(walk.secrets["medium passphrase"])
            shell.expect("from the paper: ", 600)
            shell.send(paper(walk, "root fingerprint"))
            status = shell.wait(2400)
        finally:
            walk.said[name] = shell.transcript
            (walk.work / f"{name}.log").write_text(shell.transcript)
    if status != 0:
        raise AssertionError(f"start ended with {status}:\n{walk.said[name][-6000:]}")


def soon(walk: Walk) -> bool:
    """Whether the locked host let people in without waiting for its volume: a device is waited for, 600 s in guests."""
    return walk.seconds["ssh after boot"] < 300


def reboot_and_unlock(walk: Walk, machine: Machine) -> None:
    """Reboot; see the locked host answer ssh and refuse service; unlock it."""
    keep_watched(walk, machine, "before the reboot")
    with walk.stage("reboot, ssh while locked"):
        machine.power_cycle()
        walk.seconds["ssh after boot"] = ssh_listened_s(machine)
    watch(walk, machine)
    walk.facts["status while locked"] = str(request(walk, machine, "/v1/models", key="")[0])
    walk.facts["failed units while locked"] = machine.run("systemctl list-units --failed --plain --no-legend").text
    walk.facts["mapper while locked"] = machine.run("ls /dev/mapper").text
    with walk.stage("unlock"), machine.shell("airgap unlock", walk.screen) as shell:
        shell.expect("assphrase.*: ", 120)
        shell.send(walk.secrets[DATA_KEY])
        status = shell.wait(300)
        walk.said["unlock"] = shell.transcript
        if status != 0:
            raise AssertionError(f"airgap unlock ended with {status}:\n{shell.transcript}")


def user_key(walk: Walk, machine: Machine, user: str = "alice", *options: str) -> str:
    """The key of a user of the service; asked for the first time, the operator adds the user."""
    name = f"{user}'s key on {machine.work_dir.name}"
    if name not in walk.secrets:
        file = f"{PASSPHRASES}/{user}.key"
        machine.run(f"mkdir -m 700 -p {PASSPHRASES}; airgap user add {user} {' '.join(options)} --key-out {file}")
        walk.secrets[name] = machine.get(file).decode().strip()
        deadline = time.monotonic() + _KNOWN_S
        while request(walk, machine, "/v1/models", key=walk.secrets[name])[0] == 401:
            assert time.monotonic() < deadline, f"{user} is not known to the gateway"
            time.sleep(1)
    return walk.secrets[name]


def request(
    walk: Walk,
    machine: Machine,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    key: str | None = None,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> tuple[int, Any]:
    """Ask the appliance over TLS, verifying its certificate against the site's CA.

    Returns:
        HTTP status, and the answer as parsed JSON (None when it is none).
    """
    assert walk.site is not None
    context = ssl.create_default_context(cadata=walk.site.ca.decode())
    context.maximum_version = maximum
    connection = http.client.HTTPSConnection("127.0.0.1", machine.https_port, timeout=300)
    # The certificate's name is checked though the forwarded port is on the loopback.
    connection.sock = context.wrap_socket(
        socket.create_connection(("127.0.0.1", machine.https_port), 300), server_hostname=SERVER_NAME
    )
    bearer = user_key(walk, machine) if key is None else key
    headers = {"Host": SERVER_NAME, "Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    try:
        return answer.status, json.loads(text)
    except ValueError:
        return answer.status, None


def ask(walk: Walk, machine: Machine, question: str = QUESTION) -> str:
    """Ask the model a question; returns its answer."""
    body = {
        "model": "airgap-words",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 48,
    }
    status, answer = request(walk, machine, "/v1/chat/completions", body)
    if status != 200:
        raise AssertionError(f"expected an answer, found HTTP {status}: {answer}")
    return str(answer["choices"][0]["message"]["content"]).strip()


def keep_watched(walk: Walk, machine: Machine, name: str) -> None:
    """Bring home what the watcher kept, before a reboot takes it."""
    if walk.watched:
        walk.said[f"processes {name}"] = execs.seen(machine)


def new_walk(work: Path = WORK, *, watched: bool = True) -> Walk:
    """A fresh walk; what an earlier one left is overwritten stage by stage."""
    work.mkdir(parents=True, exist_ok=True)
    return Walk(work, work / "demo-1", watched=watched)


def cache_folder() -> Path:
    """Fetched and built files; CI and people keep it between runs."""
    return Path(os.environ.get("AIRGAP_CACHE") or Path.home() / ".cache" / "airgap")
