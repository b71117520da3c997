"""What state the appliance is in: lines, each ok, warning or bad. Reads only; a locked volume stays locked."""

from __future__ import annotations

from appliance.status import host, isolation, service
from appliance.status.line import Line, Verdict, guarded


def collect() -> list[Line]:
    """Every line, in the order of the screen."""
    checks = (
        ("release", host.look_at_release),
        ("isolation", isolation.look),
        ("drives", host.look_at_drives),
        ("models", host.look_at_models),
        ("gpu", host.look_at_gpus),
        ("service", service.look),
        ("tls", service.look_at_certificates),
        ("clock", host.look_at_clock),
        ("units", host.look_at_units),
    )
    return [line for topic, check in checks for line in guarded(topic, check)]


def overall(lines: list[Line]) -> Verdict:
    """The worst of all lines."""
    return max((line.verdict for line in lines), key=list(Verdict).index)
