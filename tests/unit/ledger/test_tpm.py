"""A checkpoint countersigned by a key that lives in a TPM: swtpm, tpm2-abrmd, tpm2-pkcs11."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from custody.ledger.note import Note, PersonKey
from custody.trust.keys import PublicKey
from tests.swtpm import Swtpm, wait_listening

AIRGAP = Path(sys.executable).with_name("airgap")
MODULE, PIN = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so", "4711-and-more"
KEY = ["--key", "pkcs11:token=ledger;object=host-7", "--module", MODULE, "--passphrase-file", "-"]
_PROGRAMS = ("swtpm", "dbus-daemon", "tpm2-abrmd", "tpm2_ptool")


@contextmanager
def program(log: Path, *argv: str | Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """A program that runs as long as this lasts."""
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, env=env, stdout=stream, stderr=stream)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def machine(folder: Path, store: Path) -> Iterator[dict[str, str]]:
    """A machine with a TPM; the environment in which tpm2-pkcs11 finds it, and its wrapped keys in `store`."""
    with Swtpm(folder) as tpm:
        bus, log = folder / "bus", folder / "bus.log"
        env = {
            **os.environ, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}", "TPM2_PKCS11_STORE": str(store),
            "TPM2_PKCS11_TCTI": "tabrmd:bus_type=session", "TPM2TOOLS_TCTI": "tabrmd:bus_type=session",
        }  # fmt: skip
        broker = ["tpm2-abrmd", "--session", "--allow-root", f"--tcti={tpm.device}"]
        with program(log, "dbus-daemon", "--session", "--nofork", f"--address=unix:path={bus}"):
            wait_listening(bus, log)
            with program(folder / "broker.log", *broker, env=env):
                deadline = time.monotonic() + 20  # it says nowhere that it listens
                while subprocess.run(["tpm2_getcap", "algorithms"], env=env, capture_output=True).returncode:
                    assert time.monotonic() < deadline, (folder / "broker.log").read_text()
                    time.sleep(0.1)
                yield env


def ptool(env: dict[str, str], *words: str) -> None:
    subprocess.run(["tpm2_ptool", *words], env=env, check=True, capture_output=True)


def airgap(env: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AIRGAP, *words], env=env, input=PIN, capture_output=True, text=True, check=False)


def test_a_tpm_countersigns_and_another_one_cannot(tmp_path: Path) -> None:
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed (extra: token)")
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    store, ledger, note = tmp_path / "store", tmp_path / "ledger", tmp_path / "checkpoint"
    store.mkdir()
    sign = ["ledger", "checkpoint", "--ledger", ledger, "--name", "host-7", *KEY, "--out"]
    with machine(tmp_path / "first", store) as env:
        ptool(env, "init")
        ptool(env, "addtoken", "--pid", "1", "--label", "ledger", "--sopin", "12345678", "--userpin", PIN)
        ptool(env, "addkey", "--algorithm", "ecc384", "--label", "ledger", "--key-label", "host-7", "--userpin", PIN)
        assert airgap(env, "ledger", "init", "site-7.example/custody", "--ledger", ledger).returncode == 0
        said = airgap(env, "keys", "public", "host-7", "--out", tmp_path, *KEY)
        assert said.returncode == 0, said.stderr
        said = airgap(env, *sign, note)
        assert said.returncode == 0, said.stderr
    public = PublicKey.from_text((tmp_path / "host-7.pub").read_text().strip())
    made = Note.parse(note.read_bytes(), "checkpoint")
    made.require(PersonKey("host-7", public), "checkpoint")
    assert len(made.signatures) == 2

    with machine(tmp_path / "second", store) as env:  # whoever takes all files of the first, has no key
        said = airgap(env, *sign, tmp_path / "second.checkpoint")
        assert (said.returncode, "Traceback" in said.stderr) == (40, False), said.stderr
