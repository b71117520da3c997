"""`airgap drive` through the command line: what it shows, what it refuses, and that a dry run is one.

Disks are what lsblk says here; the drive behind /dev/nvme9n1 is the emulated one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.drive import config, erase, own, pending
from appliance.drive.discovery import parse
from appliance.drive.drive import Drive
from appliance.drive.kinds import Kind, judge
from appliance.drive.luks import Mode
from appliance.drive.sed import Sed
from bundler.cli import cli
from custody.atomic import write_whole
from custody.errors import (
    AirgapError,
    AlreadyRunning,
    DriveFailed,
    InputInvalid,
    OperatorMistake,
    SecretRefused,
    TargetRefused,
)
from custody.ledger.event import parse as parse_event
from custody.ledger.log import open_log
from custody.ledger.view import View
from tests.opal_drive.faults import Fault
from tests.unit.appliance.conftest import Programs, programs  # noqa: F401 - a fixture
from tests.unit.appliance.drive.emulated import DATA_OFFSET, SERIAL, SIZE_BYTES, Machine, take_over
from tests.unit.appliance.drive.test_discovery import recorded
from tests.unit.appliance.drive.test_disks import OURS, header, lsblk

FIRST, SECOND = "first passphrase", "second passphrase"
DATA = b"what nobody but the site may read".ljust(4096, b".")
DISK: dict[str, Any] = {
    "name": "nvme9n1", "path": "/dev/nvme9n1", "type": "disk", "serial": SERIAL, "model": "Emulated",
    "size": SIZE_BYTES, "ro": False, "mountpoints": [None],
}  # fmt: skip
PARTITION = {"path": "/dev/nvme9n1p1", "type": "part", "mountpoints": [None]}
OPENED = {"path": "/dev/mapper/airgap-data", "type": "crypt", "mountpoints": ["/srv/airgap"]}


class Host:
    """A machine with the emulated drive, as the commands find it."""

    def __init__(self, machine: Machine, canned: Programs) -> None:
        self.machine, self.canned = machine, canned
        self.disks(DISK)

    def disks(self, *entries: dict[str, Any]) -> None:
        self.canned.answers["lsblk"] = lsblk(*entries)

    def run(self, *words: str | Path, stdin: str = "") -> Result:
        return CliRunner().invoke(cli, ["drive", *map(str, words)], input=stdin)

    def fails(self, kind: type[AirgapError], *words: str | Path, stdin: str = "") -> AirgapError:
        """Run what must be refused."""
        done = self.run(*words, stdin=stdin)
        assert isinstance(done.exception, kind), done.exception or done.output
        assert done.exception.message
        return done.exception

    def secret(self, name: str, text: str) -> Path:
        file = self.machine.folder / name
        file.touch(mode=0o600)
        file.write_text(text)
        return file

    def escrow(self) -> Path:
        """The newest escrow, opened."""
        files = sorted((self.machine.folder / "escrow").glob("*.cms"))
        newest = [file for file in files if not file.name.endswith(".header.cms")][-1]
        return self.secret("opened", self.machine.decrypt(newest).decode())

    def state(self) -> tuple[object, ...]:
        """Everything that a command could change: drive, medium, files."""
        machine = self.machine
        files = [path for path in sorted(machine.folder.rglob("*")) if path.is_file()]
        # The image is long and nearly empty: when it was written says enough.
        kept = {str(path): path.read_bytes() for path in files if path != machine.image}
        kept[str(machine.image)] = str(machine.image.stat().st_mtime_ns).encode()
        drive = machine.drive.state
        return str(drive.admin.changes), str(drive.locking.changes), drive.active, drive.owned, kept


@pytest.fixture
def make(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    programs: Callable[..., Programs],  # noqa: F811
) -> Iterator[Callable[..., Host]]:
    """Make a host whose drive has faults."""
    canned = programs(
        "appliance.drive.disks", "appliance.drive.luks", "appliance.drive.erase", answers={"blkid": (2, "")}
    )
    monkeypatch.setattr(pending, "_COST", {"n": 2, "r": 8, "p": 1})
    monkeypatch.setattr(pending, "FOLDER", tmp_path / "drive-folder")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(config, "CONFIG", tmp_path / "storage.json")
    monkeypatch.setattr("appliance.drive.listing.copies", lambda _serial: [])
    for function in (erase.decommission, erase.end):
        monkeypatch.setitem(function.__kwdefaults__ or {}, "folder", tmp_path / "erase")

    def made(*faults: Fault) -> Host:
        machine = Machine(tmp_path, faults)
        monkeypatch.setattr("appliance.hostkey.load_or_make", lambda: machine.host_key)
        monkeypatch.setattr(
            Drive,
            "on",
            staticmethod(lambda _disk, _mapper, _escrow, reporter: replace(machine.boot(), reporter=reporter)),
        )
        return Host(machine, canned)

    yield made


@pytest.fixture
def host(make: Callable[..., Host]) -> Host:
    """A host with a new drive."""
    return make()


@pytest.fixture
def ours(host: Host) -> Host:
    """A host whose drive is its own, with data on it, after a power cycle."""
    drive = host.machine.boot()
    take_over(drive, Mode.BOTH, own.Wanted(Mode.BOTH, psid=host.machine.psid), FIRST)
    drive.luks.open(FIRST, "airgap-data")
    host.machine.drive.write(DATA_OFFSET // 512, DATA)
    host.machine.power_cycle()
    return host


def says(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str | AirgapError | None]) -> None:
    """What drives say of themselves, by path: a recorded one, an error, or nothing."""

    def discover(self: Sed) -> object:
        answer = answers[str(self.device)]
        if isinstance(answer, AirgapError):
            raise answer
        return parse(recorded(answer)) if answer else None

    monkeypatch.setattr(Sed, "discover", discover)


# list

DISKS = [
    {**DISK, "path": path, "serial": serial, "model": model, "size": size_gb * 10**9, "children": children}
    for path, serial, model, size_gb, children in (
        ("/dev/nvme0n1", "S6CKNX0T1234567890AB", "Samsung SSD 970 EVO Plus 500GB", 500, []),
        ("/dev/nvme10n1", "22204Y804298", "WDC PC SN730 SDBQNTY-256G-1001", 15360, []),
        ("/dev/sda", "S0S8NEAB909523", "Crucial_CT500MX500SSD1", 500, [OPENED]),
        ("/dev/sdb", None, None, 1, []),
        ("/dev/sdc", "MX500", "Crucial_CT500MX500SSD1", 500, []),
    )
]
SAYS: dict[str, str | AirgapError | None] = {
    "/dev/nvme0n1": "samsung-970-evo-plus",
    "/dev/nvme10n1": "wd-sn730",
    "/dev/sda": "crucial-mx500",
    "/dev/sdb": None,
    "/dev/sdc": "crucial-mx500",
}


def test_the_list_fits_80_columns_and_names_what_commands_take(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, SAYS)
    host.disks(*DISKS)
    opal = {"type": "hw-opal-crypt", "offset": "16777216", "encryption": "aes-xts-plain64", "opal_segment_number": 1}
    dump = header(segments={"0": opal}, config={"requirements": {"mandatory": ["opal"]}})
    host.canned.answers |= {
        "blkid --probe --output export /dev/sda": (0, OURS),
        "cryptsetup luksDump --dump-json-metadata /dev/sda": (0, dump),
    }
    done = host.run("list")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80, done.output
    assert lines[0].split()[:5] == ["DEVICE", "SERIAL", "SIZE", "DRIVE", "VOLUME"]
    for disk in DISKS:
        assert str(disk["path"]) in done.output
        assert str(disk["serial"] or "-") in done.output  # never cut: it is what commands take
    assert "sid-blocked" in lines[1]
    assert "factory" in lines[2]
    assert "opal+luks, open" in lines[3]
    assert "not TCG" in lines[4]
    told = " ".join(done.output.split())
    assert "S6CKNX0T1234567890AB: the BIOS blocked SID at power-on" in told
    assert "switch 'Block SID' off in the BIOS for one start, then run this again" in told
    assert "MX500: owned" in told
    assert "S0S8NEAB909523: " not in told  # ours


def test_a_short_list_shows_models(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, {"/dev/sdc": "crucial-mx500"})
    host.disks(DISKS[-1])
    assert "Crucial_CT500MX500SSD1" in host.run("list").output


def test_the_list_for_machines(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, SAYS)
    host.disks(*DISKS)
    told = json.loads(host.run("list", "--json").stdout)
    assert told["schema"] == "airgap.drives/1"
    assert set(told) == {"schema", "drives"}
    by_path = {drive["path"]: drive for drive in told["drives"]}
    assert set(by_path) == set(SAYS)
    assert {path: drive["kind"] for path, drive in by_path.items()} == {
        "/dev/nvme0n1": "sid-blocked",
        "/dev/nvme10n1": "factory",
        "/dev/sda": "owned",
        "/dev/sdb": "unsupported",
        "/dev/sdc": "owned",
    }
    fields = "path serial model size_bytes kind why remedy failed volume open escrow discovery"
    assert all(set(drive) == set(fields.split()) for drive in told["drives"])
    assert not any(drive["failed"] for drive in told["drives"])
    assert by_path["/dev/sdb"]["discovery"] is None
    assert by_path["/dev/nvme10n1"]["discovery"]["com_id"] == 0x7FFE
    assert by_path["/dev/nvme10n1"]["discovery"]["classes"] == ["Opal 2"]
    assert by_path["/dev/sda"]["open"] is True
    assert by_path["/dev/nvme0n1"]["model"] == "Samsung SSD 970 EVO Plus 500GB"  # never cut here


def test_a_drive_that_fails_does_not_hide_the_others(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = DriveFailed("/dev/nvme10n1, discovery: Input/output error", "dmesg | tail")
    says(monkeypatch, {**SAYS, "/dev/nvme10n1": failed})
    host.disks(*DISKS)
    done = host.run("list")
    assert done.exit_code == 0, done.exception
    assert "sid-blocked" in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    told = " ".join(done.output.split())
    assert "22204Y804298: /dev/nvme10n1, discovery: Input/output error; dmesg | tail" in told
    (drive,) = [d for d in json.loads(host.run("list", "--json").stdout)["drives"] if d["path"] == "/dev/nvme10n1"]
    assert (drive["kind"], drive["failed"], drive["discovery"]) == ("unsupported", True, None)
    assert "Input/output error" in drive["why"]


def test_no_disk_at_all_is_an_empty_list(host: Host) -> None:
    host.disks()
    assert host.run("list").output.split() == ["DEVICE", "SERIAL", "SIZE", "DRIVE", "VOLUME", "MODEL"]


# What may be destroyed

DESTROYING = [("revert",), ("decommission", "--out", ".")]


USED: list[tuple[dict[str, Any], str]] = [
    ({"children": [OPENED]}, "expected a closed volume, found it open"),
    ({"children": [{**OPENED, "mountpoints": [None]}]}, "expected a closed volume, found it open"),
    ({"mountpoints": ["/"]}, "mounted at /"),
    ({"mountpoints": ["[SWAP]"]}, "SWAP"),
    ({"children": [{**PARTITION, "mountpoints": ["/boot/efi"]}]}, "mounted at /boot/efi"),
    ({"children": [PARTITION]}, "partitions or volumes"),
    ({"children": [{**PARTITION, "path": "/dev/md0", "type": "raid1"}]}, "partitions or volumes"),
    ({"ro": True}, "write-protected"),
]


@pytest.mark.parametrize("words", DESTROYING, ids=["revert", "decommission"])
def test_what_is_in_use_is_not_destroyed(host: Host, words: tuple[str, ...]) -> None:
    psid, before = host.secret("psid", host.machine.psid), host.machine.power.steps[:]
    for (change, said), dry_run in product(USED, ((), ("--dry-run",))):
        host.disks({**DISK, **change})
        error = host.fails(TargetRefused, words[0], SERIAL, "--psid-file", psid, *words[1:], *dry_run)
        assert said in error.message
        assert "/dev/nvme9n1" in error.message
    assert host.machine.power.steps == before


@pytest.mark.parametrize("words", [*DESTROYING, ("rotate",)], ids=["revert", "decommission", "rotate"])
def test_another_serial_touches_nothing(ours: Host, words: tuple[str, ...]) -> None:
    before = ours.state()
    for serial in ("OPAL0002", "opal0001", "OPAL000", ""):
        error = ours.fails(TargetRefused, words[0], serial, *words[1:], stdin="x")
        assert "expected exactly one, found none" in error.message
    ours.disks(DISK, {**DISK, "path": "/dev/nvme8n1"})
    error = ours.fails(TargetRefused, words[0], SERIAL, *words[1:], stdin="x")
    assert "found /dev/nvme9n1 and /dev/nvme8n1" in error.message
    assert ours.state() == before


def test_secrets_of_another_drive_touch_nothing(ours: Host) -> None:
    content = {"schema": "airgap.escrow/1", "number": 1, "serial": "OTHER", "model": "", "sid": "S", "admin": "A"}
    secrets, before = ours.secret("other", json.dumps(content)), ours.state()
    for words in (("revert", SERIAL), ("decommission", SERIAL, "--out", str(ours.machine.folder)), ("rotate", SERIAL)):
        error = ours.fails(InputInvalid, *words, "--secrets", secrets, stdin=f"{FIRST}\n")
        assert "found those of OTHER" in error.message
    assert ours.state() == before


@pytest.mark.parametrize("words", DESTROYING, ids=["revert", "decommission"])
def test_a_wrong_label_is_refused(ours: Host, words: tuple[str, ...]) -> None:
    ours.secret("psid", "0" * 32)
    psid = ours.machine.folder / "psid"
    error = ours.fails(SecretRefused, words[0], SERIAL, "--psid-file", psid, *words[1:])
    assert "reverting as PSID" in error.message
    drive = ours.machine.power_cycle()
    assert judge(drive.sed.discover()).kind is Kind.OWNED
    drive.luks.open(FIRST, "airgap-data")
    assert drive.sed.read(DATA_OFFSET) == DATA


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_a_label_that_others_can_read_is_refused(ours: Host, mode: int) -> None:
    psid = ours.secret("psid", ours.machine.psid)
    psid.chmod(mode)
    before = ours.state()
    ours.fails(SecretRefused, "revert", SERIAL, "--psid-file", psid)
    assert ours.state() == before


def test_what_is_no_tcg_drive_is_not_reverted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.appliance.drive.emulated.EmulatedSed.discover", lambda _self: None)
    before = host.state()
    for dry_run in ((), ("--dry-run",)):
        error = host.fails(TargetRefused, "revert", SERIAL, *dry_run, stdin="A" * 32)
        assert "expected a drive that can be reverted, found no self-encrypting drive" in error.message
    assert host.state() == before


@pytest.mark.parametrize("fault", [Fault.PYRITE, Fault.PYRITE_1])
def test_pyrite_is_not_reverted_here(make: Callable[..., Host], fault: Fault) -> None:
    host = make(fault)
    before = host.state()
    error = host.fails(TargetRefused, "revert", SERIAL, stdin=host.machine.psid)
    assert "locks and does not encrypt" in error.message
    assert host.state() == before


def test_nobody_but_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for words in (("list",), ("revert", SERIAL), ("decommission", SERIAL, "--out", "."), ("rotate", SERIAL)):
        error = host.fails(OperatorMistake, *words, stdin="x")
        assert "expected root" in error.message
    assert not host.canned.calls


# Dry runs


def test_dry_runs_change_nothing(ours: Host) -> None:
    psid, secrets = ours.secret("psid", ours.machine.psid), ours.escrow()
    before = ours.state()
    out = ours.machine.folder
    for words, said in (
        (("revert", SERIAL, "--psid-file", psid), "would revert /dev/nvme9n1"),
        (("revert", SERIAL), "everything on it would be lost"),
        (("decommission", SERIAL, "--secrets", secrets, "--out", out), f"would erase /dev/nvme9n1 (serial {SERIAL}"),
        (("decommission", SERIAL, "--out", out), f"{SERIAL}-decommissioned.dsse.json and .pdf"),
        (
            ("rotate", SERIAL, "--secrets", secrets),
            "would change the PINs and the two keys of the volume, mode opal+luks",
        ),
    ):
        done = ours.run(*words, "--dry-run")
        assert done.exit_code == 0, done.exception
        assert said in done.stdout
    assert ours.state() == before
    assert {line.split()[0] for line in ours.canned.calls} == {"lsblk"}


# The real ones


def test_revert_by_the_label(ours: Host) -> None:
    done = ours.run("revert", SERIAL, stdin=f"{ours.machine.psid.lower()}\n")
    assert done.exit_code == 0, done.exception
    assert "is as it left the factory" in done.stdout
    assert ours.machine.psid not in done.output
    assert judge(ours.machine.power_cycle().sed.discover()).kind is Kind.FACTORY


def test_a_revert_forgets_a_decommission_that_was_begun(ours: Host) -> None:
    kept = ours.machine.folder / "erase" / f"{SERIAL}.erase"
    kept.parent.mkdir()
    kept.write_text("{}")
    ours.fails(SecretRefused, "revert", SERIAL, "--psid-file", ours.secret("wrong", "0" * 32))
    assert kept.exists()
    assert ours.run("revert", SERIAL, "--psid-file", ours.secret("psid", ours.machine.psid)).exit_code == 0
    assert not kept.exists()


def test_revert_by_the_escrow(ours: Host) -> None:
    assert ours.run("revert", SERIAL, "--secrets", ours.escrow()).exit_code == 0
    assert judge(ours.machine.power_cycle().sed.discover()).kind is Kind.FACTORY


def test_decommission_writes_what_verifies(ours: Host) -> None:
    out = ours.machine.folder / "out"
    out.mkdir()
    secrets = ours.escrow()
    done = ours.run("decommission", SERIAL, "--secrets", secrets, "--out", out)
    assert done.exit_code == 0, done.exception
    assert sorted(path.name for path in out.iterdir()) == [
        f"{SERIAL}-decommissioned.dsse.json",
        f"{SERIAL}-decommissioned.pdf",
    ]
    assert "2 blocks compared, 0 as they were; 0 were locked" in done.stdout
    content = json.loads(secrets.read_text())
    assert "sid" in content or "payload" in content
    drive = ours.machine.power_cycle()
    assert judge(drive.sed.discover()).kind is Kind.FACTORY
    assert drive.sed.read(DATA_OFFSET) not in (None, DATA)


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_certificate_that_could_not_be_written_is_written_by_the_same_command(
    ours: Host, monkeypatch: pytest.MonkeyPatch, ledger_here: Path, written: int
) -> None:
    """The folder is full, or the process is killed, once the drive is erased."""
    out, secrets, folder = ours.machine.folder / "out", ours.escrow(), ours.machine.folder / "erase"
    out.mkdir()
    words = ("decommission", SERIAL, "--secrets", secrets, "--out", out)
    made: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        if len(made) == written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_whole(path, data)
        made.append(path)

    with monkeypatch.context() as patch:
        patch.setattr("appliance.drive.certificate.write_whole", full)
        if written == 2:
            patch.setattr("appliance.drive.erase.end", lambda _drive: full(out, b""))
        assert isinstance(ours.run(*words).exception, OSError)
    assert list(folder.iterdir())
    assert len(list(View(ledger_here).entries())) == 1  # that it was begun
    done = ours.run(*words)
    assert done.exit_code == 0, done.exception
    assert "2 blocks compared, 0 as they were" in done.stdout
    assert not list(folder.iterdir())
    told = (out / f"{SERIAL}-decommissioned.dsse.json").read_bytes()
    assert parse_event(View(ledger_here).entry(1))["digest"] == f"sha256:{hashlib.sha256(told).hexdigest()}"


def test_a_failed_erasure_certifies_nothing(host: Host) -> None:
    out = host.machine.folder / "out"
    out.mkdir()
    error = host.fails(TargetRefused, "decommission", SERIAL, "--out", out, stdin=host.machine.psid)
    assert "expected blocks that hold something and can be read, found none" in error.message
    assert f"airgap drive revert {SERIAL}" in error.hint
    assert not list(out.iterdir())


def test_a_header_is_restored_from_the_escrow(ours: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    luks = ours.machine.boot().luks
    header, backup = luks.header(), luks.backup()
    monkeypatch.setattr("appliance.drive.restore._judge", lambda _backup: header)  # not one that cryptsetup knows
    file, secrets = ours.machine.folder / "header", ours.escrow()
    words = ("restore-header", SERIAL, "--header", file)
    assert "give --secrets" in ours.run(*words).output
    assert "No such file" in ours.fails(InputInvalid, *words, "--secrets", secrets).message
    file.write_bytes(backup)
    assert "nothing to restore" in ours.fails(TargetRefused, *words, "--secrets", secrets).message
    ours.machine.drive.write(0, bytes(8192))
    ours.disks({**DISK, "children": [OPENED]})
    assert "mounted at /srv/airgap" in ours.fails(TargetRefused, *words, "--secrets", secrets).message
    ours.disks(DISK)
    before = ours.state()
    done = ours.run(*words, "--secrets", secrets, "--dry-run")
    assert done.stdout.startswith("would write the header of escrow 1, mode opal+luks, to /dev/nvme9n1")
    assert ours.state() == before
    file.write_bytes(backup[:-1])
    assert "expected the SHA-256" in ours.fails(InputInvalid, *words, "--secrets", secrets).message
    assert ours.state()[:-1] == before[:-1]
    file.write_bytes(backup)
    done = ours.run(*words, "--secrets", secrets)
    assert done.stdout == f"restored: {SERIAL} has the header of escrow 1; airgap unlock\n"
    drive = ours.machine.power_cycle()
    drive.luks.open(FIRST, "airgap-data")
    assert drive.sed.read(DATA_OFFSET) == DATA


def test_rotate(ours: Host) -> None:
    old, new = ours.secret("old", FIRST), ours.secret("new", SECOND)
    secrets = ours.escrow()
    words = ("rotate", SERIAL, "--passphrase-file", old, "--new-passphrase-file", new)
    assert "give --secrets" in ours.run(*words).output
    done = ours.run(*words, "--secrets", secrets)
    assert done.exit_code == 0, done.exception
    assert f"rotated: {SERIAL}" in done.stdout
    for secret in (
        FIRST,
        SECOND,
        *(value for value in (ours.machine.escrowed()[-1].sid, ours.machine.escrowed()[-1].admin)),
    ):
        assert secret not in done.output
    drive = ours.machine.power_cycle()
    assert drive.luks.takes(SECOND)
    assert not drive.luks.takes(FIRST)


def test_rotating_to_the_same_passphrase_is_refused(ours: Host) -> None:
    old, secrets = ours.secret("old", FIRST), ours.escrow()
    before = ours.state()
    error = ours.fails(
        SecretRefused, "rotate", SERIAL, "--secrets", secrets, "--passphrase-file", old, "--new-passphrase-file", old
    )
    assert "found the one in force" in error.message
    assert ours.state() == before


def test_no_secret_is_an_argument_of_anything(ours: Host) -> None:
    ours.run("rotate", SERIAL, "--secrets", ours.escrow(), "--passphrase-file", ours.secret("old", FIRST),
             "--new-passphrase-file", ours.secret("new", SECOND))  # fmt: skip
    ours.run("revert", SERIAL, "--psid-file", ours.secret("psid", ours.machine.psid))
    for secrets in ours.machine.escrowed():
        for secret in (secrets.sid, secrets.admin, secrets.recovery_key, FIRST, SECOND, ours.machine.psid):
            assert not [line for line in ours.canned.calls if secret in line]
    assert os.environ.get("PSID") is None


def test_decommission_is_an_event_and_not_begun_without_its_ledger(ours: Host, ledger_here: Path) -> None:
    out = ours.machine.folder / "out"
    out.mkdir()
    words = ("decommission", SERIAL, "--secrets", ours.escrow(), "--out", out)
    before = ours.state()
    with open_log(ledger_here):
        ours.fails(AlreadyRunning, *words)
    assert ours.state() == before
    assert ours.run(*words).exit_code == 0
    event = parse_event(View(ledger_here).entry(1))
    certificate = hashlib.sha256((out / f"{SERIAL}-decommissioned.dsse.json").read_bytes()).hexdigest()
    assert (event["event"], event["subject"], event["digest"]) == ("decommissioned", SERIAL, f"sha256:{certificate}")
