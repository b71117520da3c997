"""The engine sees the cards of a GPU host, and no device anywhere else."""

from __future__ import annotations

from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parents[3] / "roles/engine/templates"


def unit(gpu: bool) -> list[str]:
    """Lines of the unit, rendered as Ansible does."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, autoescape=True)
    template = environment.get_template("airgap-engine.service.j2")
    return template.render(
        engine_gpu=gpu, engine_venv="/v", engine_port=8080, engine_mount="/m", _engine_mount_unit="m.mount",
    ).splitlines()  # fmt: skip


def test_without_a_gpu_there_are_no_devices() -> None:
    lines = unit(gpu=False)
    assert {"PrivateDevices=yes", "DevicePolicy=closed", "ProcSubset=pid"} <= set(lines)
    assert "SystemCallFilter=~@privileged @resources" in lines
    assert not [line for line in lines if "gpu" in line or line.startswith("DeviceAllow")]


def test_with_a_gpu_only_its_devices_are_added() -> None:
    plain, lines = unit(gpu=False), unit(gpu=True)
    assert [line for line in lines if line not in plain and not line.startswith("#")] == [
        "Requires=airgap-gpu.service",
        "After=airgap-gpu.service",
        "DeviceAllow=char-nvidia* rw",
        "SystemCallFilter=~@privileged",
    ]
    assert [line for line in plain if line not in lines] == [
        "PrivateDevices=yes",
        "ProcSubset=pid",
        "SystemCallFilter=~@privileged @resources",
    ]
