"""Driver, cards and layout on emulated cards: nvidia-smi's documented formats, not seen on real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance import engine, gpu, units
from custody._run import Completed
from custody.errors import EnvironmentProblem, InputInvalid, OperatorMistake
from tests.unit.appliance.conftest import Programs

KERNEL = os.uname().release
WANTED = gpu.Wanted(kernel=KERNEL, driver="550.163.01")
SPLIT = WANTED.model_copy(update={"mig": ("3g.71gb", "3g.71gb")})


@dataclass
class Card:
    """A GPU that understands the part of nvidia-smi that is used; `stubborn` wants a reset before MIG changes."""

    driver: str = "550.163.01"
    ecc: str = "Enabled"
    uncorrected: str = "0"
    mig: str = "Disabled"
    instances: list[str] = field(default_factory=list)
    stubborn: bool = False


@dataclass
class Host:
    """Cards, module and programs of one host."""

    root: Path
    programs: Programs
    cards: list[Card]
    built: str = "550.163.01"
    loaded: list[str] = field(default_factory=list)

    def run(self, argv: Sequence[str | Path], **others: Any) -> Completed:
        """What the host answers, and what it then is."""
        words = [str(word) for word in argv]
        if words[0] == "modprobe":
            self.loaded.append(words[1].replace("-", "_"))
        if words[0] == "lsmod":
            rows = [f"{name} 4096 0" for name in self.loaded]
            self.programs.answers["lsmod"] = (0, "\n".join(["Module Size Used by", *rows]))
        if words[0] == "dkms":
            self.built = "550.163.01"
        if words[0] == "modinfo":
            self.programs.answers["modinfo"] = (0, self.built) if self.built else (1, "")
        if words[0] == "nvidia-smi":
            self.programs.answers["nvidia-smi"] = (0, self._smi(words[1:]))
        return self.programs.run(argv, **others)

    def _smi(self, words: list[str]) -> str:
        if words[0].startswith("--query-gpu"):
            rows = [(str(n), c.driver, c.ecc, c.uncorrected, c.mig) for n, c in enumerate(self.cards)]
            return "".join(", ".join(row) + "\n" for row in rows)
        if words[0] == "--list-gpus":
            return "".join(self._listed(number, card) for number, card in enumerate(self.cards))
        if words[0].startswith("--id="):
            card = self.cards[int(words[0][5:])]
            if not card.stubborn:
                card.mig = {"0": "Disabled", "1": "Enabled"}[words[1].removeprefix("--multi-instance-gpu=")]
        if words[:2] == ["mig", "--id"]:
            card = self.cards[int(words[2])]
            if words[3] == "--destroy-gpu-instance":
                card.instances.clear()
            if words[3] == "--create-gpu-instance":
                assert card.mig == "Enabled"
                assert words[5] == "--default-compute-instance"
                card.instances += words[4].split(",")
        return ""

    @staticmethod
    def _listed(number: int, card: Card) -> str:
        uuid = "8f0ec1a2-0000-4000-8000-00000000000"
        lines = [f"GPU {number}: NVIDIA H200 (UUID: GPU-{uuid}{number})"]
        lines += [f"  MIG {profile}     Device  {n}: (UUID: MIG-{uuid}{n})" for n, profile in enumerate(card.instances)]
        return "\n".join(lines) + "\n"


@pytest.fixture
def host(programs: Callable[..., Programs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Two whole, healthy cards; the module is built and not loaded."""
    made = Host(tmp_path, programs("appliance.gpu", answers={"systemctl is-active": (3, "inactive")}), [Card(), Card()])
    (tmp_path / "lib/modules" / KERNEL / "build").mkdir(parents=True)
    (tmp_path / "lib/modules" / KERNEL / "build/Makefile").touch()
    served = {"name": "words", "unit": "airgap-engine-words.service", "socket": "/run/words.sock"}
    (tmp_path / "engine.json").write_text(json.dumps({"schema_version": 1, "engines": [served]}))
    monkeypatch.setattr(engine, "CONFIG", tmp_path / "engine.json")
    for module in (gpu, units):
        monkeypatch.setattr(module, "run", made.run)
    return made


def test_the_driver_is_loaded_once(host: Host) -> None:
    assert gpu.prepare(WANTED, root=host.root) == ["load nvidia and nvidia-uvm"]
    assert gpu.prepare(WANTED, root=host.root) == []
    assert host.programs.calls.count("modprobe nvidia") == 1
    assert not host.programs.called("dkms")
    assert "nvidia-modprobe -u -c=0" in host.programs.calls


def test_the_module_is_built_for_the_running_kernel(host: Host) -> None:
    host.built = ""
    assert gpu.prepare(WANTED, root=host.root)[0] == f"build the kernel module 550.163.01 for {KERNEL}"
    assert f"dkms autoinstall --kernelver {KERNEL}" in host.programs.calls


def test_missing_headers_are_told_before_anything_is_built(host: Host) -> None:
    host.built = "535.274.02"
    (host.root / "lib/modules" / KERNEL / "build/Makefile").unlink()
    with pytest.raises(EnvironmentProblem, match=f"expected linux-headers-{KERNEL}"):
        gpu.prepare(WANTED, root=host.root)
    assert not host.programs.called("dkms")


def test_a_build_that_made_nothing_is_an_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_module_version", lambda _kernel: "")
    with pytest.raises(EnvironmentProblem, match="found none"):
        gpu.prepare(WANTED, root=host.root)


def test_another_kernel_is_refused(host: Host) -> None:
    with pytest.raises(EnvironmentProblem, match=r"expected 6\.12\.0-other, found"):
        gpu.prepare(WANTED.model_copy(update={"kernel": "6.12.0-other"}), root=host.root)
    assert host.programs.calls == []


def test_nouveau_in_its_place_is_refused(host: Host) -> None:
    host.loaded.append("nouveau")
    with pytest.raises(EnvironmentProblem, match="found nouveau loaded"):
        gpu.prepare(WANTED, root=host.root)
    assert not host.programs.called("modprobe")


def test_a_dry_run_on_a_host_without_the_driver_asks_no_card(host: Host) -> None:
    host.built = ""
    done = gpu.prepare(WANTED, dry_run=True, root=host.root)
    assert done == [f"build the kernel module 550.163.01 for {KERNEL}", "load nvidia and nvidia-uvm"]
    assert not any(host.programs.called(name) for name in ("dkms", "modprobe", "nvidia"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ecc": "Disabled"}, "GPU 1: expected ECC Enabled, found Disabled"),
        ({"ecc": "[N/A]", "uncorrected": "[N/A]"}, r"GPU 1: expected ECC Enabled, found \[N/A\]"),
        ({"uncorrected": "3"}, "GPU 1: expected no uncorrected memory error, found 3"),
        ({"driver": "535.274.02"}, "GPU 1: expected driver 550.163.01, found 535.274.02"),
    ],
)
def test_a_card_that_is_not_well_is_named(host: Host, change: dict[str, str], said: str) -> None:
    host.cards[1] = Card(**change)  # type: ignore[arg-type]
    with pytest.raises(EnvironmentProblem, match=said):
        gpu.prepare(WANTED, root=host.root)


def test_a_site_may_do_without_ecc(host: Host) -> None:
    host.cards[1] = Card(ecc="[N/A]", uncorrected="[N/A]")
    assert gpu.prepare(WANTED.model_copy(update={"ecc": False}), root=host.root)


def test_no_card_is_an_error(host: Host) -> None:
    host.cards.clear()
    with pytest.raises(EnvironmentProblem, match="found: nothing"):
        gpu.prepare(WANTED, root=host.root)


@pytest.mark.parametrize(("number", "refused"), [(79, True), (48, True), (95, True), (13, False), (31, False)])
def test_an_xid_of_the_card_is_told_from_one_of_a_program(host: Host, number: int, refused: bool) -> None:
    line = f"NVRM: Xid (PCI:0000:17:00): {number}, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    host.programs.answers["journalctl"] = (0, line + "\n")
    if not refused:
        assert gpu.prepare(WANTED, root=host.root)
        return
    with pytest.raises(EnvironmentProblem, match=f"Xid .*: {number},"):
        gpu.prepare(WANTED, root=host.root)


def test_cards_are_split_once_and_made_whole_again(host: Host) -> None:
    gpu.prepare(WANTED, root=host.root)
    assert gpu.prepare(SPLIT, root=host.root) == ["GPU 0: 2 of 3g.71gb", "GPU 1: 2 of 3g.71gb"]
    assert [card.instances for card in host.cards] == [["3g.71gb", "3g.71gb"]] * 2
    assert gpu.prepare(SPLIT, root=host.root) == []
    other = SPLIT.model_copy(update={"mig": ("7g.141gb",)})
    assert gpu.prepare(other, root=host.root) == ["GPU 0: 1 of 7g.141gb", "GPU 1: 1 of 7g.141gb"]
    assert [card.instances for card in host.cards] == [["7g.141gb"]] * 2
    assert gpu.prepare(WANTED, root=host.root) == ["GPU 0: the whole card", "GPU 1: the whole card"]
    assert [card.mig for card in host.cards] == ["Disabled", "Disabled"]


def test_only_the_card_that_differs_is_touched(host: Host) -> None:
    gpu.prepare(SPLIT, root=host.root)
    host.cards[0].instances.clear()
    assert gpu.prepare(SPLIT, dry_run=True, root=host.root) == ["GPU 0: 2 of 3g.71gb"]
    assert host.cards[0].instances == []
    assert gpu.prepare(SPLIT, root=host.root) == ["GPU 0: 2 of 3g.71gb"]


def test_a_layout_stays_while_the_engine_runs(host: Host) -> None:
    gpu.prepare(WANTED, root=host.root)
    host.programs.answers["systemctl is-active"] = (0, "active")
    assert gpu.prepare(WANTED, root=host.root) == []
    with pytest.raises(OperatorMistake, match=r"expected 2 of 3g\.71gb, found the whole card on GPU 0.*engine runs"):
        gpu.prepare(SPLIT, root=host.root)
    assert [card.mig for card in host.cards] == ["Disabled", "Disabled"]


def test_a_card_that_wants_a_reset_first_is_told(host: Host) -> None:
    host.cards[1].stubborn = True
    with pytest.raises(EnvironmentProblem, match="GPU 1: expected MIG mode Enabled, found Disabled"):
        gpu.prepare(SPLIT, root=host.root)


def test_what_the_role_wrote_is_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    file.write_text(SPLIT.model_dump_json())
    assert gpu.load(file) == SPLIT
    file.write_text(SPLIT.model_dump_json().replace("ecc", "ECC"))
    with pytest.raises(InputInvalid, match="ECC"):
        gpu.load(file)
    with pytest.raises(InputInvalid, match="No such file"):
        gpu.load(tmp_path / "none")
