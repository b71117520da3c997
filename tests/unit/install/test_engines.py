"""What an engine takes: a whole context for each request that it answers at the same time."""

from __future__ import annotations

from pathlib import Path

from bundler.install.engines import BESIDE_BYTES, engine_variables, needed_bytes
from bundler.install.site import load_site
from bundler.manifest.lock import LockedModel
from tests.bundles import lock
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import site_yml

MODEL = LockedModel.model_validate({
    "name": "airgap-words", "filename": "airgap-words.gguf", "origin": "/srv/words.gguf", "size_bytes": 1 << 30,
    "sha256": "0" * 64, "license": "Apache-2.0", "label": "general", "architecture": "llama", "context_tokens": 1 << 10,
    "kv_bytes_per_token": 1 << 17, "quantization": "Q8_0", "tokenizer": "gpt2", "chat_template_sha256": None,
})  # fmt: skip
OTHER = MODEL.model_copy(update={"name": "other", "filename": "other.gguf"})


def test_memory_grows_with_the_requests_at_once() -> None:
    assert needed_bytes(MODEL, 1) == MODEL.size_bytes + (1 << 27) + BESIDE_BYTES
    assert needed_bytes(MODEL, 8) - needed_bytes(MODEL, 1) == 7 << 27


def test_the_site_s_model_is_served_by_the_release_s_own_server(tmp_path: Path) -> None:
    file = tmp_path / "site.yml"
    text = site_yml(load_hosts()["appliance"])
    file.write_text(text.replace("  model: airgap-words\n", "  model: airgap-words\n  parallel: 8\n"))
    locked = lock().model_copy(update={"models": (OTHER, MODEL)})
    variables = engine_variables(locked, load_site(file), Path("/opt/airgap/releases/small-1"))
    assert variables["engine_program"] == (
        "/opt/airgap/current/engine/lib/python3.13/site-packages/llama_cpp/lib/llama-server"
    )
    assert variables["engine_models"] == [
        {
            "name": "airgap-words",
            "path": "/srv/airgap/models/small-1/airgap-words.gguf",
            "context_tokens": 1 << 10,
            "slots": 8,
            "memory_mib": (1024 + 8 * 128 + 1024) * 125 // 100,
        }
    ]
