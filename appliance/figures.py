"""What GPUs tell, as a file for Prometheus: `python -m appliance.figures`, by `airgap-gpu-figures.timer`.

Asked are nvidia-smi and the kernel's log. What a card does not tell (`[N/A]`; the utilisation of one that is split) is
left out, and so is a card that nvidia-smi has lost; its Xids stay. The format of nvidia-smi is that of its manual page.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from appliance import gpu
from custody._run import run
from custody.atomic import write_whole
from custody.errors import AirgapError

FILE = Path("/run/airgap-gpu/gpu.prom")
#: Field of nvidia-smi → name, type, its unit in ours, meaning. Memory is told in MiB.
_FIELDS = {
    "utilization.gpu": ("utilization_ratio", "gauge", 0.01, "Share of the last moments in which something ran."),
    "memory.used": ("memory_used_bytes", "gauge", 1 << 20, "Memory in use."),
    "memory.total": ("memory_total_bytes", "gauge", 1 << 20, "Memory."),
    "temperature.gpu": ("temperature_celsius", "gauge", 1, "Temperature."),
    "power.draw": ("power_watts", "gauge", 1, "Power drawn."),
    "ecc.errors.corrected.volatile.total": (
        "ecc_corrected_total", "counter", 1, "Memory errors corrected since the driver was loaded.",
    ),
    "ecc.errors.uncorrected.volatile.total": (
        "ecc_uncorrected_total", "counter", 1, "Memory errors not corrected since the driver was loaded.",
    ),
}  # fmt: skip
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
#: Index, PCI address, fields. The kernel's log says an address without its domain's first half and its function.
_ROW = re.compile(r"(\d+), [0-9A-F]{4}([0-9A-F]{4}:[0-9A-F]{2}:[0-9A-F]{2})\.[0-7], (.*)", re.IGNORECASE)
_LOGGED = re.compile(r"PCI:([0-9A-F:]+)", re.IGNORECASE)
_TIMEOUT_S = 20


def text() -> str:
    """All cards' figures in Prometheus's format.

    Raises:
        ProgramFailed: nvidia-smi does not end.
        ProgramMissing: it is not there.
    """
    query = f"--query-gpu=index,pci.bus_id,{','.join(_FIELDS)}"
    # One lost card makes it fail, after it has told of the others.
    listing = run(["nvidia-smi", query, "--format=csv,noheader,nounits"], ok=range(256), timeout_s=_TIMEOUT_S).text
    rows = [row for row in map(_ROW.fullmatch, listing.splitlines()) if row and row[3].count(", ") == len(_FIELDS) - 1]
    cards = {f'gpu="{row[1]}",pci="{row[2].lower()}"': row[3].split(", ") for row in rows}
    made: list[str] = []
    for place, (name, kind, unit, meaning) in enumerate(_FIELDS.values()):
        values = {card: float(told[place]) * unit for card, told in cards.items() if _NUMBER.fullmatch(told[place])}
        made += _family(name, kind, meaning, values)
    xids = Counter(
        f'pci="{card[1].lower()}",xid="{xid["number"]}"' for xid in gpu.xids() if (card := _LOGGED.match(xid["card"]))
    )
    return "".join(made + _family("xids_total", "counter", "Xids in the kernel log since the start.", xids))


def _family(name: str, kind: str, meaning: str, values: Mapping[str, float]) -> list[str]:
    """A figure's lines; none if no card tells it."""
    if not values:
        return []
    about = [f"# HELP airgap_gpu_{name} {meaning}\n", f"# TYPE airgap_gpu_{name} {kind}\n"]
    return about + [f"airgap_gpu_{name}{{{labels}}} {value:.15g}\n" for labels, value in sorted(values.items())]


if __name__ == "__main__":
    try:
        write_whole(FILE, text().encode())
    except AirgapError as error:
        sys.exit(f"figures: {error.message}\n  next: {error.hint}")
