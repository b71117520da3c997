"""The way of one request: limits, policy, guard, record, queue, engine.

Each may refuse; a refusal of a known user is recorded.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from appliance.audit.fields import NAME_CHARACTERS, REASON_CHARACTERS
from appliance.gateway import body, refusal
from appliance.gateway.call import Call
from appliance.gateway.config import Config, ModelSettings
from appliance.gateway.identity import Identity
from appliance.gateway.limits import Clock, Usage
from appliance.gateway.metrics import Metrics
from appliance.gateway.policy import Decision, Model, Policies
from appliance.gateway.proxy import Answer
from appliance.gateway.queue import Queue
from appliance.gateway.record import Record
from appliance.gateway.refusal import Refused
from appliance.gateway.responses import Response, Responses
from appliance.gateway.upstream import Broken, Connection, Engine

_GROUPS = 256
#: Refusals of one user for asking too much are recorded once in so many seconds, with the number of those between.
_FOLD_S = 1.0
_JSON = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True)
class Route:
    """What a path takes and asks for.

    Attributes:
        name: for the OpenAPI document.
        action: that policies decide on.
        limit: the field that bounds an answer's tokens; empty: it has none.
    """

    path: str
    name: str
    action: str
    kind: type[BaseModel]
    answer: type[Answer] = Answer
    limit: str = "max_tokens"


ROUTES = {
    b"/v1/chat/completions": Route("/v1/chat/completions", "chat", "chat", body.Chat),
    b"/v1/completions": Route("/v1/completions", "complete", "complete", body.Completion),
    b"/v1/embeddings": Route("/v1/embeddings", "embed", "embed", body.Embedding, limit=""),
    b"/v1/responses": Route("/v1/responses", "respond", "chat", Responses, Response, "max_output_tokens"),
}


class Service:
    """Everything that requests share.

    Attributes:
        policies: in force; replaced as a whole.
    """

    def __init__(self, settings: Config, policies: Policies, record: Record, clock: Clock, metrics: Metrics) -> None:
        self.settings, self.policies, self.record, self.clock, self.metrics = settings, policies, record, clock, metrics
        self.usage = Usage()
        self.models = dict(settings.by_name)
        bounds, times = settings.bounds, settings.timeouts
        self.queues = {
            name: Queue(model.parallel, bounds.queue, bounds.queue_identity) for name, model in self.models.items()
        }
        self.engines = {
            name: Engine(model.socket, times.connect_s, bounds.answer_bytes) for name, model in self.models.items()
        }
        self._salt_key = secrets.token_bytes(32)
        self._decided_at: tuple[int, Policies] | None = None
        self._decisions: dict[tuple[Identity, Model, str, str, str], Decision] = {}
        self._folded: dict[str, tuple[float, int]] = {}

    def visible(self, call: Call, identity: Identity) -> list[ModelSettings]:
        """Models that this user may know of, by name."""
        return [model for _name, model in sorted(self.models.items()) if self._may(call, identity, model.model, "list")]

    async def serve(self, call: Call, identity: Identity, route: Route, data: bytes) -> None:
        """Answer, or raise why not.

        Raises:
            Refused: the request is not served, or ended early.
        """
        over = self._over(identity)
        try:
            content = body.check(route.kind, body.parse(data, self.settings.bounds.depth))
        except Refused:
            if over is None:
                raise
            content = {"model": ""}  # too much, whatever it says
        texts = body.spoken(content)
        prompt = "\n".join(texts).encode()
        named = self.models.get(content["model"])
        told = {
            "user_id": identity.user_id, "key_id": identity.key_id, "client_ip": call.client_ip, "role": identity.role,
            "model": content["model"], "model_digest": named.digest if named else "",
            "prompt_sha256": hashlib.sha256(prompt).hexdigest(), "request_id": call.request_id,
            "policy_sha256": self.policies.version, "explanation": {
                "action": route.action, "at": self.policies.local_time(self.clock.now()),
                "bits": named.quantization_bits if named else 0, "groups": _told(identity.groups),
                "label": named.label if named else "", "purpose": call.purpose,
            },
        }  # fmt: skip
        try:
            if over is not None:
                raise over
            model = self._decide(call, identity, route, content, texts, len(prompt), told)
            place = self.queues[model.name].enter(identity.user_id)
        except Refused as refused:
            await self._deny(identity, told, refused)
            raise
        with place:
            call.seq = await self.record.admitted({**told, "decision": "allow"})
            await place.turn(self.settings.timeouts.queue_s)
            await self._ask(call, identity, model, route, content)

    def _over(self, identity: Identity) -> Refused | None:
        """Count the request, before its body costs anything; why it is one too many, where a record is due.

        Raises:
            Refused: it is one too many, and that is on record already.
        """
        try:
            self.usage.ask(identity)
        except Refused as refused:
            if self._is_folded(identity):
                raise
            return refused.with_traceback(None)
        return None

    def _decide(
        self,
        call: Call,
        identity: Identity,
        route: Route,
        content: dict[str, Any],
        texts: list[str],
        prompt_bytes: int,
        told: dict[str, Any],
    ) -> ModelSettings:
        """Whether it goes on; notes in `told` what decided, and masks `content`."""
        told["policy_id"], told["reason"] = "", "no such model"
        model = self.models.get(content["model"])
        if model is None:
            raise refusal.no_model()
        decision = self._decided(call, identity, model.model, route.action)
        if not decision.allowed:
            told["policy_id"] = decision.policy_id[:NAME_CHARACTERS]
            told["reason"] = decision.reason[:REASON_CHARACTERS]
            if not self._may(call, identity, model.model, "list"):
                raise refusal.no_model()
            call.model = model
            raise Refused(403, "permission_error", "policy_denied", "a policy does not allow this request")
        call.model = model
        told["policy_id"], told["reason"] = "limits", "not for this model, or too much"
        wanted = self._capped(identity, model, route, content)
        call.share = self.usage.begin(identity, prompt_bytes // 4 + 1 + wanted)
        masked, findings = self.policies.guard.check(model.label, texts)
        found = "; ".join(f"guard {one.rule}: {one.action} {one.count}" for one in findings)
        if any(one.action == "block" for one in findings):
            told["policy_id"], told["reason"] = "guard", found[:REASON_CHARACTERS]
            raise refusal.invalid("the text has what this model may not be given", code="content_filter")
        told["policy_id"] = decision.policy_id[:NAME_CHARACTERS]
        told["reason"] = (f"{decision.reason}; {found}" if found else decision.reason)[:REASON_CHARACTERS]
        if masked != texts:
            content.update(body.respoken(content, masked))
        return model

    def _may(self, call: Call, identity: Identity, model: Model, action: str) -> bool:
        return self._decided(call, identity, model, action).allowed

    def _decided(self, call: Call, identity: Identity, model: Model, action: str) -> Decision:
        """What policies say; asked anew in every second, the smallest unit of time that they know."""
        now, policies = self.clock.now(), self.policies
        if self._decided_at != (int(now), policies):
            self._decided_at, self._decisions = (int(now), policies), {}
        asked = (identity, model, action, call.client_ip, call.purpose)
        found = self._decisions.get(asked)
        if found is None:
            found = self._decisions[asked] = policies.decide(
                identity, model, action=action, client_ip=call.client_ip, purpose=call.purpose, now=now
            )
        return found

    def _capped(self, identity: Identity, model: ModelSettings, route: Route, content: dict[str, Any]) -> int:
        """Bring what is asked down to what may be; returns the tokens that the answer may have."""
        if model.embeddings != (route.action == "embed"):
            kind = "embeddings only" if model.embeddings else "no embeddings"
            raise refusal.invalid(f"this model makes {kind}", param="model", code="model_not_suited")
        if not route.limit:
            return 0
        if content.get("n", 1) > self.settings.bounds.choices:
            raise refusal.invalid(f"n: expected at most {self.settings.bounds.choices}", param="n")
        most = min(self.settings.bounds.output_tokens, model.context_tokens)
        if identity.limits.output_max_tokens is not None:
            most = min(most, identity.limits.output_max_tokens)
        asked = content.pop("max_completion_tokens", None) or content.get(route.limit) or most
        content[route.limit] = min(asked, most)
        return int(content[route.limit] * content.get("n", 1))

    async def _deny(self, identity: Identity, told: dict[str, Any], refused: Refused) -> None:
        """Record a refusal; whoever asks too much cannot fill the log with it."""
        if refused.status == 429:
            if self._is_folded(identity):
                return
            _, between = self._folded.get(identity.user_id, (0, 0))
            self._folded[identity.user_id] = time.monotonic(), 0
            told["policy_id"] = "limits"
            told["reason"] = f"{refused.code}; {between} more since the last record"
        elif told["policy_id"] == "limits":
            told["reason"] = refused.code
        await self.record.admitted({**told, "decision": "deny"})

    def _is_folded(self, identity: Identity) -> bool:
        """Whether this user's last refusal for too much was recorded a moment ago; then this one is counted alone."""
        at_s, between = self._folded.get(identity.user_id, (-_FOLD_S, 0))
        if time.monotonic() - at_s >= _FOLD_S:
            return False
        self._folded[identity.user_id] = at_s, between + 1
        return True

    async def _ask(
        self, call: Call, identity: Identity, model: ModelSettings, route: Route, content: dict[str, Any]
    ) -> None:
        engine = self.engines[model.name]
        call.answer = answer = route.answer(
            model.name, lambda: self.metrics.first(model.name, time.monotonic() - call.started_s)
        )
        bounds = self.settings.bounds
        try:
            await self._require_short(engine, identity, model, content)
            is_stream, with_usage = _make_ready(content, route, model, self._salt(identity))
            connection = await engine.ask(route.path, _JSON.encode(content).encode())
            try:
                call.moved()
                if is_stream:
                    await answer.stream(
                        connection, call.reply, with_usage=with_usage, on_piece=call.moved,
                        longest=(bounds.answer_bytes, bounds.stream_bytes),
                    )  # fmt: skip
                else:
                    await answer.whole(connection, call.reply)
            finally:
                engine.give_back(connection)
        except Broken:
            raise refusal.engine_failed() from None

    def _salt(self, identity: Identity) -> str:
        """What keeps users apart in an engine that caches by salt; another one after each start."""
        return hashlib.blake2s(identity.user_id.encode(), key=self._salt_key, digest_size=16).hexdigest()

    async def _require_short(
        self, engine: Engine, identity: Identity, model: ModelSettings, content: dict[str, Any]
    ) -> None:
        """A token is a byte at least; only a prompt of more bytes than allowed tokens is counted, by the engine.

        It is counted as the engine is given it: masked.
        """
        most = identity.limits.prompt_max_tokens
        if most is None:
            return
        text = "\n".join(body.spoken(content))
        if len(text.encode()) <= most:
            return
        asked = json.dumps({"model": model.name, "content": text, "prompt": text}, ensure_ascii=False).encode()
        connection = await engine.ask("/tokenize", asked)
        try:
            count = _counted(connection, await connection.whole())
        finally:
            engine.give_back(connection)
        if count > most:
            raise refusal.invalid(
                f"the prompt has {count} tokens, {most} are allowed", code="prompt_too_long", param="messages"
            )


def _told(groups: frozenset[str]) -> list[str]:
    """Groups as they are recorded; of very many the first, and how many more, so that every record has room."""
    names = sorted(groups)
    return names if len(names) <= _GROUPS else [*names[:_GROUPS], f"+{len(names) - _GROUPS}"]


def _make_ready(content: dict[str, Any], route: Route, model: ModelSettings, salt: str) -> tuple[bool, bool]:
    """What the engine is told beside the client's fields; whether the client wants a stream, and token counts in it."""
    is_stream = bool(content.get("stream"))
    with_usage = bool((content.pop("stream_options", None) or {}).get("include_usage"))
    if not route.limit:
        return False, False
    content["stream"] = is_stream
    if is_stream and route.answer is Answer:
        content["stream_options"] = {"include_usage": True}
    content["cache_prompt"], content["cache_salt"] = model.is_prompt_cached, salt
    return is_stream, with_usage


def _counted(connection: Connection, data: bytes) -> int:
    try:
        found = json.loads(data)
        count = found["count"] if "count" in found else len(found["tokens"])
    except (ValueError, KeyError, TypeError):
        count = None
    if connection.status != 200 or not isinstance(count, int):
        raise refusal.engine_failed("the prompt's tokens could not be counted")
    return count
