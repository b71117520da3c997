"""The role base: packages at their versions, a clock that is not root's, and nothing that calls out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.roles.release import VARIABLES


def test_packages_are_there_at_exactly_their_versions(host: Any) -> None:
    wanted = set(json.loads(host.check_output(f"cat {VARIABLES}"))["base_packages"])
    assert len(wanted) > 50
    found = host.check_output(
        "dpkg-query --show --showformat='${Package}=${Version} ${Package}:${Architecture}=${Version}\\n'"
    )
    assert wanted <= set(found.split())
    assert host.check_output("dpkg --audit") == ""


def test_no_source_of_packages_is_left(host: Any) -> None:
    assert host.run("grep -rhsv '^#' /etc/apt/sources.list /etc/apt/sources.list.d").stdout.strip() == ""
    assert not host.file("/usr/sbin/policy-rc.d").exists


def test_service_users_can_not_log_in(host: Any) -> None:
    for name in ("airgap-audit", "airgap-engine", "airgap-gateway", "airgap-nginx"):
        user = host.user(name)
        assert (user.shell, user.home, user.group) == ("/usr/sbin/nologin", "/nonexistent", name)
        assert user.uid < 1000


def test_what_calls_out_or_sleeps_is_masked(host: Any) -> None:
    units = (
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "systemd-timesyncd.service",
        "motd-news.timer",
        "sleep.target",
    )
    for unit in units:
        assert host.run(f"systemctl is-enabled {unit}").stdout.strip() == "masked"


def test_the_clock_asks_nobody_and_is_not_root(host: Any, exposure: Callable[..., None]) -> None:
    assert host.service("chrony").is_running
    assert host.check_output("ps -o user= -C chronyd").split() == ["_chrony", "_chrony"]  # and its DNS helper
    assert host.check_output("chronyc -n sources | grep -c '^\\^' || true") == "0"
    assert host.check_output("ss -H -lntu 'sport = :123 or sport = :323'") == ""
    exposure("chrony.service")


def test_nothing_dumps_core_or_swaps(host: Any) -> None:
    assert host.check_output("systemctl show --property=DefaultLimitCORE --value") == "0"
    assert host.file("/etc/sysctl.d/60-airgap-base.conf").contains("vm.swappiness = 0")
    assert host.run("grep -E '^[^#].*\\sswap\\s' /etc/fstab").rc == 1


def test_the_journal_is_kept(host: Any) -> None:
    assert host.file("/var/log/journal").is_directory
    assert "SystemMaxUse=1024M" in host.check_output("systemd-analyze cat-config systemd/journald.conf")
