"""The gateway's settings: one strict JSON file that the installer writes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from appliance import settings
from appliance.gateway.policy import Model

FILE = Path("/etc/airgap/gateway.json")
_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[!-~]+$")]
_Count = Annotated[int, Field(ge=1, le=1 << 31)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Strict):
    """A model and its engine.

    Attributes:
        name: what clients ask for.
        digest: what the audit log names.
        context_tokens: of prompt and answer together.
        parallel: requests that the engine takes at once (`llama-server -np`).
        socket: of the engine.
        embeddings: it makes embeddings, and does nothing else.
        is_prompt_cached: the engine may keep a prompt's beginning for the next request; how fast it answers then
            tells one user whether another one began in the same way.
    """

    name: _Name
    digest: Annotated[str, Field(max_length=256)]
    label: _Name
    quantization_bits: Annotated[int, Field(ge=1, le=64)]
    context_tokens: _Count
    parallel: _Count = 4
    socket: Path
    embeddings: bool = False
    is_prompt_cached: bool = False

    @cached_property
    def model(self) -> Model:
        """As policies see it."""
        return Model(self.name, self.digest, self.label, self.quantization_bits)


class Bounds(_Strict):
    """What one request, and all of them together, may take.

    Attributes:
        body_bytes: of a request.
        depth: of arrays and objects in it.
        header_bytes: of a request's first line and headers.
        connections: open at once.
        answer_bytes: of an answer that is no stream; of one event in a stream.
        stream_bytes: of a whole stream.
        output_tokens: a client cannot ask for more, and is given as many when it does not say.
        choices: `n`.
        queue: requests that wait for one model.
        queue_identity: the same, of one user.
    """

    body_bytes: _Count = 2 << 20
    depth: Annotated[int, Field(ge=4, le=64)] = 32
    header_bytes: _Count = 16 << 10
    connections: _Count = 1024
    answer_bytes: _Count = 16 << 20
    stream_bytes: _Count = 64 << 20
    output_tokens: _Count = 4096
    choices: Annotated[int, Field(ge=1, le=16)] = 1
    queue: _Count = 256
    queue_identity: _Count = 64


class Timeouts(_Strict):
    """Seconds.

    Attributes:
        header_s: from a request's first byte to the end of its headers.
        body_s: to the end of its body.
        idle_s: of a connection between requests.
        record_s: until the audit process has acknowledged.
        queue_s: until an engine is free.
        connect_s: until the engine takes a connection.
        stall_s: without a byte from the engine once it has begun to answer, or with a client that takes none.
        request_s: all of it.
        drain_s: that open requests have after SIGTERM.
    """

    header_s: _Seconds = 10
    body_s: _Seconds = 30
    idle_s: _Seconds = 75
    record_s: _Seconds = 5
    queue_s: _Seconds = 60
    connect_s: _Seconds = 2
    stall_s: _Seconds = 120
    request_s: _Seconds = 900
    drain_s: _Seconds = 30


class Config(_Strict):
    """Settings.

    Attributes:
        socket: where nginx finds the gateway.
        metrics_socket: metrics, health and the OpenAPI document, for the management side.
        gpu_figures: what GPUs tell (`appliance.figures`); there on a host that has some.
        directory: of people.
        secret: file with the key under which API keys are kept.
        policies: folder of policies and of the guard's rules.
        audit_socket: of the audit process.
    """

    schema_version: Literal[1]
    socket: Path = Path("/run/airgap-gateway/gateway.sock")
    metrics_socket: Path = Path("/run/airgap-gateway/metrics.sock")
    gpu_figures: Path = Path("/run/airgap-gpu/gpu.prom")
    models: Annotated[tuple[ModelSettings, ...], Field(min_length=1)]
    directory: Path
    secret: Path
    policies: Path
    audit_socket: Path = Path("/run/airgap-audit/audit.sock")
    bounds: Bounds = Bounds()
    timeouts: Timeouts = Timeouts()

    @field_validator("models")
    @classmethod
    def _are_distinct(cls, models: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
        if len({model.name for model in models}) != len(models):
            raise ValueError("two models have one name")
        return models

    @property
    def by_name(self) -> Mapping[str, ModelSettings]:
        """Models."""
        return {model.name: model for model in self.models}


def load(file: Path = FILE) -> Config:
    """Read the settings.

    Raises:
        InputInvalid: unreadable, or not such a file.
    """
    return settings.load(Config, file)
