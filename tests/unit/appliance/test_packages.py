"""Which packages are missing, what is refused, and that nothing is started by being installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance import packages
from custody._run import Completed
from custody.errors import AirgapError, EnvironmentProblem, IntegrityFailure, OperatorMistake, ProgramFailed
from tests.unit.appliance.conftest import Programs

INSTALLED = "libc6\tamd64\t2.41-12\tinstalled\nnginx\tamd64\t1.26.3-3\tinstalled\nufw\tall\t0.36\tconfig-files\n"
ARCHIVE = packages.Archive("debian", Path("/opt/airgap/apt"), ("trixie",), ("main",))


@pytest.fixture
def apt(programs: Callable[..., Programs], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Programs:
    """A host with three packages, its sources and its policy in a folder of the test's."""
    sources = tmp_path / "etc"
    (sources / "sources.list.d").mkdir(parents=True)
    monkeypatch.setattr(packages, "STATE", tmp_path / "state")
    monkeypatch.setattr(packages, "_HOST_SOURCES", (sources / "sources.list", sources / "sources.list.d"))
    monkeypatch.setattr(packages, "set_aside", lambda path: path.unlink())
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages, "_LOCKS", (tmp_path / "lock-frontend", tmp_path / "lock"))
    (tmp_path / "initramfs-tools").mkdir()
    monkeypatch.setattr(packages, "_INITRAMFS", tmp_path / "initramfs-tools/update-initramfs.conf")
    return programs("appliance.packages", answers={"dpkg-query": (0, INSTALLED), "dpkg --compare": (1, "")})


def test_what_is_there_is_not_installed_again(apt: Programs) -> None:
    outcome = packages.install(["nginx=1.26.3-3", "libc6:amd64=2.41-12"], [ARCHIVE])
    assert not outcome.changed
    assert not apt.called("apt-get")


def test_only_the_missing_are_installed_after_a_look_at_the_plan(apt: Programs) -> None:
    outcome = packages.install(["nginx=1.26.3-3", "ufw=0.36", "chrony=4.6"], [ARCHIVE])
    assert outcome.installed == ("ufw=0.36", "chrony=4.6")
    assert [line for line in apt.calls if line.startswith("apt-get")] == [
        "apt-get update --error-on=any",
        "apt-get install --simulate ufw=0.36 chrony=4.6",
        "apt-get install ufw=0.36 chrony=4.6",
    ]


def test_what_a_killed_run_left_is_finished_first(apt: Programs, tmp_path: Path) -> None:
    (tmp_path / "policy-rc.d").write_text(packages._POLICY_TEXT)
    packages.install(["ufw=0.36"], [ARCHIVE])
    assert apt.calls[0].startswith("dpkg --configure -a")
    assert not (tmp_path / "policy-rc.d").exists()


def test_a_dry_run_runs_no_apt(apt: Programs) -> None:
    assert packages.install(["ufw=0.36"], [ARCHIVE], dry_run=True).installed == ("ufw=0.36",)
    assert not apt.called("apt-get")


def test_a_newer_version_is_not_replaced(apt: Programs) -> None:
    apt.answers["dpkg --compare-versions 1.26.3-3 gt 1.26.0"] = (0, "")
    with pytest.raises(OperatorMistake, match=r"nginx: expected 1\.26\.0, found the newer 1\.26\.3-3"):
        packages.install(["nginx=1.26.0"], [ARCHIVE])
    assert not apt.called("apt-get")


@pytest.mark.parametrize("entry", ["nginx", "nginx=", "--yes=1", "-o=1", "a b=1", "nginx=1 2", "Nginx=1"])
def test_a_malformed_entry_is_refused(apt: Programs, entry: str) -> None:
    with pytest.raises(OperatorMistake, match="expected name=version"):
        packages.install([entry], [ARCHIVE])


def test_a_removal_that_nobody_allowed_is_refused_before_anything_is_installed(apt: Programs) -> None:
    apt.answers["apt-get install --simulate"] = (0, "Remv systemd-timesyncd [257]\nRemv openssh-server [10]\nInst x\n")
    with pytest.raises(OperatorMistake, match="would remove openssh-server"):
        packages.install(["chrony=4.6"], [ARCHIVE], removable=["systemd-timesyncd"])
    assert "apt-get install chrony=4.6" not in apt.calls


def test_an_allowed_removal_is_told(apt: Programs) -> None:
    apt.answers["apt-get install --simulate"] = (0, "Remv systemd-timesyncd [257]\n")
    outcome = packages.install(["chrony=4.6"], [ARCHIVE], removable=["systemd-timesyncd"])
    assert outcome.removed == ("systemd-timesyncd",)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("E: The repository 'file:/opt trixie InRelease' is not signed.", IntegrityFailure),
        ("E: Clearsigned file isn't valid, got 'NOSPLIT'\nE: The repository is no longer signed.", IntegrityFailure),
        ("W: OpenPGP signature verification failed: Message has been manipulated", IntegrityFailure),
        ("E: Failed to fetch file:/opt/a.deb  Hash Sum mismatch", IntegrityFailure),
        ("W: OpenPGP signature verification failed: Not live until 2026-09-12T07:26:18Z", EnvironmentProblem),
        ("E: No space left on device", ProgramFailed),
    ],
)
def test_what_apt_says_decides_whose_business_it_is(apt: Programs, said: str, error: type[AirgapError]) -> None:
    apt.answers["apt-get update"] = (100, said)
    with pytest.raises(error) as caught:
        packages.install(["ufw=0.36"], [ARCHIVE])
    assert type(caught.value) is error
    assert not apt.called("apt-get install")


def test_no_source_is_trusted_unsigned(apt: Programs, tmp_path: Path) -> None:
    packages.install(["ufw=0.36"], [ARCHIVE])
    source = (tmp_path / "state/etc/parts/airgap.sources").read_text()
    assert "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg" in source
    assert "URIs: file:/opt/airgap/apt\n" in source
    assert "rusted" not in source
    configuration = (tmp_path / "state/etc/apt.conf").read_text()
    assert 'APT::Get::AllowUnauthenticated "false"' in configuration


def test_an_archive_cannot_smuggle_a_field_in(apt: Programs) -> None:
    archive = packages.Archive("debian", Path("/opt/a\nTrusted: yes"), ("trixie",), ("main",))
    with pytest.raises(OperatorMistake, match="unusual characters"):
        packages.install(["ufw=0.36"], [archive])


def test_the_hosts_own_sources_are_put_aside(apt: Programs, tmp_path: Path) -> None:
    (tmp_path / "etc/sources.list").write_text("deb http://deb.debian.org/debian trixie main\n")
    (tmp_path / "etc/sources.list.d/extra.sources").write_text("Types: deb\n")
    (tmp_path / "etc/sources.list.d/README").write_text("kept\n")
    assert len(packages.install([], []).sources_set_aside) == 2
    assert not packages.install([], []).changed
    assert (tmp_path / "etc/sources.list.d/README").exists()


@pytest.mark.parametrize("keep", [True, False])
def test_services_and_boot_image_are_held_while_apt_runs(
    apt: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    policy, initramfs = tmp_path / "policy-rc.d", tmp_path / "initramfs-tools/update-initramfs.conf"
    initramfs.write_text("update_initramfs=yes\n")
    seen: list[tuple[bool, bool]] = []
    ordinary = apt.run

    def run(argv: Sequence[str | Path], **others: Any) -> Completed:
        if argv[0] == "apt-get" and "--simulate" not in argv and argv[1] == "install":
            seen.append(("exit 101" in policy.read_text(), "update_initramfs=no" in initramfs.read_text()))
        return ordinary(argv, **others)

    monkeypatch.setattr("appliance.packages.run", run)
    packages.install(["ufw=0.36"], [ARCHIVE], keep_boot_image=keep)
    assert seen == [(True, keep)]
    assert not policy.exists()
    assert initramfs.read_text() == "update_initramfs=yes\n"


def test_the_hosts_own_file_comes_back_after_a_failure(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 104\n")
    with pytest.raises(RuntimeError), packages.standing_in(policy, "ours\n", 0o755):
        assert policy.read_text() == "ours\n"
        assert policy.stat().st_mode & 0o111
        raise RuntimeError
    assert policy.read_text() == "#!/bin/sh\nexit 104\n"
    assert [path.name for path in tmp_path.iterdir()] == ["policy-rc.d"]


@pytest.mark.parametrize("own", ["", "the host's own\n"])
def test_the_hosts_own_file_comes_back_after_a_run_that_was_cut_off(tmp_path: Path, own: str) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("ours\n")  # what a run that was killed leaves behind
    if own:
        policy.with_name("policy-rc.d.airgap-before").write_text(own)
    with packages.standing_in(policy, "ours\n", 0o755):
        pass
    assert policy.read_text() == own if own else not policy.exists()
    assert len(list(tmp_path.iterdir())) == (1 if own else 0)
