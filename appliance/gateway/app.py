"""The gateway as an ASGI application: exact paths and nothing else, who asks, and an end to every request.

Who asks is known before a body is read. Paths are compared as they came: nothing is decoded, joined or forgiven.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from appliance.gateway import call as calls
from appliance.gateway import refusal
from appliance.gateway.call import Call
from appliance.gateway.directory import Directory
from appliance.gateway.identity import Identity
from appliance.gateway.refusal import Refused
from appliance.gateway.reply import Reply, Send
from appliance.gateway.service import ROUTES, Service

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_MODELS, _HEALTH = b"/v1/models", b"/healthz"
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
#: Ends before an engine has worked.
_NOT_WORKED = frozenset({"engine_refused", "engine_not_ready", "prompt_too_long"})
#: Seconds that a client has to take an error event.
_LAST_S = 1.0
_LOG = logging.getLogger("airgap.gateway")


class App:
    """The application.

    Attributes:
        open: requests of known users under way.
        is_draining: nothing new is served.
    """

    def __init__(self, service: Service, directory: Directory) -> None:
        self._service, self._directory = service, directory
        self.open: set[Call] = set()
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """Whether requests are served."""
        return not self.is_draining and self._service.record.is_connected

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        request_id = calls.new_id()
        call = Call(Reply(send, request_id), request_id, asyncio.current_task())
        refused: Refused | None = None
        try:
            await self._serve(call, scope, receive)
        except Refused as error:
            # Both lead back here, and would hold the body until a collection.
            refused, error.__context__ = error.with_traceback(None), None
        except asyncio.CancelledError:
            if call.ended is None:
                raise
            refused = call.ended
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]  # where, but not its words: they may be a prompt
            _LOG.error("%s: %s at %s:%s", request_id, type(error).__name__, frame.filename, frame.lineno)
            refused = Refused(500, "server_error", "internal_error", "the gateway failed")
        finally:
            call.has_finished = True
            self._finish(call, refused)
        if call.ended is not None and call.task is not None:
            call.task.uncancel()
        if refused is not None and refused.code != "cancelled":
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_S):
                    await call.reply.refuse(refused)

    def sweep(self) -> None:
        """End requests whose user may no longer ask, which stand still, or take too long."""
        now, now_s, times = self._service.clock.now(), time.monotonic(), self._service.settings.timeouts
        for call in list(self.open):
            if call.identity is not None and not self._directory.is_current(call.identity, now):
                call.end(refusal.unauthenticated())
            elif not call.is_whole and now_s - call.started_s > times.body_s:
                call.end(refusal.invalid("the body did not come in time", code="body_timeout", status=408))
            elif now_s - call.started_s > times.request_s:
                call.end(Refused(504, "server_error", "timeout", "the request took too long"))
            elif call.moved_s is not None and now_s - call.moved_s > times.stall_s:
                call.end(Refused(504, "server_error", "stalled", "nothing has moved for too long"))
        self._service.usage.sweep()

    async def drain(self) -> None:
        """Serve nothing new; wait for what is open, then end it."""
        self.is_draining = True
        until_s = time.monotonic() + self._service.settings.timeouts.drain_s
        while self.open and time.monotonic() < until_s:
            await asyncio.sleep(0.02)
        for call in list(self.open):
            call.end(refusal.unavailable("shutting_down", "the service stops"))
        until_s = time.monotonic() + 2 * _LAST_S
        while self.open and time.monotonic() < until_s:
            await asyncio.sleep(0.02)

    async def _serve(self, call: Call, scope: MutableMapping[str, Any], receive: Receive) -> None:
        path, method = scope["raw_path"], scope["method"]
        if path == _HEALTH:
            _require_method(method, "GET")
            if not self.is_ready:
                raise refusal.unavailable("unavailable", "unavailable")
            await call.reply.whole(200, b"ok\n", _TEXT)
            return
        route = ROUTES.get(path)
        if route is None and path != _MODELS:
            raise refusal.invalid("no such route", code="not_found", status=404)
        _require_method(method, "POST" if route is not None else "GET")
        if self.is_draining:
            raise refusal.unavailable("shutting_down", "the service stops")
        headers = calls.headers_of(scope)
        call.identity = identity = self._identify(headers)
        call.client_ip, call.purpose = calls.address(headers), calls.purpose(headers)
        if scope["query_string"]:
            raise refusal.invalid("a query is not taken; a key belongs into the header Authorization")
        self.open.add(call)
        if route is None:
            self._service.usage.ask(identity)
            await self._list(call, identity)
            return
        data = await self._body(headers, receive)
        call.is_whole = True
        watch = asyncio.create_task(_watch(call, receive))
        try:
            await self._service.serve(call, identity, route, data)
        finally:
            if not call.reply.has_ended:
                watch.cancel()

    def _identify(self, headers: dict[bytes, bytes]) -> Identity:
        key, shown = calls.bearer(headers), calls.certificate(headers)
        now = self._service.clock.now()
        by_certificate = self._directory.by_certificate(shown, now) if shown else None
        found = self._directory.by_key(key, now) if key is not None else by_certificate
        # Whoever shows two things is the same person in both.
        if found is None or (shown and (by_certificate is None or by_certificate.user_id != found.user_id)):
            raise refusal.unauthenticated()
        return found

    async def _list(self, call: Call, identity: Identity) -> None:
        models = [
            {"id": model.name, "object": "model", "created": 0, "owned_by": "airgap"}
            for model in self._service.visible(call, identity)
        ]
        await call.reply.whole(200, json.dumps({"object": "list", "data": models}).encode())

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if kind != b"application/json" or headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise refusal.invalid("expected Content-Type: application/json, not compressed", status=415)
        limit = self._service.settings.bounds.body_bytes
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 12 or int(length) > limit:
            raise _too_large(limit)
        parts, size_bytes = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _gone()
            parts.append(message.get("body", b""))
            size_bytes += len(parts[-1])
            if size_bytes > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _finish(self, call: Call, refused: Refused | None) -> None:
        """Whatever happened: it is counted, and what was admitted ends."""
        self.open.discard(call)
        duration_s = time.monotonic() - call.started_s
        model, role = call.model.name if call.model else "", call.identity.role if call.identity else ""
        answer, status = call.answer, refused.code if refused is not None else "ok"
        call.answer = None  # it leads back to the call
        metrics = self._service.metrics
        metrics.request(model, role, status, duration_s)
        if call.share is not None:
            used: int | None = None  # whoever goes away early has had the engine work
            if answer is None or status in _NOT_WORKED:
                used = 0
            elif answer.has_usage:
                used = answer.tokens_in + answer.tokens_out
            call.share.end(used)
        if answer is not None:
            metrics.tokens(model, role, answer.tokens_in, answer.tokens_out)
            if status == "ok" and (rate := answer.tokens_per_s) is not None:
                metrics.rate(model, rate)
        if call.seq is not None:
            digest = answer.digest if answer is not None else hashlib.sha256()
            self._service.record.completed(
                call.seq, output_sha256=digest.hexdigest(), tokens_in=answer.tokens_in if answer else 0,
                tokens_out=answer.tokens_out if answer else 0, latency_ms=int(duration_s * 1000), status=status,
            )  # fmt: skip


async def _watch(call: Call, receive: Receive) -> None:
    """The end of the client is the end of the request."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.end(_gone())


def _too_large(limit_bytes: int) -> Refused:
    return refusal.invalid(f"the body has more than {limit_bytes} bytes", code="body_too_large", status=413)


def _gone() -> Refused:
    return Refused(499, "client_error", "cancelled", "the client is gone")


def _require_method(method: str, expected: str) -> None:
    if method != expected:
        raise Refused(405, "invalid_request_error", "method_not_allowed", f"expected {expected}", param=expected)
