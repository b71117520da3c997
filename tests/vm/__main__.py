"""Run a guest by hand: `python -m tests.vm appliance`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .hosts import load_hosts
from .machine import Machine
from .qemu import Share


def main() -> None:
    """Start a machine, say how to log in, and wait until Enter is pressed."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description=__doc__)
    parser.add_argument("host", choices=sorted(load_hosts()))
    parser.add_argument("--work-dir", type=Path, help="keep disks and logs here, and use them again")
    parser.add_argument("--share", type=Path, help="a folder that the guest may mount, read-only, as 9p tag `share`")
    arguments = parser.parse_args()
    shares = {"share": Share(arguments.share)} if arguments.share else {}
    with Machine(arguments.host, work_dir=arguments.work_dir, shares=shares) as machine:
        print(f"{machine.accelerator}; serial line: {machine.serial_log}")
        print(f"login works after {machine.wait_ssh():.0f} s: ssh -F {machine.ssh_config()} {machine.host.name}")
        input("Enter pulls the plug. ")


if __name__ == "__main__":
    main()
