"""cryptsetup's own test of its OPAL support, from the guest's release, on the emulated drive.

The script is no part of this project. It comes out of the source package of the cryptsetup that the guest has: apt
checks the distribution's signature over the index of sources, the index has the package's digest.
"""

from __future__ import annotations

import re
import shlex
import tarfile
import time
from pathlib import Path

import pytest

from bundler.collect.apt import Apt, Source
from bundler.collect.cache import Cache
from bundler.collect.mirror import builder_mirrors
from custody._run import run
from tests.vm.images import Image
from tests.vm.machine import Machine
from tests.vm.opal import OpalGuestDrive
from tests.vm.path import ROOT, cache_folder
from tests.vm.recipes import RELEASE

_SCRIPT = "tests/compat-test-opal"
_PATCHED = "debian/patches/"  # none of the distribution's patches may touch the script
_LINE = re.compile(r"'(?P<uri>[^']+)' (?P<name>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")


def installed(image: Image, package: str) -> str:
    """The version of a package in an image."""
    found = re.search(rf"^Package: {re.escape(package)}\n(?:.+\n)*?Version: (\S+)$", image.status.read_text(), re.M)
    assert found, f"{image.name} has no {package}"
    return found[1]


def source_files(package: str, version: str, work: Path) -> dict[str, Path]:
    """Fetch the files of a source package, by name."""
    apt = Apt(work, "amd64", [Source("debian", builder_mirrors()["debian"], RELEASE, ("main",))])
    sources = work / "etc/sources.list"
    sources.write_text(re.sub(r"^deb ", "deb-src ", sources.read_text(), flags=re.M))
    apt.update()
    command = ["apt-get", "source", "--print-uris", "--only-source", f"{package}={version}"]
    listed = run(command, env={"APT_CONFIG": str(work / "etc/apt.conf"), "LC_ALL": "C"}, cwd=work).text
    cache = Cache(cache_folder())
    files = {line["name"]: cache.fetch(line["uri"], line["sha256"], int(line["size"]), line["name"])
             for line in _LINE.finditer(listed)}  # fmt: skip
    assert files, f"apt names no files of {package} {version}:\n{listed}"
    return files


def script(files: dict[str, Path]) -> bytes:
    """The test script of a source package's files."""
    for name, file in files.items():
        if ".debian.tar." in name:
            with tarfile.open(file) as archive:
                for member in archive:
                    if member.name.startswith(_PATCHED) and (patch := archive.extractfile(member)):
                        assert _SCRIPT.encode() not in patch.read(), f"{member.name} patches {_SCRIPT}"
    origin = next(file for name, file in files.items() if ".orig.tar." in name)
    with tarfile.open(origin) as archive:
        member = next(member for member in archive if member.name.partition("/")[2] == _SCRIPT)
        stream = archive.extractfile(member)
        assert stream is not None
        return stream.read()


@pytest.mark.nightly
@pytest.mark.network
def test_cryptsetup_finds_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Machine("bench") as machine:
        version = installed(machine.image, "cryptsetup-bin")
        text = script(source_files("cryptsetup", version, tmp_path / "apt"))
        machine.wait_ssh()
        drive = OpalGuestDrive(machine)
        device = drive.start()
        machine.run("mkdir -p /root/compat/tests")
        machine.put(text, "/root/compat/tests/compat-test-opal", 0o755)
        machine.put(drive.psid.encode(), "/root/compat/psid", 0o600)
        command = f"cd /root/compat/tests && CRYPTSETUP_PATH=/usr/sbin OPAL2_DEV={shlex.quote(device)}"
        begun_s = time.monotonic()
        done = machine.run(
            f"{command} OPAL2_PSID_FILE=/root/compat/psid ./compat-test-opal 2>&1", timeout_s=7200, check=False
        )
        took_s = time.monotonic() - begun_s
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build/opal-compat.log").write_bytes(done.stdout)
    cases = re.findall(r"^CASE: (\[\d+\].*)$", done.text, re.M)
    with capsys.disabled():
        passed = len(cases) if done.rc == 0 else len(cases) - 1
        print(f"\ncryptsetup {version}, {_SCRIPT}: {passed} cases passed in {took_s:.0f} s")
    assert done.rc == 0, f"ended with {done.rc} in {cases[-1:]}:\n{done.text[-3000:]}"
    assert len(cases) == len(set(re.findall(rb'\bprepare\s+"(\[\d+\])', text)))
