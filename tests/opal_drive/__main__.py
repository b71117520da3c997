"""Run the drive.

python -m tests.opal_drive --image drive.img --size-mib 256 --serial OPAL0001 --listen 127.0.0.1:4420
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from . import control
from .drive import Drive
from .faults import Fault, FaultError, model
from .media import Media
from .power import Power
from .state import FileStore, StateError
from .target import Target

_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; SIGHUP cycles power. Returns the exit code."""
    options = _parser().parse_args(arguments)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # threads inherit it; only the wait below takes signals
    log = _log if options.verbose else _ignore
    try:
        target = _target(options, log)
    except (FaultError, StateError, OSError) as error:
        print(f"opal_drive: {error}", file=sys.stderr)
        return 1
    if options.control:
        control.serve(options.control, target)
    target.start()
    print(label(target), flush=True)
    while signal.sigwait(_SIGNALS) == signal.SIGHUP:
        target.power_cycle()
    target.close()
    return 0


def label(target: Target) -> str:
    """Return what is printed on the drive, and how to connect to it."""
    identity, (host, port) = target.drive.state.identity, target.address
    psid = identity.psid.decode() if target.drive.model.has_psid else "none"
    return (
        f"serial {identity.serial}  MSID {identity.msid.decode()}  PSID {psid}\n"
        f"ready: nvme connect -t tcp -a {host} -s {port} -n {target.subsystem.name}"
    )


def _target(options: argparse.Namespace, log: Callable[[str], None]) -> Target:
    faults = {Fault(name) for name in options.fault}
    made = model(faults, options.size_mib << 20)
    state_path = options.image.with_name(f"{options.image.name}.state")
    power = Power(options.cut_after)
    drive = Drive(FileStore(state_path), Media(options.image, made), made, serial=options.serial, power=power, log=log)
    drive.suffer(faults)
    return Target(drive, drive.state.identity.serial, options.listen, log)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.opal_drive", description="An emulated self-encrypting drive."
    )
    parser.add_argument(
        "--image", type=Path, required=True, help="sparse file; made when missing, with IMAGE.state beside it"
    )
    parser.add_argument("--size-mib", type=int, default=256, help="user capacity (default: %(default)s)")
    parser.add_argument("--serial", default="OPAL0001", help="of a new image (default: %(default)s)")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 4420), metavar="ADDRESS:PORT")
    names = [fault.value for fault in Fault]
    parser.add_argument("--fault", action="append", default=[], choices=names, help="may be given several times")
    parser.add_argument("--cut-after", type=int, metavar="N", help="lose power after the N-th method or write")
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="unix socket of tests.opal_drive.control")
    parser.add_argument("--verbose", action="store_true", help="every method and its status on stderr")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, _colon, port = text.rpartition(":")
    return host, int(port)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ignore(line: str) -> None:
    """Say nothing."""


if __name__ == "__main__":
    raise SystemExit(main())
