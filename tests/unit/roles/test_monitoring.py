"""nginx knows of /metrics only where a site names who may read it, and judges that before anything else."""

from __future__ import annotations

import yaml

from tests.templates import ROLES, render

ROLE = ROLES / "gateway"


def lines(*networks: str) -> list[str]:
    """nginx's configuration, without blanks around its lines."""
    variables = (
        yaml.safe_load((ROLE / "defaults/main.yml").read_text())
        | yaml.safe_load((ROLE / "vars/main.yml").read_text())
        | {"gateway_addresses": ["10.0.2.15"], "gateway_monitoring_networks": networks}
    )
    text = render("gateway", "nginx.conf.j2", **variables)
    return [line.strip() for line in text.splitlines()]


def test_without_a_network_there_is_no_metrics() -> None:
    assert not [line for line in lines() if "metrics" in line or "monitoring" in line]


def test_with_networks_only_they_reach_one_path_of_that_socket() -> None:
    plain, more = lines(), lines("10.0.2.0/24", "fd00:1::/64")
    assert [line for line in plain if line not in more] == []
    assert [line for line in more if line not in plain and not line.startswith("#")] == [
        "geo $airgap_monitoring {",
        "default 0;",
        "10.0.2.0/24 1;",
        "fd00:1::/64 1;",
        "location = /metrics {",
        "if ($airgap_monitoring = 0) { return 404; }",
        "proxy_pass http://unix:/run/airgap-gateway/metrics.sock;",
    ]
    begin = more.index("location = /metrics {")
    assert more[begin + 1 : begin + 4] == [
        "if ($airgap_monitoring = 0) { return 404; }",  # before its method is looked at, as for any other path
        "if ($request_method != GET) { return 405; }",
        "proxy_pass http://unix:/run/airgap-gateway/metrics.sock;",
    ]
