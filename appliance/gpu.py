"""NVIDIA GPUs: the kernel module for the running kernel, healthy cards, and the site's MIG layout.

Everything is asked of the system's own programs (dkms, modprobe, nvidia-smi, journalctl) and compared with what the
release was locked for. Refused, with what was expected and what was found: another kernel, missing headers, a module
that was built for something else, nouveau in its place, a card without ECC or with uncorrected errors, an Xid that
tells of the card and not of a program (NVIDIA, "XID Errors"), and another layout while the engine runs.

A layout lives as long as the driver is loaded, so `airgap-gpu.service` makes it anew at every start ("NVIDIA
Multi-Instance GPU User Guide", Deployment Considerations). The formats of nvidia-smi are those of its manual page.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from appliance import engine, units
from custody._run import run
from custody.errors import EnvironmentProblem, InputInvalid, OperatorMistake

CONFIG = Path("/etc/airgap/gpu.json")
#: What Debian's nvidia-open-kernel-dkms calls its module; its modprobe.d makes `nvidia` of it.
_BUILT = "nvidia-current-open"
#: Loaded in this order; the second is what CUDA allocates memory through.
_MODULES = ("nvidia", "nvidia-uvm")
_QUERY = (
    "index", "driver_version", "ecc.mode.current", "ecc.errors.uncorrected.volatile.total", "mig.mode.current",
)  # fmt: skip
_GPU_LINE = re.compile(r"GPU (?P<index>\d+): .*\(UUID: GPU-")
_MIG_LINE = re.compile(r"\s+MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: MIG-")
_XID = re.compile(r"NVRM: Xid \((?P<card>[^)]*)\): (?P<number>\d+),")
#: What a faulty program causes by itself: graphics engine exception, page fault, reset channel, preemptive cleanup.
_XIDS_OF_PROGRAMS = frozenset((13, 31, 43, 45))
_BUILD_TIMEOUT_S = 3600


class Wanted(BaseModel):
    """What the release and the site say; also the file that the role gpu leaves for later starts.

    Attributes:
        kernel: as `uname -r` says.
        driver: upstream version (`550.163.01`).
        mig: profiles of the instances of each GPU (`3g.71gb`); empty: GPUs are whole.
        ecc: whether a GPU that has no ECC switched on is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    kernel: str
    driver: str
    mig: tuple[str, ...] = ()
    ecc: bool = True


@dataclass(frozen=True)
class Gpu:
    """One card, as nvidia-smi describes it; `uncorrected` is a count or what stands in its place."""

    index: str
    driver: str
    ecc: str
    uncorrected: str
    mig: str


def load(path: Path = CONFIG) -> Wanted:
    """Read the file of the role gpu.

    Raises:
        InputInvalid: missing or not what it should be.
    """
    try:
        return Wanted.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputInvalid(f"{path}: {error.strerror}", "airgap install writes it on a host with a GPU") from error
    except ValidationError as error:
        raise InputInvalid(f"{path}: {error}", "airgap install writes it again") from error


def prepare(wanted: Wanted, *, dry_run: bool = False, root: Path = Path("/")) -> list[str]:
    """Build and load the module, check the cards, bring them to the layout.

    Args:
        dry_run: only say what would be done; on a host without the driver that is all that can be said.
        root: where /lib lies; another one only in tests.

    Returns:
        What was, or would be, done.

    Raises:
        EnvironmentProblem: kernel, headers, module or a card are not as they should be.
        OperatorMistake: the layout differs and the engine runs.
    """
    if (running := os.uname().release) != wanted.kernel:
        raise EnvironmentProblem(
            f"kernel: expected {wanted.kernel}, found {running} running",
            f"start the host with linux-image-{wanted.kernel}, then run the same command again",
        )
    done = _build(wanted, dry_run, root)
    loaded = {line.split()[0] for line in run(["lsmod"]).text.splitlines()}
    missing = [name for name in _MODULES if name.replace("-", "_") not in loaded]
    if dry_run and missing:
        return [*done, f"load {' and '.join(missing)}"]
    done += _load(missing, "nouveau" in loaded)
    found = gpus()
    _check(found, wanted)
    _check_xids()
    return done + _lay_out(found, wanted.mig, dry_run)


def gpus() -> list[Gpu]:
    """All cards that the driver sees.

    Raises:
        EnvironmentProblem: none.
    """
    listing = run(["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader"]).text
    rows = [[field.strip() for field in row] for row in csv.reader(listing.splitlines())]
    if not rows or any(len(row) != len(_QUERY) for row in rows):
        raise EnvironmentProblem(
            f"nvidia-smi: expected one line of {len(_QUERY)} fields for each GPU, found: {listing or 'nothing'}",
            "journalctl --dmesg --boot --grep=NVRM",
        )
    return [Gpu(*row) for row in rows]


def layouts() -> dict[str, Counter[str]]:
    """Instances by profile, of each GPU by index."""
    found: dict[str, Counter[str]] = {}
    for line in run(["nvidia-smi", "--list-gpus"]).text.splitlines():
        if card := _GPU_LINE.match(line):
            current = found.setdefault(card["index"], Counter())
        elif instance := _MIG_LINE.match(line):
            current[instance["profile"]] += 1
    return found


def xids() -> list[re.Match[str]]:
    """Errors that the driver has logged since the start: `card` as it names it (`PCI:0000:17:00`), and `number`."""
    log = run(["journalctl", "--dmesg", "--boot", "--output=cat", "--grep=NVRM: Xid"], ok=(0, 1)).text
    return [xid for line in log.splitlines() if (xid := _XID.search(line))]


def _build(wanted: Wanted, dry_run: bool, root: Path) -> list[str]:
    """Have DKMS build the module, unless the running kernel has it in this version."""
    if _module_version(wanted.kernel) == wanted.driver:
        return []
    if not (root / "lib/modules" / wanted.kernel / "build" / "Makefile").is_file():
        raise EnvironmentProblem(
            f"kernel headers: expected linux-headers-{wanted.kernel}, found no /lib/modules/{wanted.kernel}/build",
            f"dpkg --status linux-headers-{wanted.kernel}",
        )
    if not dry_run:
        run(["dkms", "autoinstall", "--kernelver", wanted.kernel], timeout_s=_BUILD_TIMEOUT_S)
        if (built := _module_version(wanted.kernel)) != wanted.driver:
            raise EnvironmentProblem(
                f"kernel module nvidia for {wanted.kernel}: expected {wanted.driver}, found {built or 'none'}",
                f"dkms status; cat /var/lib/dkms/{_BUILT}/{wanted.driver}/build/make.log",
            )
    return [f"build the kernel module {wanted.driver} for {wanted.kernel}"]


def _module_version(kernel: str) -> str:
    return run(["modinfo", "--set-version", kernel, "--field", "version", _BUILT], ok=(0, 1)).text


def _load(missing: list[str], has_nouveau: bool) -> list[str]:
    if has_nouveau:
        raise EnvironmentProblem(
            "GPU: expected no other driver, found nouveau loaded",
            "it is kept out from the next start on: reboot, then run the same command again",
        )
    for name in missing:
        run(["modprobe", name])
    # What the engine must not be able to do: it makes the device nodes, which needs root.
    run(["nvidia-modprobe", "-u", "-c=0"])
    return [f"load {' and '.join(missing)}"] if missing else []


def _check(found: list[Gpu], wanted: Wanted) -> None:
    complaints = []
    for gpu in found:
        if gpu.driver != wanted.driver:
            complaints.append(f"GPU {gpu.index}: expected driver {wanted.driver}, found {gpu.driver}")
        if wanted.ecc and gpu.ecc != "Enabled":
            complaints.append(f"GPU {gpu.index}: expected ECC Enabled, found {gpu.ecc}")
        if gpu.ecc == "Enabled" and gpu.uncorrected not in ("0", "[N/A]"):
            complaints.append(f"GPU {gpu.index}: expected no uncorrected memory error, found {gpu.uncorrected}")
    if complaints:
        raise EnvironmentProblem("\n".join(complaints), "nvidia-smi --query --display=ECC,ROW_REMAPPER")


def _check_xids() -> None:
    lines = [xid.string for xid in xids() if int(xid["number"]) not in _XIDS_OF_PROGRAMS]
    if lines:
        raise EnvironmentProblem(
            f"GPU: expected no error of the card since the start, found {len(lines)}\n" + "\n".join(lines[-5:]),
            "look the Xid up in NVIDIA's list; have the card replaced, or reboot and see whether it comes again",
        )


def _lay_out(found: list[Gpu], mig: tuple[str, ...], dry_run: bool) -> list[str]:
    there = layouts()
    differing = [
        gpu for gpu in found
        if there.get(gpu.index, Counter()) != Counter(mig) or (gpu.mig == "Enabled") != bool(mig)
    ]  # fmt: skip
    if not differing:
        return []
    running = [each.unit for each in engine.load() if units.state(each.unit) in ("active", "activating")]
    if running:
        raise OperatorMistake(
            f"MIG: expected {_words(Counter(mig))}, found "
            + ", ".join(f"{_words(there.get(gpu.index, Counter()))} on GPU {gpu.index}" for gpu in differing)
            + ", and the engine runs",
            f"systemctl stop {' '.join(running)}, then run the same command again",
        )
    if not dry_run:
        for gpu in differing:
            _remake(gpu, bool(there.get(gpu.index)), mig)
    return [f"GPU {gpu.index}: {_words(Counter(mig))}" for gpu in differing]


def _remake(gpu: Gpu, has_instances: bool, mig: tuple[str, ...]) -> None:
    smi = ["nvidia-smi", "mig", "--id", gpu.index]
    if has_instances:
        run([*smi, "--destroy-compute-instance"])
        run([*smi, "--destroy-gpu-instance"])
    if (gpu.mig == "Enabled") != bool(mig):
        run(["nvidia-smi", f"--id={gpu.index}", f"--multi-instance-gpu={int(bool(mig))}"])
        now = next(each.mig for each in gpus() if each.index == gpu.index)
        if (now == "Enabled") != bool(mig):
            raise EnvironmentProblem(
                f"GPU {gpu.index}: expected MIG mode {'Enabled' if mig else 'Disabled'}, found {now}: the card wants "
                "a reset first",
                f"nvidia-smi --gpu-reset --id={gpu.index} or reboot, then run the same command again",
            )
    if mig:
        run([*smi, "--create-gpu-instance", ",".join(mig), "--default-compute-instance"])


def _words(layout: Counter[str]) -> str:
    return ", ".join(f"{count} of {profile}" for profile, count in sorted(layout.items())) or "the whole card"
