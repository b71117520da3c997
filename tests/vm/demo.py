"""`make demo`: walk the whole path and end with one screen."""

from __future__ import annotations

import sys
import textwrap
import time

from tests.vm import path


def main() -> None:
    """Walk the path; the last screen goes to standard output."""
    begun_s = time.monotonic()
    walk = path.new_walk(path.ROOT / "build" / "demo")
    path.make_bundle(walk, path.cache_folder())
    path.sign(walk)
    medium = path.burn(walk)
    pcap = walk.work / "appliance.pcap"
    with path.appliance(walk) as machine, machine.capture(pcap):
        path.install(walk, machine, medium)
        with walk.stage("question over TLS"):
            first = path.ask(walk, machine)
        path.reboot_and_unlock(walk, machine)
        with walk.stage("question after unlock"):
            second = path.ask(walk, machine)
        routes = machine.run("ip route show table all default; ip -6 route show table all default").text
        reach = machine.run("ip route get 192.0.2.1", check=False)
        volume = machine.run("lsblk -dno FSTYPE $(readlink -f /dev/disk/by-id/virtio-AIRGAPDATA01)").text.strip()
    _screen(walk, first, second, routes, reach.rc, volume, time.monotonic() - begun_s)


def _screen(walk: path.Walk, first: str, second: str, routes: str, reach: int, volume: str, total_s: float) -> None:
    rule = "=" * 78
    print(
        f"\n{rule}\nairgap demo: from a manifest to an answer behind an air gap ({walk.facts['accelerator']})\n{rule}"
    )
    print(f"{'stage':32}{'time':>10}")
    for name, seconds in walk.seconds.items():
        print(f"{name:32}{seconds:>8.0f} s")
    print(f"{'all of it':32}{total_s:>8.0f} s\n")
    for name, size in walk.sizes.items():
        print(f"{name:32}{size / 1e6:>7.1f} MB")
    print("\nproven on the appliance")
    checks = (
        ("no default route in any table, v4 and v6", not routes),
        ("192.0.2.1 cannot be reached", reach != 0),
        (
            "data volume is LUKS2, closed after a reboot",
            volume == "crypto_LUKS" and "airgap-data" not in walk.facts["mapper while locked"],
        ),
        ("ssh listened soon after the boot, while locked", path.soon(walk)),
        ("locked service refused (503)", walk.facts["status while locked"] == "503"),
        ("no unit failed while locked", not walk.facts["failed units while locked"]),
        ("same answer before and after", first == second and bool(first)),
    )
    for text, good in checks:
        print(f"  {'yes' if good else 'NO '}  {text}")
    print(f"\nquestion: {path.QUESTION}")
    print(textwrap.fill(second, 78, initial_indent="answer:   ", subsequent_indent="          "))
    print(rule)
    if not all(good for _, good in checks):
        sys.exit(1)


if __name__ == "__main__":
    main()
