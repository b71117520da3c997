"""A SoftHSM with tokens of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4711-and-more"


@dataclass(frozen=True)
class Tokens:
    """SoftHSM's tokens `alice` and `odd`; `environment` leads other processes to them."""

    module: Path
    pin: str
    environment: dict[str, str]


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    """Two initialised tokens; SoftHSM reads its configuration once a process."""
    pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed (extra: token)")
    if not MODULE.exists() or shutil.which("softhsm2-util") is None:
        pytest.skip("softhsm2 is not installed")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(folder / "conf")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", environment["SOFTHSM2_CONF"])
        for label in ("alice", "odd"):
            init = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", PIN]
            subprocess.run(init, check=True, capture_output=True, env={**os.environ, **environment})
        yield Tokens(MODULE, PIN, environment)
        pkcs11.unload(str(MODULE))
