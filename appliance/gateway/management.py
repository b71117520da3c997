"""The management side: a socket of its own with figures, health and the OpenAPI document.

nginx knows it only where the site says who may read the figures, and asks for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from appliance.gateway import call as calls
from appliance.gateway import cards, openapi, refusal
from appliance.gateway.app import App
from appliance.gateway.config import Config
from appliance.gateway.metrics import CONTENT_TYPE, Metrics
from appliance.gateway.reply import Reply, Send


class Management:
    """An ASGI application."""

    def __init__(self, settings: Config, app: App, metrics: Metrics) -> None:
        self._app, self._metrics, self._gpu_figures = app, metrics, settings.gpu_figures
        self._document = json.dumps(openapi.document(settings)).encode()

    async def __call__(
        self, scope: MutableMapping[str, Any], _receive: Callable[[], Awaitable[Any]], send: Send
    ) -> None:
        """Serve one request."""
        reply, asked = Reply(send, calls.new_id()), (scope["method"], scope["raw_path"])
        if asked == ("GET", b"/metrics"):
            text = self._metrics.text() + cards.figures(self._gpu_figures)
            await reply.whole(200, text, (b"content-type", CONTENT_TYPE))
        elif asked == ("GET", b"/openapi.json"):
            await reply.whole(200, self._document)
        elif asked == ("GET", b"/healthz") and self._app.is_ready:
            await reply.whole(200, b"ok\n", (b"content-type", b"text/plain; charset=utf-8"))
        elif asked == ("GET", b"/healthz"):
            await reply.refuse(refusal.unavailable("unavailable", "unavailable"))
        else:
            await reply.refuse(refusal.invalid("no such route", code="not_found", status=404))
