"""`airgap sign`: the question at a terminal, which options go together, a signature from another room."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from custody import errors
from tests.bundles import Made, make, sealed

AIRGAP = Path(sys.executable).with_name("airgap")
PASSPHRASE = "correct horse battery"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    found = make(tmp_path_factory.mktemp("made"))
    (found.trust.parent / "alice.key").write_bytes(found.builder.dump(PASSPHRASE.encode()))
    (found.trust.parent / "pass").write_text(PASSPHRASE + "\n")
    (found.trust.parent / "pass").chmod(0o600)
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return sealed(tmp_path / "bundle")


def sign(made: Made, *arguments: str | Path, answer: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `airgap sign`; with an answer, at a terminal where that is typed."""
    command = [AIRGAP, "sign", *arguments]
    if answer is None:
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    master, slave = pty.openpty()
    try:
        os.write(master, f"{answer}\n".encode())
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=slave, timeout=60)
    finally:
        os.close(master)
        os.close(slave)


def key(made: Made) -> list[str | Path]:
    folder = made.trust.parent
    return ["--key", folder / "alice.key", "--passphrase-file", folder / "pass"]


def test_shows_what_is_signed_and_signs_after_yes(made: Made, bundle: Path) -> None:
    done = sign(made, bundle, "--trust", made.trust, *key(made), answer="y")
    assert done.returncode == 0, done.stderr
    assert "bundle:    small-1 (channel test, version 1, security epoch 1)" in done.stderr
    assert "Sign this? [y/N]" in done.stderr
    assert (bundle / "carrier/sig" / f"{made.builder.public.keyid}.sig").exists()


def test_signs_nothing_after_no(made: Made, bundle: Path) -> None:
    done = sign(made, bundle, "--trust", made.trust, *key(made), answer="n")
    assert done.returncode == 130
    assert sorted(path.name for path in (bundle / "carrier").iterdir()) == ["statement.json"]


@pytest.mark.parametrize("yes", [True, False])
def test_asks_nobody_without_a_terminal_or_with_yes(made: Made, bundle: Path, yes: bool) -> None:
    arguments = [bundle, "--trust", made.trust, *key(made)]
    done = sign(made, *arguments, "--yes", answer="n") if yes else sign(made, *arguments)
    assert done.returncode == 0, done.stderr
    assert "bundle:    small-1" in done.stderr
    assert "Sign this?" not in done.stderr


def test_dry_run_shows_checks_and_writes_nothing(made: Made, bundle: Path) -> None:
    done = sign(made, bundle, "--trust", made.trust, *key(made), "--dry-run", answer="n")
    assert (done.returncode, done.stdout) == (0, f"{bundle}: would be signed by alice\n"), done.stderr
    assert sorted(path.name for path in (bundle / "carrier").iterdir()) == ["statement.json"]


def test_goes_to_another_room_and_back(made: Made, bundle: Path, tmp_path: Path) -> None:
    request, signature = tmp_path / "small.request", tmp_path / "small.signature"
    done = sign(made, bundle, "--export", request, "--trust", made.trust)
    assert done.returncode == 0, done.stderr
    assert "whole" in done.stdout
    done = sign(made, request, *key(made), "-o", signature, answer="n")
    assert (done.returncode, signature.exists()) == (130, False)
    done = sign(made, request, *key(made), "-o", signature, "--trust", made.trust, answer="y")
    assert (done.returncode, done.stdout) == (0, f"{signature}: signed by alice\n"), done.stderr
    again = sign(made, request, *key(made), "-o", signature)
    assert again.returncode == errors.TargetRefused.exit_code
    done = sign(made, bundle, "--attach", signature, "--trust", made.trust)
    assert (done.returncode, done.stdout) == (0, f"{bundle}: signed by alice\n"), done.stderr


def test_a_request_by_digest_asks_for_the_number_before_the_passphrase(
    made: Made, bundle: Path, tmp_path: Path
) -> None:
    from bundler.bundle.request import Request

    request, signature = tmp_path / "small.request", tmp_path / "small.signature"
    sign(made, bundle, "--export", request, "--trust", made.trust)
    whole = Request.model_validate_json(request.read_bytes())
    request.write_bytes(whole.model_copy(update={"statement": None, "lock": None}).dump())
    without = ["--key", made.trust.parent / "alice.key", "--passphrase-file", tmp_path / "none", "-o", signature]
    done = sign(made, request, *without, "--yes")
    assert done.returncode == errors.InputInvalid.exit_code
    done = sign(made, request, *without, answer="00" * 32)
    assert done.returncode == errors.DigestMismatch.exit_code
    assert not signature.exists()
    number = subprocess.run(["sha256sum", request], capture_output=True, text=True, check=True).stdout.split()[0]
    done = sign(made, request, *key(made), "-o", signature, answer=number.upper())
    assert done.returncode == 0, done.stderr
    assert number not in done.stderr  # the number comes from elsewhere, never from this screen


@pytest.mark.parametrize(
    "arguments",
    [
        ["{bundle}", "--trust", "{trust}"],
        ["{bundle}", "--key", "alice.key"],
        ["{bundle}", "--trust", "{trust}", "--key", "alice.key", "--export", "x"],
        ["{bundle}", "--trust", "{trust}", "--export", "x", "--attach", "y"],
        ["{bundle}", "--trust", "{trust}", "--key", "alice.key", "-o", "x"],
        ["{trust}/1.root.json", "--key", "alice.key"],
        ["{trust}/1.root.json", "--export", "x"],
    ],
)
def test_refuses_options_that_do_not_go_together(made: Made, bundle: Path, arguments: list[str]) -> None:
    done = sign(made, *(text.format(bundle=bundle, trust=made.trust) for text in arguments))
    assert done.returncode == 2, done.stderr
