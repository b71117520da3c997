"""An emulated TPM 2.0 (swtpm, a program), which systemd takes for a real one; tests measure boots into it."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import time
from pathlib import Path
from types import TracebackType

_START_S = 10.0
#: TPM 2.0 Library, part 2: TPM_ST_NO_SESSIONS, TPM_ST_SESSIONS, TPM_RS_PW, TPM_ALG_SHA256, TPM_CAP_HANDLES; commands.
_PLAIN, _SESSIONS, _PASSWORD, _SHA256, _HANDLES = 0x8001, 0x8002, 0x40000009, 0x000B, 1
_EXTEND, _FLUSH, _CAPABILITY, _SHUTDOWN = 0x182, 0x165, 0x17A, 0x145
#: First handles of sessions that are loaded, and of objects.
_KINDS = (0x02000000, 0x80000000)


class Swtpm:
    """One TPM, from `with` to the end of the block; its keys lie in a folder, and PCRs are zero at each start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def device(self) -> str:
        """As `--tpm2-device=` takes it."""
        return f"swtpm:path={self._socket}"

    @property
    def _socket(self) -> Path:
        return self.folder / "tpm"

    def __enter__(self) -> Swtpm:
        """Switch it on."""
        for old in (self._socket, Path(f"{self._socket}.ctrl")):
            old.unlink(missing_ok=True)
        state = ("--tpmstate", f"dir={self.folder}", "--flags", "startup-clear,not-need-init")
        server = ("--server", f"type=unixio,path={self._socket}", "--ctrl", f"type=unixio,path={self._socket}.ctrl")
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(["swtpm", "socket", "--tpm2", *state, *server], stdout=log, stderr=log)
        wait_listening(self._socket, self.folder / "log")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Switch it off in an orderly way, else it takes it for an attempt to guess; the folder stays."""
        assert self._process is not None
        self._ask(_PLAIN, _SHUTDOWN, struct.pack(">H", 0))
        self._process.terminate()
        self._process.wait()

    def extend(self, pcr: int, digest: bytes) -> None:
        """Measure something, as firmware does while it boots.

        Args:
            digest: 32 bytes, of SHA-256.
        """
        authorization = struct.pack(">IHBH", _PASSWORD, 0, 0, 0)
        body = struct.pack(">II", pcr, len(authorization)) + authorization + struct.pack(">IH", 1, _SHA256) + digest
        self._ask(_SESSIONS, _EXTEND, body)

    def flush(self) -> None:
        """Forget what a program left loaded: what the kernel does when it closes the device."""
        for kind in _KINDS:
            found = self._ask(_PLAIN, _CAPABILITY, struct.pack(">III", _HANDLES, kind, 64))
            (count,) = struct.unpack_from(">I", found, 5)
            for handle in struct.unpack_from(f">{count}I", found, 9):
                self._ask(_PLAIN, _FLUSH, struct.pack(">I", handle))

    def _ask(self, tag: int, command: int, body: bytes) -> bytes:
        """The parameters of the TPM's answer (part 1, section 18)."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self._socket))
            client.sendall(struct.pack(">HII", tag, 10 + len(body), command) + body)
            answer = client.recv(4096)
        if struct.unpack_from(">I", answer, 6) != (0,):
            raise OSError(f"TPM command {command:#x}: {answer.hex()}")
        return answer[10:]


def wait_listening(server: Path, log: Path) -> None:
    """Wait until somebody listens on a Unix socket: between its file and that, a client is refused.

    Args:
        log: what swtpm says.
    """
    deadline = time.monotonic() + _START_S
    # Flags and path of each socket (proc(5)); the flag is __SO_ACCEPTCON.
    while not re.search(rf" 00010000 .* {re.escape(str(server))}$", Path("/proc/net/unix").read_text(), re.MULTILINE):
        if time.monotonic() > deadline:
            raise TimeoutError(f"swtpm did not start: {log.read_text()}")
        time.sleep(0.02)
