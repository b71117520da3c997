"""A server that speaks as llama-server does, on a Unix socket: `python engine_stub.py SOCKET [LOG]`.

It echoes the last text that it was given. A text that begins with a word of `ORDERS` is an order. LOG gets every body
that it was sent, one a line. It is no model, and stands for no part of the gateway.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import uvloop

ORDERS = ("pieces", "slow", "endless", "die", "cut", "huge", "refuse", "fail", "leak", "hang", "split", "quit", "until")
CREATED = 1_763_000_000


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or [])


class Connection(asyncio.Protocol):
    """One client: one request after another."""

    log: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport, self._data, self._task = transport, b"", None  # type: Any, bytes, asyncio.Task[None] | None
        self._room = asyncio.Event()
        self._room.set()

    def connection_lost(self, _error: Exception | None) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._note({"ended": "by the client"})

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(rest) < length:
            return
        self._data = rest[length:]
        path, body = head.split(b" ")[1].decode(), json.loads(rest[:length])
        self._note({"path": path, **body})
        simple = self._simple(path, body)
        if simple is not None:
            self._whole(200, simple)
        else:
            self._task = asyncio.create_task(self._order(body, _last(body)))

    def _note(self, what: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(json.dumps(what) + "\n")
            self.log.flush()

    def _simple(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/tokenize":
            return {"tokens": list(range(len(body["content"].split())))}
        body["path"] = path
        if path == "/v1/embeddings":
            given = body["input"] if isinstance(body["input"], list) else [body["input"]]
            return {
                "object": "list", "model": body["model"],
                "usage": {"prompt_tokens": len(given), "total_tokens": len(given)},
                "data": [
                    {"object": "embedding", "index": index, "embedding": _vector(text, body)}
                    for index, text in enumerate(given)
                ],
            }  # fmt: skip
        text = _last(body)
        if body.get("stream") or text.split(" ")[0] in ORDERS:
            return None
        return _answer(body, text)

    async def _order(self, body: dict[str, Any], text: str) -> None:
        order, _, rest = text.partition(" ")
        if order == "refuse":
            self._whole(400, {"error": {"code": 400, "message": "the request exceeds the context", "type": "x"}})
        elif order == "fail":
            self._whole(500, {"error": {"code": 500, "message": f"secret of the engine: {text}", "type": "x"}})
        elif order == "quit":
            os._exit(1)
        elif order == "hang":
            await asyncio.sleep(3600)
        elif order == "huge" and not body.get("stream"):
            self._whole(200, _answer(body, "x" * int(rest)))
        elif not body.get("stream"):
            await asyncio.sleep(float(rest) if order == "slow" else 0)
            self._whole(200, _answer(body, text))
        else:
            await self._stream(body, order, rest, text)

    async def _stream(self, body: dict[str, Any], order: str, rest: str, text: str) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nServer: llama.cpp\r\n"
            b"Set-Cookie: engine=1\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        count = {"endless": 1 << 40, "die": 3, "cut": 3, "until": 3}.get(order, int(rest) if order == "pieces" else 1)
        pieces = [rest] if order == "split" else None
        is_response = body["path"] == "/v1/responses"
        if is_response:
            for event in _begun():
                self._named(event)
        given = ""
        for number in range(count):
            piece = pieces[number] if pieces else f"{number} " if order in ORDERS and order != "slow" else text
            if order == "huge":
                piece = "x" * int(rest)
            if is_response:
                given += piece
                delta = {"type": "response.output_text.delta", "item_id": "msg_1", "delta": piece}
                self._named(delta, is_split=order == "split")
            else:
                self._event(_chunk(body, {"content": piece}), is_split=order == "split")
            await self._room.wait()
            if order in ("endless", "die", "cut", "pieces"):
                await asyncio.sleep(0.01 if order != "pieces" else 0)
            elif order == "slow":
                await asyncio.sleep(float(rest))
            while order == "until" and not Path(rest).exists():
                await asyncio.sleep(0.01)
        if order == "die":
            self._transport.abort()
            return
        if order == "cut":
            self._transport.write(b"0\r\n\r\n")  # a whole answer, as HTTP goes, without [DONE]
            return
        if is_response:
            for event in _done(body, given, count):
                self._named(event)
            self._transport.write(b"0\r\n\r\n")
            return
        self._event(_chunk(body, {}, finish_reason="stop"))
        if (body.get("stream_options") or {}).get("include_usage"):
            self._event({**_chunk(body, {}), "choices": [], "usage": _usage(body, count)})
        self._write(b"data: [DONE]\n\n")
        self._transport.write(b"0\r\n\r\n")

    def _named(self, content: dict[str, Any], *, is_split: bool = False) -> None:
        self._event(content, is_split=is_split, name=f"event: {content['type']}\n".encode())

    def _event(self, content: dict[str, Any], *, is_split: bool = False, name: bytes = b"") -> None:
        data = name + b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"
        for at in range(0, len(data), 1 if is_split else len(data)):
            self._write(data[at : at + 1] if is_split else data)

    def _write(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _whole(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content, ensure_ascii=False).encode()
        self._transport.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nServer: llama.cpp\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(data), data)
        )


def _last(body: dict[str, Any]) -> str:
    if "messages" in body:
        return _text(body["messages"][-1].get("content"))
    if body.get("path") == "/v1/responses":
        last = body["input"] if isinstance(body["input"], str) else body["input"][-1]
        return last if isinstance(last, str) else _text(last.get("content") or last.get("output") or "")
    return str(body.get("prompt", ""))


def _vector(text: str, body: dict[str, Any]) -> Any:
    vector = [len(text) / 1000, 0.25, -0.5]
    return base64.b64encode(struct.pack("<3f", *vector)).decode() if body.get("encoding_format") == "base64" else vector


def _usage(body: dict[str, Any], count: int) -> dict[str, Any]:
    tokens_in = len(_last(body).split())
    cached = {"prompt_tokens_details": {"cached_tokens": 7}}
    return {"prompt_tokens": tokens_in, "completion_tokens": count, "total_tokens": tokens_in + count, **cached}


def _begun() -> list[dict[str, Any]]:
    """What comes before the text in a stream of /v1/responses."""
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    response = {"id": "resp_1", "object": "response", "status": "in_progress"}
    return [
        {"type": "response.created", "response": response}, {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", "item": item},
        {"type": "response.content_part.added", "item_id": "msg_1", "part": {"type": "output_text", "text": ""}},
        {"type": "response.of_another_engine", "secret": 1},
    ]  # fmt: skip


def _done(body: dict[str, Any], text: str, count: int) -> list[dict[str, Any]]:
    """What comes after it."""
    response = _response(body, text, count)
    (item,) = response["output"]
    return [
        {"type": "response.output_text.done", "item_id": "msg_1", "text": text},
        {"type": "response.content_part.done", "item_id": "msg_1", "part": item["content"][0]},
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": response, "timings": {"cache_n": 7}},
    ]


def _response(body: dict[str, Any], text: str, count: int) -> dict[str, Any]:
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    tokens = len(_last(body).split())
    usage = {"input_tokens": tokens, "output_tokens": count, "total_tokens": tokens + count}
    return {
        "id": "resp_1", "object": "response", "created_at": CREATED, "completed_at": CREATED, "status": "completed",
        "model": "/srv/models/secret-path.gguf", "output": [item],
        "usage": {**usage, "input_tokens_details": {"cached_tokens": 7}}, "timings": {"cache_n": 7},
    }  # fmt: skip


def _answer(body: dict[str, Any], text: str) -> dict[str, Any]:
    if body["path"] == "/v1/responses":
        return _response(body, text, len(text.split()))
    is_chat = "messages" in body
    choice = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
    return {
        "id": "chatcmpl-1", "object": "chat.completion" if is_chat else "text_completion", "created": CREATED,
        "model": "/srv/models/secret-path.gguf" if text.startswith("leak") else body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": _usage(body, len(text.split())),
        "timings": {"cache_n": 7}, "__verbose": {"slot": 1},
    }  # fmt: skip


def _chunk(body: dict[str, Any], delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    is_chat = "messages" in body
    choice = {"delta": delta} if is_chat else {"text": delta.get("content", "")}
    return {
        "id": "chatcmpl-1", "object": "chat.completion.chunk" if is_chat else "text_completion", "created": CREATED,
        "model": body["model"], "choices": [{"index": 0, "finish_reason": finish_reason, **choice}],
    }  # fmt: skip


async def serve(socket: Path, log: Path | None) -> None:
    if log is not None:
        Connection.log = log.open("a")
    socket.unlink(missing_ok=True)
    server = await asyncio.get_running_loop().create_unix_server(Connection, str(socket), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
