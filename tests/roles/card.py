#!/usr/bin/python3
"""An emulated GPU: stands in for the programs that speak to one, in the formats that their manuals document.

Called by the names of those programs; what the card is lies in a file. Everything else goes to the real program.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

STATE = Path("/run/card.json")
DRIVER = "550.163.01"
UUID = "8f0ec1a2-0000-4000-8000-00000000000"
FIELDS = {
    "index": "0", "driver_version": DRIVER, "ecc.mode.current": "Enabled", "pci.bus_id": "00000000:17:00.0",
    "utilization.gpu": "[N/A]", "memory.used": "1024", "memory.total": "143771", "temperature.gpu": "41",
    "power.draw": "121.50", "ecc.errors.corrected.volatile.total": "2", "ecc.errors.uncorrected.volatile.total": "0",
}  # fmt: skip
NEW = {"loaded": [], "mig": "Disabled", "instances": []}

name, words = Path(sys.argv[0]).name, sys.argv[1:]
card: dict[str, Any] = json.loads(STATE.read_text()) if STATE.exists() else NEW
before = json.dumps(card)
if name == "modinfo" and words[-1] == "nvidia-current-open":
    print(DRIVER)
elif name == "modprobe" and words[0].startswith("nvidia"):
    card["loaded"].append(words[0].replace("-", "_"))
elif name == "lsmod":
    print("Module Size Used by", *(f"{module} 4096 0" for module in card["loaded"]), sep="\n")
elif name in ("modinfo", "modprobe"):
    os.execv(f"/usr/sbin/{name}", sys.argv)
elif name == "nvidia-smi" and words[0].startswith("--query-gpu="):
    print(", ".join(FIELDS.get(field, card["mig"]) for field in words[0].partition("=")[2].split(",")))
elif name == "nvidia-smi" and words == ["--list-gpus"]:
    print(f"GPU 0: NVIDIA H200 (UUID: GPU-{UUID}0)")
    for number, profile in enumerate(card["instances"]):
        print(f"  MIG {profile}     Device  {number}: (UUID: MIG-{UUID}{number})")
elif name == "nvidia-smi" and words[0] == "--id=0":
    card["mig"] = {"0": "Disabled", "1": "Enabled"}[words[1].removeprefix("--multi-instance-gpu=")]
elif name == "nvidia-smi" and words[:3] == ["mig", "--id", "0"]:
    if words[3] == "--destroy-gpu-instance":
        card["instances"] = []
    if words[3] == "--create-gpu-instance":
        card["instances"] += words[4].split(",")
elif name != "nvidia-modprobe":
    sys.exit(f"{name}: not emulated: {words}")
if json.dumps(card) != before:  # who only asks may not be allowed to write
    STATE.write_text(json.dumps(card))
