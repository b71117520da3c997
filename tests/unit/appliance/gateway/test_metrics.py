"""How fast answers come, and what the file of the GPUs adds, as a Prometheus server reads it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.gateway import cards
from tests.unit.appliance.gateway.rig import Rig, ask, read_events
from tests.unit.appliance.gateway.test_attacks import wait_for

GPU = b"""\
# HELP airgap_gpu_power_watts Power drawn.
# TYPE airgap_gpu_power_watts gauge
airgap_gpu_power_watts{gpu="0",pci="0000:17:00"} 121.5
"""
AGE = "airgap_gateway_gpu_age_seconds"
RATE, FIRST = "airgap_gateway_tokens_per_second", "airgap_gateway_first_token_seconds"


def scrape(rig: Rig) -> dict[str, float]:
    """Every sample of the model `demo`, or of none; a bucket with its bound."""
    with rig.management() as client:
        text = client.get("/metrics").text
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
        if sample.labels.get("model", "demo") == "demo"
    }  # fmt: skip


def ended(rig: Rig, before: dict[str, float]) -> dict[str, float]:
    """What one more answer that ended well has added."""
    name = "airgap_gateway_request_seconds_count"
    wait_for(lambda: scrape(rig).get(name, 0) > before.get(name, 0))
    return {name: value - before.get(name, 0) for name, value in scrape(rig).items()}


def test_the_rate_of_a_stream_is_that_between_its_first_and_its_last_text(rig: Rig, tmp_path: Path) -> None:
    before, go_on = scrape(rig), tmp_path / "go on"
    body = ask(f"until {go_on}", stream=True)
    with rig.http(rig.alice) as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        events = read_events(answer)
        next(events)
        time.sleep(0.25)
        go_on.touch()
        assert list(events)[-1] == "[DONE]"
    more = ended(rig, before)
    assert (more[f"{RATE}_count"], more[f"{RATE}_bucket10.0"]) == (
        1,
        1,
    )  # two tokens in a quarter of a second, or longer
    assert 0 < more[f"{RATE}_sum"] <= 8
    assert more[f"{FIRST}_count"] == 1


@pytest.mark.parametrize(("text", "stream"), [("three words come", False), ("pieces 1", True)])
def test_what_comes_at_once_has_no_rate(rig: Rig, text: str, stream: bool) -> None:
    before = scrape(rig)
    with rig.http(rig.alice) as client:
        assert client.post("/v1/chat/completions", json=ask(text, stream=stream)).status_code == 200
    more = ended(rig, before)
    assert more.get(f"{RATE}_count", 0) == 0
    assert more[f"{FIRST}_count"] == 1


def test_what_gpus_tell_is_told_while_it_is_new(rig: Rig) -> None:
    rig.gpu_figures.unlink(missing_ok=True)
    assert AGE not in scrape(rig)
    rig.gpu_figures.write_bytes(GPU)
    now = scrape(rig)
    assert now["airgap_gpu_power_watts"] == 121.5
    assert 0 <= now[AGE] < 120
    old_s = time.time() - 300
    os.utime(rig.gpu_figures, (old_s, old_s))
    now = scrape(rig)
    assert "airgap_gpu_power_watts" not in now
    assert now[AGE] >= 300
    rig.gpu_figures.unlink()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 100, GPU[:-1], GPU[:-4], GPU + GPU, GPU * 2000, b"\n" + GPU, GPU + b"# EOF\n", b"{}\n",
        GPU.replace(b"airgap_gpu_", b"airgap_gateway_"), GPU.replace(b"121.5", b"1.2.3"),
        GPU.replace(b"gauge", b"histogram"), GPU.replace(b'"0"', b'"0\\"'), GPU.replace(b"121.5", b"121.5 9"),
        GPU.replace(b"Power drawn.", b"Power\rdrawn."), GPU.replace(b" 121.5", b""), GPU.replace(b"121.5", b"9" * 400),
        GPU.replace(b"121.5", b"\xd9\xa1"), GPU.replace(b'",pci', b'",gpu="0",pci'),
        GPU.splitlines(keepends=True)[0].replace(b"Power", b"More") + GPU,
    ],
)  # fmt: skip
def test_a_broken_file_of_the_gpus_adds_its_age_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "gpu.prom").write_bytes(data)
    said = cards.figures(tmp_path / "gpu.prom").decode()
    (family,) = text_string_to_metric_families(said)
    assert family.name == AGE


def test_what_is_no_file_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "airgap_gpu_" not in cards.figures(tmp_path / "pipe").decode()
    assert cards.figures(tmp_path) == b""
    assert cards.figures(tmp_path / "none") == b""
