"""What the service of a walked appliance does with users, and what its log says of it: for the demo and the tests."""

from __future__ import annotations

import json

from tests.vm import path
from tests.vm.machine import Machine

_CHAT = {"model": "airgap-words", "messages": [{"role": "user", "content": path.QUESTION}], "max_tokens": 8}
_LOG, _PROOF, _COPY = "/srv/airgap/audit", "/run/proof", "/run/copied-log"


def look(walk: path.Walk, machine: Machine) -> dict[str, bool]:
    """Ask as several users, have an entry proven by openssl, and alter a copy of the log; what held, by what it is."""
    answered = _ask(walk, machine, path.user_key(walk, machine))
    streamed, _ = path.request(walk, machine, "/v1/chat/completions", _CHAT | {"stream": True})
    refused = _ask(walk, machine, path.user_key(walk, machine, "guest", "--role guest"))
    eager = path.user_key(walk, machine, "eager", "--requests-per-minute 2")
    statuses = [_ask(walk, machine, eager) for _ in range(4)]
    (denied,) = _entries(machine, "--user guest --kind admitted --decision deny")
    machine.run(f"rm -rf {_PROOF} {_COPY}; airgap audit prove {denied['seq']} {_PROOF}")
    proven = machine.run(f"sh {_PROOF}/check {_PROOF} {_LOG}/log.pem", check=False).text
    machine.run(f"cp -a {_LOG} {_COPY} && sed -i s/guest/ghost/ {_COPY}/segments/*")
    tampered = machine.run(f"airgap audit verify --log {_COPY}", check=False)
    untouched = machine.run("airgap audit verify", check=False)
    return {
        "a user is answered, and by a stream": (answered, streamed) == (200, 200),
        "a policy refuses another one": refused in (403, 404),
        "a limit refuses who asks too often": statuses[0] == 200 and 429 in statuses,
        "the refusal's record is proven by openssl alone": "verdict: accept" in proven,
        "an altered record is found": (untouched.rc, tampered.rc) == (0, 19),
    }


def _ask(walk: path.Walk, machine: Machine, key: str) -> int:
    """The status of a short question."""
    return path.request(walk, machine, "/v1/chat/completions", _CHAT, key=key)[0]


def _entries(machine: Machine, options: str) -> list[dict[str, int]]:
    return list(json.loads(machine.run(f"airgap audit search {options} --json").stdout)["entries"])
