"""The role storage and `airgap drive` on a stock Debian 13, from a new drive to one out of service."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

import pytest

from custody.trust.keys import PrivateKey
from tests.opal_drive.faults import Fault
from tests.vm import role_host
from tests.vm.life import FIRST, SECOND, TEXT, Life
from tests.vm.machine import Machine

#: Steps after which power goes while the drive is taken over: by methods it becomes ours, then it is written to.
TAKE_OVER = (3, 9, 100)
#: Steps of a rotation at which power goes, besides those of every run; from the 8th on they are writes of the header.
NIGHTLY, WRITES = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20), 8


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    with Machine("bench", role_host.host_image()) as machine:
        machine.wait_ssh()
        yield Life(role_host.start(machine), tmp_path_factory.mktemp("life"), PrivateKey.generate())


def changed(said: str) -> int:
    """How many tasks Ansible says that it changed."""
    recap = re.search(r"ok=\d+ +changed=(\d+) +unreachable=0 +failed=0", said)
    assert recap, said[-4000:]
    return int(recap[1])


@pytest.mark.parametrize("steps", TAKE_OVER)
def test_power_goes_while_a_new_drive_is_taken_over(life: Life, steps: int) -> None:
    """Each goes on where the one before left it; the role below ends it."""
    if steps == TAKE_OVER[0]:
        assert "factory" in life.airgap("drive", "list")
    life.cut(steps, life.take_over)


def test_the_role_takes_a_new_drive_over(life: Life) -> None:
    assert changed(life.role()) > 0
    run = life.host.machine.run
    dump = run(f"cryptsetup luksDump {life.host.drive.device}").text
    assert "0: hw-opal-crypt" in dump
    assert "cipher: aes-xts-plain64" in dump
    queried = run(f"sedutil-cli --query {life.host.drive.device}").text
    assert "LockingEnabled = Y" in queried
    assert re.search(r"Feature Enabled +: yes", run(f"nvme sed discover {life.host.drive.device}").text)
    assert run("findmnt -no SOURCE /srv/airgap").text == "/dev/mapper/airgap-data"
    secrets = life.secrets()
    assert secrets["psid"] == life.host.drive.psid
    assert secrets["sid"] != secrets["admin"]


def test_a_second_run_changes_nothing(life: Life) -> None:
    assert changed(life.role()) == 0


def test_the_medium_holds_noise(life: Life) -> None:
    life.host.machine.put(TEXT * 4096, "/srv/airgap/models/secret.txt")
    life.host.machine.run("sync")
    found = life.host.machine.run(f"grep -c '{TEXT[:16].decode()}' {life.host.drive.image}", check=False)
    assert (found.rc, found.text) == (1, "0")


def test_locked_it_stays_locked_over_a_power_cycle_until_it_is_unlocked(life: Life) -> None:
    life.cut(1, lambda: life.host.airgap("drive", "lock"))
    life.airgap("drive", "lock")
    assert life.reads_fail()
    life.host.drive.power_cycle()
    assert life.reads_fail()
    life.cut(2, lambda: life.host.airgap("unlock", stdin=FIRST))
    life.airgap("unlock", stdin=FIRST)
    assert life.host.machine.get("/srv/airgap/models/secret.txt").startswith(TEXT)


def test_a_drive_that_loses_its_power_while_it_is_open_is_unlocked_again(life: Life) -> None:
    life.host.drive.power_cycle()
    assert life.reads_fail()
    life.airgap("unlock", stdin=FIRST)
    life.host.machine.run("echo 3 >/proc/sys/vm/drop_caches")
    assert life.host.machine.get("/srv/airgap/models/secret.txt").startswith(TEXT)


def test_a_damaged_header_is_formatted_by_nobody_and_comes_back_from_the_escrow(life: Life) -> None:
    """As docs/how-to/recover-a-drive.md says."""
    run, device = life.host.machine.run, life.host.drive.device
    life.airgap("drive", "lock")
    run(f"dd if=/dev/zero of={device} bs=1M count=8 oflag=direct status=none")
    assert "expected the volume that this host made" in life.airgap("unlock", stdin=FIRST, rc=22)
    refused = life.take_over()
    assert refused.rc == 22, refused.text
    assert "recover-a-drive.md: The header is damaged" in refused.text
    names = run("ls /var/lib/airgap/escrow").text.split()
    backup = sorted(name for name in names if name.endswith(".header.cms"))[-1]
    life.host.machine.put(life.decrypt(backup), "/run/header", 0o600)
    given = ("--header", "/run/header", "--secrets", life.secrets_file())
    assert "mode opal+luks" in life.airgap("drive", "restore-header", "OPAL0001", *given, "--dry-run")
    life.airgap("unlock", stdin=FIRST, rc=22)
    life.airgap("drive", "restore-header", "OPAL0001", *given)
    assert "nothing to restore" in life.airgap("drive", "restore-header", "OPAL0001", *given, rc=22)
    life.airgap("unlock", stdin=FIRST)
    assert life.host.machine.get("/srv/airgap/models/secret.txt").startswith(TEXT)


def test_a_wrong_pin_is_refused_and_the_header_intact(life: Life) -> None:
    before, escrow = life.header(), life.host.machine.run("ls /var/lib/airgap/escrow").text
    for name in ("admin", "sid"):
        wrong = life.secrets_file(**{name: "A" * 32})
        new = life.host.secret("new", SECOND)
        said = life.airgap(
            "drive", "rotate", "OPAL0001", "--secrets", wrong, "--new-passphrase-file", new, stdin=FIRST, rc=24
        )
        assert "expected the right PIN" in said
    assert life.header() == before
    assert life.host.machine.run("ls /var/lib/airgap/escrow").text == escrow


@pytest.mark.parametrize("steps", [5, 7, *(pytest.param(n, marks=pytest.mark.nightly) for n in NIGHTLY)])
def test_rotation_goes_on_after_a_power_cut(life: Life, steps: int) -> None:
    """The drive loses its power after so many methods or writes; the 5th sets Admin1's PIN, the 7th SID's."""
    new = SECOND if life.passphrase == FIRST else FIRST
    life.airgap("drive", "lock")
    before = life.secrets()
    command = ("drive", "rotate", "OPAL0001", "--secrets", life.secrets_file(), "--new-passphrase-file")
    given = life.host.secret("new", new)
    cut = life.cut(steps, lambda: life.host.airgap(*command, given, stdin=life.passphrase))
    assert life.reads_fail()
    if steps < WRITES:  # a write that power took away is done again by the kernel
        assert cut.rc == 48, cut.text
    if cut.rc:
        life.airgap(*command, given, stdin=life.passphrase)
    after = life.secrets()
    assert {after[name] for name in ("sid", "admin", "recovery_key")}.isdisjoint(before.values())
    life.airgap("unlock", stdin=life.passphrase, rc=24)
    life.airgap("unlock", stdin=new)
    life.passphrase = new
    assert life.host.machine.get("/srv/airgap/models/secret.txt").startswith(TEXT)


def test_out_of_service_its_data_are_gone_and_a_certificate_says_so(life: Life) -> None:
    life.airgap("drive", "lock")
    command = ("drive", "decommission", "OPAL0001", "--secrets", life.secrets_file(), "--out", "/root")
    life.cut(4, lambda: life.host.airgap(*command))
    said = life.airgap(*command)
    assert re.search(r"\d+ blocks compared, 0 as they were", said)
    statement = json.loads(life.host.machine.get("/root/OPAL0001-decommissioned.dsse.json"))
    told = json.loads(base64.b64decode(statement["payload"]))
    assert (told["serial"], told["erased"]["unchanged"]) == ("OPAL0001", 0)
    assert told["erased"]["compared"] > 10
    assert life.host.machine.get("/root/OPAL0001-decommissioned.pdf").startswith(b"%PDF-")
    assert not life.host.drive.status()["owned"]
    assert "factory" in life.airgap("drive", "list")


@pytest.mark.nightly
def test_somebody_elses_drive_is_refused_and_untouched(life: Life) -> None:
    life.host.drive.faults = frozenset({Fault.OWNED_BY_OTHERS})
    life.host.drive.start()
    before = life.header()
    for mode in ("auto", "opal+luks"):
        said = life.role(storage_mode=mode)
        assert "expected an Opal 2 drive as it leaves the factory, found owned" in said
    assert life.header() == before
    life.airgap("drive", "revert", "OPAL0001", stdin="0" * 32, rc=24)
    life.airgap("drive", "revert", "OPAL0001", stdin=life.host.drive.psid)
    assert not life.host.drive.status()["owned"]


def test_no_secret_was_seen(life: Life) -> None:
    """At the end: of every set that there ever was."""
    seen = "\n".join(life.said) + life.host.everything_seen()
    seen = seen.replace(f"PSID {life.host.drive.psid}\n", "")  # the emulated drive's label, in its own log
    copies = life.copies()
    assert len(copies) > 1
    for copy in copies:
        for name in ("sid", "admin", "recovery_key", "psid"):
            assert copy[name] not in seen, (copy["number"], name)
    assert FIRST not in seen
    assert SECOND not in seen
    listing = life.host.machine.run("find /var/lib/airgap /etc/airgap -type f -perm /077 -printf '%p %m\\n'").text
    assert not [line for line in listing.splitlines() if "storage.json" not in line], listing
