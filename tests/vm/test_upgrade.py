"""An appliance that remembers: three lies of a second medium are refused on it, and a good one takes it a release on.

The second bundle is carried as a folder, as `start --stage` lays it down, so that a lie costs no burning.
"""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.manifest.lock import load_lock, save_lock
from tests.carried import lay_down
from tests.vm import path
from tests.vm.conftest import Walked

_THERE = "/root/carried"


def release(walk: path.Walk, version: int) -> path.Walk:
    """The same contents as the walk's bundle under another version, built and not yet signed."""
    lock = load_lock(walk.work / "demo.lock.json")
    file = walk.work / f"demo-{version}.lock.json"
    save_lock(lock.model_copy(update={"bundle": lock.bundle.model_copy(update={"version": version})}), file)
    other = dataclasses.replace(walk, bundle=walk.work / f"demo-{version}")
    if not other.bundle.exists():
        path.airgap(walk, f"build {version}", "build", file, other.bundle, "--cache", path.cache_folder())
    return other


@pytest.fixture(scope="module")
def carried(walked: Walked) -> Iterator[str]:
    """Release 2, signed, in a folder on the appliance; returns the shell command that installs it."""
    walk = release(walked.walk, 2)
    path.sign_bundle(walk)
    folder, _ = lay_down(walk.bundle, walk.fingerprint, walk.work / "carried-2")
    put(walked, folder)
    path.bring_site(walked.walk, walked.machine)
    yield f"sh {_THERE}.start {_THERE} --site /root/site/site.yml"
    walked.machine.run(f"rm -rf {_THERE} {_THERE}.start")


def put(walked: Walked, folder: Path) -> None:
    """Carry a folder over, and measure its `start` as the operator does."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(folder, ".")
    walked.machine.run(
        f"rm -rf {_THERE}; mkdir {_THERE}; tar -x --no-same-owner -C {_THERE}", stdin=stream.getvalue(), timeout_s=900
    )
    walked.machine.run(f"cp {_THERE}/start {_THERE}.start")


def refused(walked: Walked, command: str, code: int, reason: str) -> None:
    """The appliance says no, and stays what it is."""
    looks = "readlink /opt/airgap/current; sha256sum /etc/airgap/site.yml; ls /opt/airgap/releases; nft -s list ruleset"
    before = walked.machine.run(looks).text
    said = walked.machine.run(command, stdin=f"{walked.walk.fingerprint}\n".encode(), timeout_s=900, check=False)
    text = said.stdout.decode(errors="replace") + said.stderr.decode(errors="replace")
    assert said.rc == code, text[-3000:]
    assert reason in text
    assert "Traceback" not in text
    assert walked.machine.run(looks).text == before
    assert path.ask(walked.walk, walked.machine) == walked.first


def test_one_flipped_bit_is_refused_by_name(walked: Walked, carried: str) -> None:
    victim = f"{_THERE}/sealed/data/ansible/playbooks/install.yml"
    walked.machine.run(f"cp -p {victim} /run/kept; sed -i '1s/^-/+/' {victim}")
    refused(walked, carried, 11, "install.yml")
    walked.machine.run(f"cp -p /run/kept {victim}")


def test_a_bundle_that_one_person_signed_is_refused(walked: Walked, carried: str) -> None:
    envelope = f"{_THERE}/carrier/statement.dsse.json"
    walked.machine.run(f"cp -p {envelope} /run/kept; mkdir /run/sigs; cp -p {_THERE}/carrier/sig/* /run/sigs/")
    # Canonical JSON: the second signature is all between the first one's end and the list's.
    walked.machine.run(
        rf"sed -i 's/,{{\"keyid\":\"[0-9a-f]*\",\"sig\":\"[^\"]*\"}}\]}}$/]}}/' {envelope};"
        f" for s in {_THERE}/carrier/sig/*; do k=$(basename $s .sig); grep -q $k {envelope} || rm $s; done"
    )
    refused(walked, carried, 12, "expected signatures of 1")
    walked.machine.run(f"cp -p /run/kept {envelope}; cp -p /run/sigs/* {_THERE}/carrier/sig/; rm -r /run/sigs")


def test_a_revoked_bundle_is_refused_and_the_revocation_remembered(walked: Walked, carried: str) -> None:
    """Release 3 brings the list that takes itself back; release 2, without the list, comes too late."""
    walk = release(walked.walk, 3)
    trust = walk.work / "people/trust"
    path.airgap(walk, "revoke", "trust", "revoke", trust, "--bundle", walk.bundle, "--reason", "answers nonsense")
    for person in ("alice", "bob"):
        path.sign_as(walk, person, "trust", "sign", trust)
    path.sign_bundle(walk)
    lists = "\n".join(str(file.relative_to(walk.bundle)) for file in (walk.bundle / "carrier").rglob("*.flat"))
    assert "revocations.flat" in lists
    other = ("carrier", *(f"sealed/{name}" for name in ("SHA256SUMS", "facts.txt", "lock.json", "sbom")))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in other:
            archive.add(walk.bundle / name, name)
    three = f"{_THERE}.three"
    walked.machine.run(f"cp -al {_THERE} {three}; cd {three} && rm -rf {' '.join(other)}")
    walked.machine.run(f"tar -x --no-same-owner -C {three}", stdin=stream.getvalue())
    refused(walked, carried.replace(f"{_THERE} ", f"{three} "), 17, "revoked")
    walked.machine.run(f"rm -rf {three}")


@pytest.mark.nightly
def test_the_next_release_takes_over(walked: Walked, carried: str) -> None:
    said = walked.machine.run(carried, stdin=f"{walked.walk.fingerprint}\n".encode(), timeout_s=3600)
    (walked.walk.work / "upgrade.log").write_bytes(said.stdout + said.stderr)
    assert walked.machine.run("readlink -f /opt/airgap/current").text.strip().endswith("airgap-demo-2")
    assert path.ask(walked.walk, walked.machine) == walked.first
    assert walked.machine.run("airgap status").rc == 0
    assert path.default_routes(walked.machine) == ""


@pytest.mark.nightly
def test_only_an_order_of_its_own_takes_it_back(walked: Walked, carried: str) -> None:
    """From release 2 to 1: refused as old; taken once with an order that the role recovery signed."""
    walk = walked.walk
    assert walked.machine.run("readlink -f /opt/airgap/current").text.strip().endswith("airgap-demo-2")
    put(walked, lay_down(walk.bundle, walk.fingerprint, walk.work / "carried-1")[0])
    refused(walked, carried, 15, "version")
    order = walk.work / "back-to-1.order"
    order.unlink(missing_ok=True)
    words = ("--from-version", "2", "--reason", "2 answers nonsense", "--out", order)
    path.sign_as(walk, "carol", "trust", "order", walk.work / "people/trust", walk.bundle, *words)
    walked.machine.put(order, "/root/back.order")
    command = f"{carried} --downgrade-order /root/back.order"
    said = walked.machine.run(command, stdin=f"{walk.fingerprint}\n".encode(), timeout_s=3600)
    (walk.work / "downgrade.log").write_bytes(said.stdout + said.stderr)
    assert walked.machine.run("readlink -f /opt/airgap/current").text.strip().endswith("airgap-demo-1")
    assert path.ask(walk, walked.machine) == walked.first
    assert walked.machine.run("airgap status").rc == 0
