"""Two network namespaces and the wire between them: the near end as the role diode sets it up, the far end a diode's.

What the far side wants to send is dropped where it would leave the card, so that nothing of it comes onto the wire;
what comes to it is lost by chance. Needs root, nft and a kernel with NETFILTER_EGRESS; no module of traffic control.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.templates import render

ROOT = Path(__file__).parents[4]
CARD, NEAR, FAR, PORT = "wire", "10.9.0.1", "10.9.0.2", 5514
NEAR_MAC, FAR_MAC = "02:00:00:00:09:01", "02:00:00:00:09:02"
_DIODE = """
table netdev diode {
  chain back {
    type filter hook egress device "wire" priority 0; policy %s;
    counter comment "back"
  }
  chain loss {
    type filter hook ingress device "wire" priority 0;
    numgen random mod 100 < %d counter drop comment "lost"
  }
}
"""


def rendered(name: str, **more: Any) -> str:
    """A template of the role diode, for this wire."""
    values = {
        "diode_interface": CARD, "diode_address": NEAR, "diode_receiver_address": FAR, "diode_receiver_mac": FAR_MAC,
        "diode_receiver_port": PORT, "diode_mtu": 1500, "diode_mount": "/srv/airgap", "diode_venv": "/venv",
        "_diode_family": "4", "_diode_log": "/srv/airgap/audit", "_diode_mount_unit": "srv-airgap.mount", **more,
    }  # fmt: skip
    return render("diode", name, **values)


class End:
    """A network namespace."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = Path("/proc/self/ns/net").stat().st_ino
        while (inode := Path(f"/proc/{self._holder.pid}/ns/net").stat().st_ino) == own:
            pass
        assert inode != own
        self.pid = self._holder.pid

    def argv(self, *argv: str | Path) -> list[str]:
        """A command, inside."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *map(str, argv)]

    def run(self, *argv: str | Path, text: str = "") -> str:
        """What a command prints, which must succeed."""
        done = subprocess.run(self.argv(*argv), input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shout(self, *places: tuple[str, int]) -> None:
        """Try to send a datagram to each place."""
        code = "import socket, sys\nfor at in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        code += " s = socket.socket(type=socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
        code += " try: s.sendto(b'shout', (at[0], int(at[1])))\n except OSError as error: print(error)\n"
        self.run(sys.executable, "-c", code, *(str(word) for place in places for word in place))

    def counter(self, comment: str) -> int:
        """Packets that a rule has seen, over all tables."""
        rules = [
            entry["rule"]
            for entry in json.loads(self.run("nft", "--json", "list", "ruleset"))["nftables"]
            if "rule" in entry
        ]
        (found,) = [rule for rule in rules if rule.get("comment") == comment]
        (packets,) = [part["counter"]["packets"] for part in found["expr"] if "counter" in part]
        return int(packets)

    @contextmanager
    def capture(self) -> Iterator[dict[str, int]]:
        """Frames that come in meanwhile, by kind; filled in at the end."""
        argv = self.argv(sys.executable, Path(__file__).with_name("capture.py"), CARD)
        found: dict[str, int] = {}
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield found
        said = json.loads(process.communicate(timeout=60)[0])
        assert said["dropped"] == 0
        found.update(said["frames"])

    def close(self) -> None:
        """Let it go, with the wire."""
        self._holder.kill()
        self._holder.wait()


@contextmanager
def wire(*, loss_percent: int = 0, one_way: bool = True) -> Iterator[tuple[End, End]]:
    """Near and far end.

    Args:
        one_way: whether nothing comes back, whoever wants it to.
    """
    near, far = End(), End()
    try:
        link: Sequence[str] = (
            "ip", "link", "add", CARD, "address", NEAR_MAC, "netns", str(near.pid), "type", "veth",
            "peer", "name", CARD, "address", FAR_MAC, "netns", str(far.pid),
        )  # fmt: skip
        subprocess.run(link, check=True)
        far.run("nft", "-f", "-", text=_DIODE % ("drop" if one_way else "accept", loss_percent))
        far.run("ip", "address", "add", f"{FAR}/24", "dev", CARD)
        far.run("ip", "link", "set", CARD, "up")
        for line in rendered("airgap-diode-link.service.j2").splitlines():
            if line.startswith("ExecStart="):
                argv = line.removeprefix("ExecStart=").split()
                if argv[0].endswith("nft"):
                    near.run("nft", "-f", "-", text=rendered("diode.nft.j2"))
                else:
                    near.run(*argv)
        yield near, far
    finally:
        near.close()
        far.close()
