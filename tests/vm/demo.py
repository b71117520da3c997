"""`make demo`: walk the whole path and end with one screen."""

from __future__ import annotations

import sys
import textwrap
import time

from tests.vm import path, served
from tests.vm.machine import Machine


def main() -> None:
    """Walk the path; the last screen goes to standard output."""
    begun_s = time.monotonic()
    walk = path.new_walk(path.ROOT / "build" / "demo", watched=False)  # the tests' walk is watched
    walk.screen = sys.stderr
    path.make_bundle(walk, path.cache_folder())
    path.sign(walk)
    medium = path.burn(walk)
    with path.appliance(walk) as machine, machine.capture(walk.work / "appliance.pcap"):
        path.install(walk, machine, medium)
        with walk.stage("question over TLS"):
            first = path.ask(walk, machine)
        path.reboot_and_unlock(walk, machine)
        with walk.stage("question after unlock"):
            second = path.ask(walk, machine)
        checks = proven(walk, machine, first, second)
    walk.seconds["all of it"] = time.monotonic() - begun_s
    print(screen(walk, checks, second))
    if not all(checks.values()):
        sys.exit(1)


def proven(walk: path.Walk, machine: Machine, first: str, second: str) -> dict[str, bool]:
    """What the demo claims of an appliance that was unlocked after a reboot, and whether it is so."""
    volume = machine.run("lsblk -dno FSTYPE $(readlink -f /dev/disk/by-id/virtio-AIRGAPDATA01)").text.strip()
    closed = "airgap-data" not in walk.facts["mapper while locked"]
    return {
        "no default route in any table, v4 and v6": path.default_routes(machine) == "",
        "192.0.2.1 cannot be reached": machine.run("ip route get 192.0.2.1", check=False).rc != 0,
        "data volume is LUKS2, closed after a reboot": volume == "crypto_LUKS" and closed,
        "ssh listened soon after the boot, while locked": path.soon(walk),
        "locked service refused (503)": walk.facts["status while locked"] == "503",
        "no unit failed while locked": walk.facts["failed units while locked"] == "",
        **served.look(walk, machine),
        "same answer before and after": first == second and bool(first),
    }


def screen(walk: path.Walk, checks: dict[str, bool], answer: str) -> str:
    """One screen of 78 columns: times, sizes, what was proven, question and answer."""
    rule = "=" * 78
    return "\n".join(
        (
            "",
            rule,
            f"airgap demo: from a manifest to an answer behind an air gap ({walk.facts['accelerator']})",
            rule,
            f"{'stage':32}{'time':>10}",
            *(f"{name:32}{seconds:>8.0f} s" for name, seconds in walk.seconds.items()),
            "",
            *(f"{name:32}{size / 1e6:>7.1f} MB" for name, size in walk.sizes.items()),
            "",
            "proven on the appliance",
            *(f"  {'yes' if good else 'NO '}  {text}" for text, good in checks.items()),
            "",
            f"question: {path.QUESTION}",
            textwrap.fill(answer, 78, initial_indent="answer:   ", subsequent_indent="          "),
            rule,
        )
    )


if __name__ == "__main__":
    main()
