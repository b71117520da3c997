"""How fast answers come, as a Prometheus server reads it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.appliance.gateway.rig import Rig, ask, read_events
from tests.unit.appliance.gateway.test_attacks import wait_for

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
