"""One drive's life on a guest: what the tests of the role and of its power cuts do and look at."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from custody.trust.keys import PrivateKey
from tests.vm.role_host import OpalHost
from tests.vm.ssh import Result

FIRST, SECOND = "first-passphrase-of-the-volume", "second-passphrase-of-the-volume"
TEXT = b"what nobody but the site may read. "
RANGE_AT = 16 << 20
#: What the module airgap_volume does, without Ansible around it: a minute less in an emulated guest.
_TAKE_OVER = """\
import sys
from pathlib import Path
from appliance.drive.escrow import Escrow
from appliance.drive.own import Wanted
from appliance.drive.volume import Volume, prepare
from custody.errors import AirgapError
serial, key, psid, passphrase = sys.stdin.read().split()
try:
    volume = Volume(serial, "airgap-data", Path("/srv/airgap"))
    print(*prepare(volume, passphrase, [], wanted=Wanted(None, psid), escrow=Escrow.to(key)), sep="; ")
except AirgapError as error:
    print(error.message, error.hint)
    sys.exit(error.exit_code)
"""
_LOOK = """\
import sys
from tests.opal_drive import uids
from tests.opal_drive.client import OpalHost
from tests.opal_drive.linux import Passthrough
with Passthrough({device!r}) as transport:
    host = OpalHost(transport)
    print(any(host.accepts(uids.ADMIN_SP, uids.SID, pin) for pin in {sid!r}))
    active = host.discovery()[0x0002][0] & 2
    print(not active or any(host.accepts(uids.LOCKING_SP, uids.admin(1), pin) for pin in {admin!r}))
"""


@dataclass
class Life:
    """One drive's life; each test finds it as the one before left it."""

    host: OpalHost
    folder: Path
    escrow: PrivateKey
    passphrase: str = FIRST
    said: list[str] = field(default_factory=list)

    @property
    def public(self) -> str:
        """What stands in the site file."""
        return base64.b64encode(self.escrow.public.der).decode()

    def variables(self, **changed: str) -> dict[str, str]:
        """The role's."""
        return {
            "storage_mode": "auto",
            "storage_escrow_key": self.public,
            "storage_passphrase_file": self.host.secret("passphrase", FIRST),
            "storage_psid_file": self.host.secret("psid", self.host.drive.psid),
            **changed,
        }

    def role(self, **changed: str) -> str:
        """Run it; returns what it said."""
        done = self.host.role(**self.variables(**changed))
        self.said.append(done.text)
        return done.text

    def take_over(self) -> Result:
        """What the role does with the drive, without Ansible around it; it may fail."""
        given = f"{self.host.drive.serial} {self.public} {self.host.drive.psid} {FIRST}"
        done = self.host.python(_TAKE_OVER, given)
        self.said.append(done.text)
        return done

    def airgap(self, *arguments: str, stdin: str = "", rc: int = 0) -> str:
        """Run a command that must end so."""
        done = self.host.airgap(*arguments, stdin=stdin)
        self.said.append(done.text)
        assert done.rc == rc, done.text
        return done.text

    def secrets(self) -> dict[str, str]:
        """What the newest escrow of a finished change holds."""
        return self.copies(r"OPAL0001-\d{4}\.cms")[-1]

    def copies(self, pattern: str = r"OPAL0001-\d{4}(-planned)?\.cms") -> list[dict[str, str]]:
        """What each escrow holds, oldest first."""
        names = self.host.machine.run("ls /var/lib/airgap/escrow", check=False).text.split()
        return [self._open(name) for name in sorted(names) if re.fullmatch(pattern, name)]

    def _open(self, name: str) -> dict[str, str]:
        """What one holds."""
        opened = json.loads(self.decrypt(name))
        found: dict[str, str] = json.loads(base64.b64decode(opened["payload"]))
        return found

    def decrypt(self, name: str) -> bytes:
        """Open one with openssl and the escrow's private key, far from the host."""
        file, key = self.folder / name, self.folder / "escrow.key"
        file.write_bytes(self.host.machine.get(f"/var/lib/airgap/escrow/{name}"))
        key.write_bytes(self.escrow._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        argv = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", str(file), "-inkey", str(key)]
        return subprocess.run(argv, check=True, capture_output=True).stdout

    def secrets_file(self, **changed: str) -> str:
        """The opened escrow, brought back to the host."""
        return self.host.secret("escrow.json", json.dumps({**self.secrets(), **changed}))

    def cut(self, steps: int, run: Callable[[], Result]) -> Result:
        """Run a command and let power go after so many of the drive's steps, an Opal method or a write each.

        What is left is a drive that an escrow opens, and on which nothing reads as it was written.
        """
        drive = self.host.drive
        drive.cut_after(steps)
        done = run()
        drive.wait()
        status = drive.status()
        reached = status["steps"]  # since the cut was chosen; last_cut may be of an earlier one
        assert isinstance(reached, int)
        assert status["last_cut"]
        assert reached >= steps, f"step {steps} was not reached, {reached} were:\n{done.text}"
        assert self.escrow_opens() == (True, True)
        assert self.is_noise()
        return done

    def escrow_opens(self) -> tuple[bool, bool]:
        """Whether some PIN of the escrows is SID's (a new drive's anybody knows), and some is Admin1's."""
        drive, copies = self.host.drive, self.copies()
        sid = [copy["sid"].encode() for copy in copies] + [drive.msid.encode()]
        admin = [copy["admin"].encode() for copy in copies] + [copy["sid"].encode() for copy in copies]
        sids, admins = drive.script(_LOOK.format(device=drive.device, sid=sid, admin=admin)).splitlines()
        return sids == "True", admins == "True"

    def is_noise(self) -> bool:
        """Whether nothing on the medium reads as it was written."""
        look = f"grep -c '{TEXT[:16].decode()}' {self.host.drive.image}"
        return self.host.machine.run(look, check=False).text == "0"

    def header(self) -> str:
        """Digest of the blocks before the range."""
        return self.host.machine.run(f"head -c {RANGE_AT} {self.host.drive.device} | sha256sum").text

    def reads_fail(self) -> bool:
        """Whether the drive refuses the data."""
        command = f"dd if={self.host.drive.device} of=/dev/null bs=4096 count=1 skip=4096 iflag=direct"
        said = self.host.machine.run(command, check=False).stderr
        print(said.decode())
        return b"No data available" in said
