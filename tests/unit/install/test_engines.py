"""What an engine takes, and what policies are told of its model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundler.install.engines import engine_variables, quantization_bits
from bundler.install.site import load_site
from bundler.manifest.lock import LockedModel
from custody.errors import InputInvalid
from tests.bundles import lock
from tests.unit.install.hosts import MODEL
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import site_yml


@pytest.mark.parametrize(("name", "bits"), [
    ("F16", 16), ("BF16", 16), ("F32", 32), ("Q8_0", 8), ("Q4_K_M", 4), ("IQ2_XS", 2), ("IQ1_S", 1), ("TQ2_0", 2),
    ("x", 1),
])  # fmt: skip
def test_bits_of_a_weight(name: str, bits: int) -> None:
    assert quantization_bits(name) == bits


def locked(name: str, **more: object) -> LockedModel:
    """A model of the lock."""
    return LockedModel.model_validate_json(json.dumps({**MODEL, "name": name, "filename": f"{name}.gguf", **more}))


def test_each_served_model_has_an_engine_limits_and_a_label_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "site.yml"
    text = site_yml(load_hosts()["appliance"])
    file.write_text(text.replace("[airgap-words]", "[large, small]"))
    models = (locked("idle"), locked("large", label="clinical"), locked("small", size_bytes=1000, context_tokens=512))
    full = lock().model_copy(update={"models": models})
    made = engine_variables(full, load_site(file), Path("/opt/airgap/releases/r-1"))
    assert [(each["name"], each["path"], each["slots"]) for each in made["engine_models"]] == [
        ("large", "/srv/airgap/models/r-1/large.gguf", 4), ("small", "/srv/airgap/models/r-1/small.gguf", 4)
    ]  # fmt: skip
    large, small = (each["memory_mib"] for each in made["engine_models"])
    assert (large, small) == (7680, 1600)  # 1.25 of: weights 1024 and 0, contexts 4096 and 256, the rest 1024
    labels = [(each["name"], each["label"], each["context_tokens"]) for each in made["gateway_models"]]
    assert labels == [("large", "clinical", 8192), ("small", "general", 512)]
    file.write_text(text.replace("[airgap-words]", "[large, large]"))
    with pytest.raises(InputInvalid, match=r"service.models\[1\]: expected every model named once"):
        load_site(file)
