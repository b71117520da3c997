"""An engine sees the cards of a GPU host and no device anywhere else; no network; nothing of another request."""

from __future__ import annotations

from tests.templates import render


def unit(gpu: bool, **more: object) -> list[str]:
    """Lines of the unit, rendered as Ansible does; `more` are other variables than a test's own."""
    model = {"name": "words", "path": "/m/models/r/words%1.gguf", "context_tokens": 512, "slots": 4, "memory_mib": 1281}
    variables = {
        "engine_gpu": gpu, "engine_program": "/v/llama-server", "engine_threads": -1, "engine_mount": "/m",
        "_engine_mount_unit": "m.mount", "_engine_model": model,
        "_engine_socket": "/run/airgap-engine/words/words.sock",
    }  # fmt: skip
    return render("engine", "engine.service.j2", **variables | more).splitlines()


def command(gpu: bool, **more: object) -> list[str]:
    """The engine's command line."""
    return " ".join(unit(gpu, **more)).split("ExecStart=")[1].split("WorkingDirectory=")[0].replace("\\", "").split()


def test_without_a_gpu_there_are_no_devices() -> None:
    lines = unit(gpu=False)
    assert {"PrivateDevices=yes", "DevicePolicy=closed", "ProcSubset=pid"} <= set(lines)
    assert "SystemCallFilter=~@privileged @resources" in lines
    assert not [line for line in lines if "gpu" in line or line.startswith("DeviceAllow")]


def test_with_a_gpu_only_its_devices_are_added() -> None:
    plain, lines = unit(gpu=False), unit(gpu=True)
    assert [line for line in lines if line not in plain and not line.startswith("#")] == [
        "Requires=airgap-gpu.service",
        "After=airgap-gpu.service",
        "    --threads -1 --fit off --gpu-layers all --flash-attn off --log-verbosity 3",
        "DeviceAllow=char-nvidia* rw",
        "SystemCallFilter=~@privileged",
    ]
    assert [line for line in plain if line not in lines] == [
        "    --threads -1 --fit off --log-verbosity 3",
        "PrivateDevices=yes",
        "ProcSubset=pid",
        "SystemCallFilter=~@privileged @resources",
    ]


def test_every_slot_has_a_whole_context_and_keeps_nothing_for_the_next_request() -> None:
    words = command(gpu=False)
    assert words[words.index("--parallel") + 1] == "4"
    assert words[words.index("--ctx-size") + 1] == str(4 * 512)
    assert words[words.index("--cache-ram") + 1] == "0"
    assert {"--no-kv-unified", "--no-cache-prompt", "--no-cache-idle-slots", "--no-slots", "--offline"} <= set(words)


def test_it_answers_at_a_socket_and_has_no_network() -> None:
    words, lines = command(gpu=False), unit(gpu=False)
    assert words[words.index("--host") + 1] == "/run/airgap-engine/words/words.sock"
    assert {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "RuntimeDirectory=airgap-engine/words"} <= set(
        lines
    )


def test_a_path_is_not_taken_for_a_specifier_of_systemd() -> None:
    words = command(gpu=False)
    assert words[words.index("--model") + 1] == "/m/models/r/words%%1.gguf"
