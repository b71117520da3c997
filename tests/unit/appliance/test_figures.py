"""What emulated cards tell, in nvidia-smi's documented format, as the gateway passes it on; not seen on real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance import figures
from appliance.gateway import cards
from custody.errors import ProgramMissing
from tests.unit.appliance.conftest import Programs

WHOLE = "0, 00000000:17:00.0, 37, 1024, 143771, 41, 121.50, 2, 0"
SPLIT = "1, 00000000:CA:00.0, [N/A], [Insufficient Permissions], 143771, 43, [N/A], 0, 0"
XID = "NVRM: Xid (PCI:0000:ca:00{}): {}, pid='<unknown>', name=<unknown>, more"


def told(programs: Callable[..., Programs], tmp_path: Path, smi: tuple[int, str], log: str = "") -> dict[str, float]:
    """Samples as the gateway appends them, by name and labels."""
    answers = {"nvidia-smi": smi, "journalctl": (0 if log else 1, log)}
    programs("appliance.figures", "appliance.gpu", answers=answers)
    (tmp_path / "gpu.prom").write_text(figures.text())
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(cards.figures(tmp_path / "gpu.prom").decode())
        for sample in family.samples if sample.name.startswith("airgap_gpu_")
    }  # fmt: skip


def test_a_card_s_figures_are_in_plain_units(programs: Callable[..., Programs], tmp_path: Path) -> None:
    card = "0 0000:17:00"
    assert told(programs, tmp_path, (0, WHOLE + "\n")) == {
        f"airgap_gpu_utilization_ratio {card}": 0.37,
        f"airgap_gpu_memory_used_bytes {card}": 1024 << 20,
        f"airgap_gpu_memory_total_bytes {card}": 143771 << 20,
        f"airgap_gpu_temperature_celsius {card}": 41,
        f"airgap_gpu_power_watts {card}": 121.5,
        f"airgap_gpu_ecc_corrected_total {card}": 2,
        f"airgap_gpu_ecc_uncorrected_total {card}": 0,
    }


def test_what_a_card_does_not_tell_is_left_out(programs: Callable[..., Programs], tmp_path: Path) -> None:
    found = told(programs, tmp_path, (0, f"{WHOLE}\n{SPLIT}\n"))
    assert [name for name in found if " 1 " in name] == [
        "airgap_gpu_memory_total_bytes 1 0000:ca:00",
        "airgap_gpu_temperature_celsius 1 0000:ca:00",
        "airgap_gpu_ecc_corrected_total 1 0000:ca:00",
        "airgap_gpu_ecc_uncorrected_total 1 0000:ca:00",
    ]


def test_of_a_lost_card_its_xids_are_told(programs: Callable[..., Programs], tmp_path: Path) -> None:
    lost = f"{WHOLE}\nUnable to determine the device handle for GPU1: 0000:CA:00.0: Unknown Error\n"
    log = "\n".join([XID.format("", 79), XID.format(" GPU-I:05", 13), XID.format("", 13), "NVRM: Xid (x): 1, y"])
    found = told(programs, tmp_path, (15, lost), log)
    assert {name: value for name, value in found.items() if "0000:ca:00" in name} == {
        "airgap_gpu_xids_total 0000:ca:00 79": 1,
        "airgap_gpu_xids_total 0000:ca:00 13": 2,
    }
    assert "airgap_gpu_power_watts 0 0000:17:00" in found


@pytest.mark.parametrize(
    "said", ["", "No devices were found\n", "Failed to initialize NVML: x\n", WHOLE[:-3], WHOLE + ", 1"]
)
def test_nothing_said_is_nothing_told(programs: Callable[..., Programs], tmp_path: Path, said: str) -> None:
    assert told(programs, tmp_path, (9, said)) == {}


def test_without_nvidia_smi_there_is_no_file() -> None:
    with pytest.raises(ProgramMissing):
        figures.text()
