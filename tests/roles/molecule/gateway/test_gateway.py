"""The service as its users meet it: TLS, keys, policies, limits, the model's answer, and a record of each request."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.containers import Container
from tests.roles.release import SCENARIOS, give_volume, prepared

ADDRESS = "10.0.2.15"  # as in the site file
AIRGAP = "/opt/airgap/current/venv/bin/airgap"
CLIENT = (SCENARIOS / "gateway/client.py").read_text()
CHAT = {"model": "airgap-words", "messages": [{"role": "user", "content": "What is an air gap?"}], "max_tokens": 16}


@pytest.fixture(scope="module", autouse=True)
def address(host: Any) -> Iterator[None]:
    """The address that the role network would have set."""
    host.check_output(f"ip address add {ADDRESS}/32 dev lo")
    deadline = time.monotonic() + 120
    while ask(host, "GET", "/healthz")[0] != 200 or host.run("test -S /run/airgap-engine/*/*.sock").rc:
        assert time.monotonic() < deadline, host.check_output("journalctl --no-pager -u 'airgap-*' | tail -n 50")
        time.sleep(0.5)
    yield
    host.check_output(f"ip address delete {ADDRESS}/32 dev lo")


def ask(
    host: Any, method: str, path: str, key: str = "", body: Any = None, *headers: str, certificate: str = "",
    source: str = "",
) -> tuple[int, Any]:  # fmt: skip
    """Ask over TLS, from another address than the service's own if wanted; returns status and answer."""
    words = [method, path, key, json.dumps(body) if body else "", *headers]
    said = host.run(
        f"CERTIFICATE={certificate} SOURCE={source} python3 -I -c '{CLIENT}' " + " ".join(f"'{word}'" for word in words)
    )
    if said.rc:
        return 0, said.stderr
    first, _, answer = said.stdout.partition("\n")
    status, version = first.split()
    assert version == "TLSv1.3"
    return int(status), json.loads(answer) if answer.startswith("{") else answer


def user(host: Any, name: str, *options: str) -> str:
    """The key of a user, added on first use."""
    file = f"/root/{name}.key"
    if not host.file(file).exists:
        host.check_output(f"{AIRGAP} user add {name} {' '.join(options)} --key-out {file}")
        time.sleep(2)  # the gateway looks every half second
    return str(host.check_output(f"cat {file}").strip())


def records(host: Any, *options: str) -> list[Any]:
    """Entries of the audit log."""
    return list(json.loads(host.check_output(f"{AIRGAP} audit search {' '.join(options)} --json"))["entries"])


def test_a_user_is_answered_and_recorded_before_and_after(host: Any) -> None:
    key = user(host, "alice")
    status, answer = ask(host, "POST", "/v1/chat/completions", key, CHAT)
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"].strip()
    (admitted,) = records(host, "--user alice --kind admitted")
    assert (admitted["decision"], admitted["model"], admitted["client_ip"]) == ("allow", "airgap-words", ADDRESS)
    assert admitted["policy_id"] == "users-ask-general"
    (completed,) = records(host, f"--of {admitted['seq']}")
    assert completed["status"] == "ok"
    assert completed["tokens_out"] == answer["usage"]["completion_tokens"]
    assert "verdict:   intact, complete" in host.check_output(f"{AIRGAP} audit verify")


def test_an_answer_is_streamed(host: Any) -> None:
    status, text = ask(host, "POST", "/v1/chat/completions", user(host, "alice"), CHAT | {"stream": True})
    assert status == 200
    assert text.count("data: ") > 3
    assert text.rstrip().endswith("data: [DONE]")


def test_models_are_listed_to_who_may_see_them(host: Any) -> None:
    status, answer = ask(host, "GET", "/v1/models", user(host, "alice"))
    assert (status, [model["id"] for model in answer["data"]]) == (200, ["airgap-words"])
    assert ask(host, "GET", "/v1/models", user(host, "guest", "--role guest")) == (200, {"object": "list", "data": []})


def test_a_policy_refuses_and_the_record_says_so(host: Any) -> None:
    status, answer = ask(host, "POST", "/v1/chat/completions", user(host, "guest", "--role guest"), CHAT)
    assert status in (403, 404), answer
    assert answer["error"]["message"]
    assert [entry["decision"] for entry in records(host, "--user guest --kind admitted")] == ["deny"]


def test_a_limit_refuses(host: Any) -> None:
    key = user(host, "bob", "--requests-per-minute 1")
    statuses = [ask(host, "POST", "/v1/chat/completions", key, CHAT)[0] for _ in range(3)]
    assert statuses[0] == 200
    assert 429 in statuses[1:]


def test_a_revoked_key_is_refused(host: Any) -> None:
    key = user(host, "mallory")
    assert ask(host, "GET", "/v1/models", key)[0] == 200
    host.check_output(f"{AIRGAP} user revoke mallory")
    time.sleep(2)
    assert ask(host, "GET", "/v1/models", key)[0] == 401


def test_a_clients_certificate_is_an_identity(host: Any) -> None:
    shown = "/root/site/client.pem"
    if host.run(f"{AIRGAP} user show machine").rc:
        host.check_output(f"{AIRGAP} user add machine --no-key --certificate {shown}")
        time.sleep(2)
    assert ask(host, "POST", "/v1/chat/completions", "", CHAT, certificate=shown)[0] == 200
    assert records(host, "--user machine --kind admitted")[-1]["key_id"].startswith("cert-")
    assert ask(host, "GET", "/v1/models", user(host, "alice"), certificate=shown)[0] == 401
    assert ask(host, "GET", "/v1/models", user(host, "alice"), certificate="/root/site/stranger.pem")[0] == 400
    forged = "X-Airgap-Client-Certificate: -----BEGIN%20CERTIFICATE-----"
    assert ask(host, "GET", "/v1/models", user(host, "alice"), None, forged)[0] == 200


@pytest.mark.parametrize(("method", "path", "key", "status"), [
    ("GET", "/v1/models", "wrong", 401), ("GET", "/v1/models", "", 401), ("GET", "/", "", 404),
    ("GET", "/openapi.json", "", 404), ("GET", "/v1/chat/completions", "", 405),
])  # fmt: skip
def test_strangers_and_strange_paths(host: Any, method: str, path: str, key: str, status: int) -> None:
    assert ask(host, method, path, key)[0] == status


def test_figures_are_for_the_networks_that_the_site_names(host: Any) -> None:
    status, text = ask(host, "GET", "/metrics")  # from ADDRESS, which is named
    assert status == 200
    assert "airgap_gateway_ready 1.0" in text
    assert ask(host, "POST", "/metrics")[0] == 405
    for method in ("GET", "HEAD", "POST"):
        unknown = ask(host, method, "/nothing", source="127.0.0.1")
        assert unknown[0] == 404
        assert ask(host, method, "/metrics", source="127.0.0.1") == unknown


def test_what_a_client_says_of_itself_is_not_believed(host: Any) -> None:
    forged = ("X-Forwarded-For: 192.0.2.9", "X-Airgap-Client-Address: 192.0.2.9", "X-Real-Ip: 192.0.2.9")
    assert ask(host, "POST", "/v1/chat/completions", user(host, "alice"), CHAT, *forged)[0] == 200
    assert records(host, "--user alice --kind admitted")[-1]["client_ip"] == ADDRESS


def test_without_the_audit_log_nothing_is_answered(host: Any) -> None:
    host.check_output("systemctl stop airgap-audit.service")
    try:
        assert ask(host, "POST", "/v1/chat/completions", user(host, "alice"), CHAT)[0] == 503
    finally:
        host.check_output("systemctl start airgap-audit.service")
    deadline = time.monotonic() + 60
    while ask(host, "GET", "/healthz")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert ask(host, "POST", "/v1/chat/completions", user(host, "alice"), CHAT)[0] == 200


def test_other_policies_are_in_force_after_apply(host: Any) -> None:
    folder = "/root/policies"
    host.check_output(f"mkdir -p {folder}")
    policy = '@id("nobody") forbid (principal, action, resource);'
    host.check_output(f"echo '{policy}' >{folder}/all.cedar")
    shipped = f"{AIRGAP.removesuffix('bin/airgap')}lib/python3.13/site-packages/appliance/gateway/policies/default"
    host.check_output(f"{AIRGAP} policy apply {folder}")
    time.sleep(3)
    assert ask(host, "POST", "/v1/chat/completions", user(host, "alice"), CHAT)[0] in (403, 404)
    host.check_output(f"{AIRGAP} policy apply {shipped}")
    time.sleep(3)
    assert ask(host, "POST", "/v1/chat/completions", user(host, "alice"), CHAT)[0] == 200


def test_tls_1_2_is_refused(host: Any) -> None:
    said = host.run(f"openssl s_client -connect {ADDRESS}:443 -tls1_2 </dev/null")
    assert said.rc != 0
    assert "alert protocol version" in said.stderr


def test_only_nginx_listens_and_each_is_a_user_of_its_own(host: Any) -> None:
    listening = host.check_output("ss -H -lntp").splitlines()
    assert [line.split()[3] for line in listening if "nginx" in line or "python" in line] == [f"{ADDRESS}:443"]
    assert set(host.check_output("ps -o user:32= -C nginx").split()) == {"airgap-nginx"}
    pid = host.check_output("systemctl show --property=MainPID --value airgap-gateway.service")
    assert host.check_output(f"ps -o user:32= -p {pid}") == "airgap-gateway"
    cards = json.loads(host.check_output(f"nsenter --net --target {pid} ip -json address"))
    assert [card["ifname"] for card in cards] == ["lo"]


def test_each_sees_its_own_secrets_alone(host: Any) -> None:
    key, secret = "/etc/airgap/gateway/tls.key", "/var/lib/airgap/gateway/hmac.key"
    assert (host.file(key).group, host.file(key).mode) == ("airgap-nginx", 0o640)
    assert (host.file(secret).group, host.file(secret).mode) == ("airgap-gateway", 0o640)
    for who, what in (
        ("airgap-engine", key),
        ("airgap-gateway", key),
        ("airgap-nginx", secret),
        ("airgap-audit", secret),
    ):
        assert host.run(f"runuser -u {who} -- cat {what}").rc != 0, (who, what)


def test_no_key_and_no_prompt_is_logged(host: Any) -> None:
    canary = "quokka"
    asked = CHAT | {"messages": [{"role": "user", "content": canary}]}
    key = user(host, "alice")
    assert ask(host, "POST", "/v1/chat/completions", key, asked)[0] == 200
    said = host.check_output("journalctl --no-pager")
    assert canary not in said
    assert key not in said


def test_they_go_and_come_with_the_volume(host: Any, container: Container) -> None:
    host.check_output("systemctl stop srv-airgap.mount")
    assert host.run("systemctl is-active airgap-gateway.service").stdout.strip() == "inactive"
    assert ask(host, "GET", "/v1/models")[0] == 503
    give_volume(container, prepared())
    host.check_output("install -d -o airgap-audit -g airgap-audit -m 0750 /srv/airgap/audit")
    host.check_output(f"runuser -u airgap-audit -- {AIRGAP} audit init; systemctl restart airgap-audit airgap-gateway")
    deadline = time.monotonic() + 120
    while ask(host, "POST", "/v1/chat/completions", user(host, "alice"), CHAT)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(1)


@pytest.mark.parametrize("unit", ["nginx.service", "airgap-gateway.service"])
def test_they_may_do_little(exposure: Callable[..., None], unit: str) -> None:
    exposure(unit)
