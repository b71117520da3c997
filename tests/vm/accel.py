"""Choose QEMU's accelerator by trying it: `/dev/kvm` may exist and still not start a stock kernel."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from .images import CACHE, Image

KVM = ("-accel", "kvm", "-cpu", "host")
TCG = ("-accel", "tcg", "-cpu", "max,la57=off")  # five levels of page tables cost time
_PROBE_S = 30.0
_ALIVE = b"Run /init as init process"  # the kernel has unpacked itself and its initrd


def accelerator(image: Image) -> tuple[str, ...]:
    """Return QEMU's options for the fastest accelerator that starts the image's kernel.

    The answer is kept until the builder restarts. `AIRGAP_VM_ACCEL` (`kvm` or `tcg`) overrides it.
    """
    forced = os.environ.get("AIRGAP_VM_ACCEL")
    if forced:
        return {"kvm": KVM, "tcg": TCG}[forced]
    answer = CACHE / "accel.json"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = json.loads(answer.read_text()) if answer.exists() else {}
    if known.get("boot") != boot:
        known = {"boot": boot, "kvm": os.access("/dev/kvm", os.R_OK | os.W_OK) and _starts(image)}
        answer.write_text(json.dumps(known))
    return KVM if known["kvm"] else TCG


def _starts(image: Image) -> bool:
    """Start the kernel under KVM and say whether it reaches its first program."""
    machine = ("-m", "512", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", *KVM)
    kernel = ("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", "console=ttyS0 panic=-1")
    with tempfile.TemporaryFile() as log:
        command = ("qemu-system-x86_64", *machine, *kernel)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _PROBE_S
            while time.monotonic() < deadline:
                running = process.poll() is None
                seen = os.pread(log.fileno(), 1 << 20, 0)
                if _ALIVE in seen:
                    return True
                if not running or b"KVM internal error" in seen:
                    return False
                time.sleep(0.1)
            return False
        finally:
            process.kill()
            process.wait()
