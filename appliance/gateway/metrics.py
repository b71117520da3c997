"""Figures for the management side: by model, role and decision; never a user, a key or a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
#: Of tokens a second: from a model that runs from a disk to small ones on a GPU.
_RATES = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


class Metrics:
    """All of them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "airgap_gateway_requests", "Requests by how they ended: ok, or the error's code.",
            ("model", "role", "decision"), registry=self._registry,
        )  # fmt: skip
        self._tokens = Counter(
            "airgap_gateway_tokens", "Tokens of prompts (in) and answers (out).", ("model", "role", "direction"),
            registry=self._registry,
        )  # fmt: skip
        self._first = Histogram(
            "airgap_gateway_first_token_seconds", "From a request's headers to the first text.", ("model",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._duration = Histogram(
            "airgap_gateway_request_seconds", "From a request's headers to its end.", ("model",), buckets=_SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._rate = Histogram(
            "airgap_gateway_tokens_per_second", "Of streams: tokens after the first, by the time from first to last.",
            ("model",), buckets=_RATES, registry=self._registry,
        )  # fmt: skip
        self._queue = Gauge("airgap_gateway_queue_length", "Requests that wait.", ("model",), registry=self._registry)
        self._open = Gauge("airgap_gateway_open_requests", "Requests under way.", registry=self._registry)
        self._unrecorded = Gauge(
            "airgap_gateway_unacknowledged_ends", "Ends of requests that the audit log has not acknowledged.",
            registry=self._registry,
        )  # fmt: skip
        self._ready = Gauge("airgap_gateway_ready", "1 while requests are served.", registry=self._registry)
        # Looking a label up costs more than counting; there are as many as models times roles times codes.
        self._requests_of, self._tokens_of = cache(self._requests.labels), cache(self._tokens.labels)
        self._first_of, self._duration_of = cache(self._first.labels), cache(self._duration.labels)
        self._rate_of = cache(self._rate.labels)

    def watch(
        self,
        queues: Mapping[str, Callable[[], int]],
        open_requests: Callable[[], int],
        unrecorded: Callable[[], int],
        is_ready: Callable[[], bool],
    ) -> None:
        """Where the gauges read."""
        for name, length in queues.items():
            self._queue.labels(name).set_function(length)
        self._open.set_function(open_requests)
        self._unrecorded.set_function(unrecorded)
        self._ready.set_function(is_ready)

    def request(self, model: str, role: str, decision: str, duration_s: float) -> None:
        """A request ended; `model` is one that exists, or empty."""
        self._requests_of(model, role, decision).inc()
        if decision == "ok":
            self._duration_of(model).observe(duration_s)

    def first(self, model: str, seconds: float) -> None:
        """A client was given the first text."""
        self._first_of(model).observe(seconds)

    def rate(self, model: str, tokens_per_s: float) -> None:
        """An answer came so fast."""
        self._rate_of(model).observe(tokens_per_s)

    def tokens(self, model: str, role: str, tokens_in: int, tokens_out: int) -> None:
        """What a request used."""
        self._tokens_of(model, role, "in").inc(tokens_in)
        self._tokens_of(model, role, "out").inc(tokens_out)

    def text(self) -> bytes:
        """All of them in Prometheus's format."""
        return generate_latest(self._registry)
