"""Two tenants at one engine: nothing of one may be in what the other gets.

    python3 tenants.py SOCKET CONVERSATIONS [COMMAND...]

Every conversation is held twice, of three requests each: alone, and then with the others interleaved, more at a time
than the engine has slots. What the model says next, with the odds of its five best words, follows from all that it
sees; so another's text in a slot, a cache or a batch shows as other odds, whether or not the model repeats it. COMMAND
is run in the middle of the interleaved round: one that ends the engine, which has to come back. Prints JSON: how many
answered, how often the engine had to be asked again, what leaked, and how far the odds lie apart: between the two
rounds, and between two tenants.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TURNS = ("What is an air gap?", "Who signs a bundle?", "What does an auditor check?")
AT_ONCE = 12
#: Of a word's logarithmic odds: batches of other sizes may be rounded in another order.
TOLERANCE = 0.05
#: Seconds that an engine has to come back.
BACK_S = 300
#: Times that the engine had to be asked again.
AGAIN: list[str] = []


def ask(path: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An answer as it came, and what it says; asked again while the engine is away."""
    until_s = time.monotonic() + BACK_S
    while True:
        try:
            return ask_once(path, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() > until_s or "status 4" in str(error):
                raise
            AGAIN.append(type(error).__name__)
            time.sleep(0.5)


def ask_once(path: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An answer, or why there is none."""
    connection = http.client.HTTPConnection("engine", timeout=300)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    raw = answer.read().decode()
    if answer.status != http.client.OK:
        raise ValueError(f"status {answer.status}: {raw}")
    return raw, json.loads(raw)


def canary(tenant: str, number: int) -> str:
    """A word that only this conversation has."""
    return f"{tenant}{number:03d}"


def converse(path: str, tenant: str, number: int) -> tuple[list[str], list[dict[str, float]], int]:
    """Hold a conversation; returns the answers as they came, their odds, and how many tokens were reused."""
    messages: list[dict[str, str]] = [{"role": "user", "content": f"My word is {canary(tenant, number)}."}]
    raws, odds, reused = [], [], 0
    for turn in TURNS:
        messages[-1]["content"] += f" {turn}"
        raw, said = ask(path, {"messages": messages, "temperature": 0, "max_tokens": 4, "logprobs": True,
                               "top_logprobs": 5, "cache_salt": "mine"})  # fmt: skip
        raws.append(raw)
        first = said["choices"][0]["logprobs"]["content"][0]
        odds.append({each["token"]: each["logprob"] for each in first["top_logprobs"]})
        reused += said["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return raws, odds, reused


def apart(one: dict[str, float], other: dict[str, float]) -> float:
    """The largest difference of a word's odds."""
    shared = one.keys() & other.keys()
    return max((abs(one[word] - other[word]) for word in shared), default=99.0)


def main(path: str, conversations: int, command: list[str]) -> None:
    """Print what was found."""
    who = [("alder" if number % 2 else "birch", number) for number in range(conversations)]
    alone = {each: converse(path, *each) for each in who}

    def interleaved(each: tuple[str, int]) -> tuple[list[str], list[dict[str, float]], int]:
        if command and each[1] == conversations // 2:
            subprocess.run(command, check=True)
        return converse(path, *each)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        together = dict(zip(who, pool.map(interleaved, who), strict=True))
    leaks = []
    for (tenant, number), (raws, odds, reused) in together.items():
        others = [canary(*each) for each in who if each != (tenant, number)]
        leaks += [f"{tenant} {number}: {word}" for word in others if any(word in raw for raw in raws)]
        if reused:
            leaks.append(f"{tenant} {number}: {reused} tokens taken from before")
        far = max(map(apart, odds, alone[tenant, number][1]))
        if far > TOLERANCE:
            leaks.append(f"{tenant} {number}: odds {far:.2f} apart")
    print(json.dumps({
        "answers": len(together), "asked again": len(AGAIN), "leaks": leaks,
        "rounds apart": max(max(map(apart, together[each][1], alone[each][1])) for each in who),
        "tenants apart": min(apart(alone[who[n]][1][0], alone[who[n + 1]][1][0]) for n in range(0, len(who) - 1, 2)),
    }))  # fmt: skip


main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
