"""The role gpu over an emulated card (tests/roles/card.py): the order of things, not the hardware."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

PROGRAM = "/opt/airgap/current/venv/bin/airgap gpu"
LAYOUT = ["3g.71gb", "3g.71gb"]


def instances(host: Any) -> list[str]:
    """What the card is split into."""
    found: list[str] = json.loads(host.check_output("cat /run/card.json"))["instances"]
    return found


def test_the_card_is_split_as_the_site_says(host: Any) -> None:
    assert instances(host) == LAYOUT
    assert host.check_output(PROGRAM) == "gpu: as they should be"


def test_a_layout_that_a_restart_lost_is_made_again(host: Any) -> None:
    host.check_output("rm /run/card.json")
    host.check_output("systemctl restart airgap-gpu.service")
    assert instances(host) == LAYOUT


def test_the_card_s_figures_are_there_for_the_gateway(host: Any) -> None:
    assert host.check_output("systemctl is-active airgap-gpu-figures.timer") == "active"
    host.check_output("systemctl start airgap-gpu-figures.service")
    file = host.file("/run/airgap-gpu/gpu.prom")
    assert (file.user, file.mode) == ("root", 0o644)
    assert 'airgap_gpu_memory_total_bytes{gpu="0",pci="0000:17:00"} 150754820096' in file.content_string
    assert host.run("runuser -u airgap-gateway -- cat /run/airgap-gpu/gpu.prom").rc == 0


def test_the_units_may_do_no_more_than_they_need(exposure: Callable[..., None]) -> None:
    exposure("airgap-gpu-figures.service")
    exposure("airgap-gpu.service", 4.0)  # loads modules: docs/reference/roles.md


def test_nouveau_is_kept_out(host: Any) -> None:
    assert host.check_output("modprobe --showconfig | grep -x 'blacklist nouveau'")


def test_a_running_engine_keeps_its_layout(host: Any) -> None:
    served = {
        "schema_version": 1,
        "engines": [{"name": "words", "unit": "airgap-engine-words.service", "socket": "/-"}],
    }
    host.check_output(f"echo '{json.dumps(served)}' >/etc/airgap/engine.json")
    host.check_output("systemd-run --quiet --unit=airgap-engine-words.service sleep 300")
    host.check_output("sed -i.kept 's/3g.71gb/1g.18gb/' /etc/airgap/gpu.json")
    done = host.run(PROGRAM)
    host.check_output("mv /etc/airgap/gpu.json.kept /etc/airgap/gpu.json; systemctl stop airgap-engine-words.service")
    host.check_output("rm /etc/airgap/engine.json")
    assert done.rc == 20
    assert "and the engine runs" in done.stderr
    assert instances(host) == LAYOUT
