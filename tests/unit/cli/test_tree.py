"""Every command: help with an example, `--json` where it reads, `--dry-run` where it changes; completion; its pages."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bundler.cli import cli, main
from custody import errors
from tests.attack.judges import AIRGAP, state
from tests.bundles import Made, lock, make, sealed

ROOT = Path(__file__).parents[3]
PASSPHRASE = "correct horse battery"

_DRIVE = {f"drive {verb}" for verb in ("lock", "unlock", "rotate", "seal", "restore-header", "revert", "decommission")}
#: Every command is one of these. What is in neither makes one new file, or prints what it makes.
READING = {
    "verify",
    "diff",
    "trust show",
    "status",
    "drive list",
    "ledger show",
    "ledger verify",
    "timestamp",
    "audit search",
    "audit verify",
    "audit explain",
    "audit hold list",
    "diode status",
    "policy check",
    "policy show",
    "policy simulate",
    "policy test",
    "user list",
    "user show",
}
_USER = {f"user {verb}" for verb in ("add", "change", "group", "revoke", "rotate")}
CHANGING = {
    "lock",
    "build",
    "sign",
    "burn",
    "install",
    "unlock",
    "support",
    "gpu",
    "policy apply",
    "audit expire",
    *_DRIVE,
    *_USER,
}
SMALL = {
    "keys new",
    "keys public",
    "sign-models",
    "trust init",
    "trust sign",
    "inventory",
    "completion",
    "trust rotate",
    "trust revoke",
    "trust order",
    "trust paper",
    "trust pin",
    "audit-kit",
    "audit init",
    "audit hold add",
    "audit hold lift",
    "user init",
    "audit page",
    "audit prove",
    "audit export",
    "diode fill",
    "diode receive",
    "ledger collect",
    "ledger init",
    "ledger checkpoint",
    "ledger prove",
    "ledger prove-growth",
    "ledger export",
    "policy approve",
}


def _leaves(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    name = context.command_path.removeprefix("airgap").strip()
    yield name, command, context
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            assert inner
            yield from _leaves(inner, click.Context(inner, info_name=each, parent=context))


TOP = click.Context(cli, info_name="airgap", **cli.context_settings)
TREE = {name: (command, context) for name, command, context in _leaves(cli, TOP)}
LEAVES = {name for name, (command, _) in TREE.items() if not isinstance(command, click.Group)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


def printed(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """Standard output of a command that must succeed."""
    capfd.readouterr()
    main(arguments)
    return capfd.readouterr().out


@pytest.mark.parametrize("name", TREE)
def test_help_has_an_example_that_fits_the_command(name: str) -> None:
    command, context = TREE[name]
    text = re.sub(r" \\\n *", " ", command.get_help(context))  # an example may go on in the next line
    examples = re.findall(r"Example: (.+)", text)
    assert examples, text
    known = {option for param in command.params for option in param.opts}
    for example in examples:
        words = example.split(" | ")[0].split()
        start = words.index("airgap")
        ours = " ".join(words[start + 1 :])
        below = [inner for inner in TREE if inner.startswith(f"{name} ".lstrip())]
        assert ours.startswith(name), example
        options = {word for word in words[start:] if word.startswith("-")} - {"--help"}
        allowed = known.union(*(param.opts for inner in below for param in TREE[inner][0].params))
        assert options <= allowed, example


@pytest.mark.parametrize("name", TREE)
def test_help_fits_a_terminal_of_80_columns(name: str) -> None:
    command, context = TREE[name]
    text = command.get_help(click.Context(command, context.parent, context.info_name, terminal_width=80))
    assert max(map(len, text.splitlines())) <= 80, text


def test_every_command_is_known_to_read_or_to_change() -> None:
    assert READING | CHANGING | SMALL == LEAVES


@pytest.mark.parametrize("name", sorted(READING))
def test_reading_commands_have_json(name: str) -> None:
    assert "--json" in {option for param in TREE[name][0].params for option in param.opts}


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_changing_commands_have_a_dry_run(name: str) -> None:
    assert "--dry-run" in {option for param in TREE[name][0].params for option in param.opts}


def test_json_is_one_object_with_its_schema(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    verified = json.loads(printed(["verify", str(made.folder), "--fingerprint", made.fingerprint, "--json"], capfd))
    assert (verified["schema"], verified["verdict"]) == ("airgap.verify/1", "accepted")
    root = json.loads(printed(["trust", "show", str(made.trust), "--json"], capfd))
    assert (root["schema"], root["fingerprint"]) == ("airgap.root/1", made.fingerprint)
    assert root["signed_by"] == ["alice", "bob"]
    assert [(person["name"], person["roles"]) for person in root["persons"]] == [
        ("alice", ["builder", "root"]),
        ("bob", ["approver", "root"]),
    ]


def test_sign_dry_run_checks_and_signs_nothing(made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle, key, secret = sealed(tmp_path / "bundle"), tmp_path / "alice.key", tmp_path / "secret"
    key.write_bytes(made.builder.dump(PASSPHRASE.encode()))
    secret.touch(mode=0o600)
    secret.write_text(PASSPHRASE)
    command = ["sign", str(bundle), "--key", str(key), "--trust", str(made.trust), "--passphrase-file", str(secret)]
    before = state(tmp_path)
    assert "would be signed by alice" in printed([*command, "--dry-run"], capfd)
    assert state(tmp_path) == before
    assert ": signed by alice" in printed(command, capfd)
    assert state(tmp_path) != before
    (bundle / "sealed/data/files/readme.txt").write_text("other\n")
    with pytest.raises(SystemExit) as caught:
        main([*command, "--dry-run"])
    assert caught.value.code == errors.DigestMismatch.exit_code


def test_build_dry_run_says_what_build_then_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from bundler.manifest.lock import LockedFile, dump_lock

    data = b"x" * 1_500_000
    digest = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True).stdout[:64].decode()
    (tmp_path / "big").write_bytes(data)
    item = LockedFile(name="big", origin=str(tmp_path / "big"), size_bytes=len(data), sha256=digest)
    (tmp_path / "lock.json").write_bytes(dump_lock(lock().model_copy(update={"files": (item,)})))
    folder, cache = tmp_path / "far" / "bundle", tmp_path / "cache"
    command = ["build", str(tmp_path / "lock.json"), str(folder), "--cache", str(cache)]
    before = state(tmp_path)
    first = printed([*command, "--dry-run"], capfd)
    assert "would fetch   1.5 MB" in first
    assert f"{folder}, 1 items, 1.5 MB" in first
    assert state(tmp_path) == before
    printed(command, capfd)
    assert (folder / "sealed/data/files/big").read_bytes() == data
    before = state(tmp_path)
    assert "would do nothing" in printed([*command, "--dry-run"], capfd)
    other = [*command[:2], str(tmp_path / "other"), *command[3:], "--dry-run"]
    assert "would fetch   0.0 MB" in printed(other, capfd)
    assert state(tmp_path) == before


def test_burn_dry_run_makes_no_image(made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "medium.img"
    command = ["burn", str(made.folder), str(image), "--image", "--fingerprint", made.fingerprint, "--dry-run"]
    assert f"would make {image}" in printed(command, capfd)
    assert list(tmp_path.iterdir()) == []


def test_lock_dry_run_writes_no_lock(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Resolving wants mirrors and has tests of its own; what is looked at here is what happens to its result.
    monkeypatch.setattr("bundler.collect.resolve.resolve", lambda *_: lock())
    command = ["lock", str(ROOT / "manifests/demo.yml"), "-o", str(tmp_path / "a" / "l.json")]
    command += ["--cache", str(tmp_path / "cache")]
    assert "would write" in printed([*command, "--dry-run"], capfd)
    assert not (tmp_path / "a").exists()
    printed(command, capfd)
    assert (tmp_path / "a" / "l.json").is_file()


def test_lock_asks_for_the_host_s_key_and_not_for_a_paper(capfd: pytest.CaptureFixture[str]) -> None:
    for typed in ("3f9a", "0" * 96, "g" * 64):
        with pytest.raises(SystemExit) as caught:
            main(["lock", str(ROOT / "manifests/demo.yml"), "--inventory", "host.json", "--inventory-key", typed])
        assert caught.value.code == errors.InputInvalid.exit_code
        told = capfd.readouterr().err
        assert f"--inventory-key '{typed}': expected 64 digits" in " ".join(told.split())
        assert "airgap status on that host, line host key" in told
    key = " ".join(["0" * 8] * 8)  # as it is shown
    with pytest.raises(SystemExit):
        main(["lock", str(ROOT / "manifests/demo.yml"), "--inventory", "no-host.json", "--inventory-key", key])
    assert "no-host.json: No such file" in capfd.readouterr().err


def test_a_defect_is_told_without_a_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("hunter2")

    monkeypatch.setattr("bundler.bundle.read.FolderSource", broken)
    command = ["verify", str(ROOT), "--fingerprint", "0" * 64]
    with pytest.raises(SystemExit) as caught:
        main(command)
    told = capfd.readouterr().err
    assert caught.value.code == 1
    assert "a defect of this project: KeyError" in told
    assert "hunter2" not in told
    with pytest.raises(KeyError):
        main(["--debug", *command])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_airgap(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    script = printed(["completion", shell], capfd)
    assert f"_AIRGAP_COMPLETE={shell}_complete" in script


def test_bash_completes_commands_and_options(capfd: pytest.CaptureFixture[str]) -> None:
    script = printed(["completion", "bash"], capfd)
    ask = 'COMP_WORDS=(airgap trust sh); COMP_CWORD=2; _airgap_completion airgap; echo "${COMPREPLY[@]}"'
    environment = {**os.environ, "PATH": f"{AIRGAP.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{ask}"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.split() == ["show"], done.stderr


def test_generated_pages_are_as_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = generate  # dataclasses look their module up
    spec.loader.exec_module(generate)
    made = generate.pages()
    stale = [str(path) for path, text in made.items() if not path.is_file() or path.read_text() != text]
    stale += [str(path) for path in (ROOT / "docs/man").glob("*.1") if path not in made]
    assert not stale, "run: make docs"
    assert len(made) > len(TREE)


def test_troubleshooting_has_every_exit_code() -> None:
    table = (ROOT / "docs/reference/exit-codes.md").read_text()
    page = (ROOT / "docs/how-to/troubleshooting.md").read_text()
    sections = dict(re.findall(r"^## (\d+)\n\n(.+?)(?=\n## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert re.findall(r"^\| \[(\d+)\]", table, re.MULTILINE) == list(sections)
    assert all(len(text.split()) >= 10 for text in sections.values())
