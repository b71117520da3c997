"""Buckets, clocks and queues."""

from __future__ import annotations

import asyncio
import time

import pytest

from appliance.gateway.identity import Identity, Limits
from appliance.gateway.limits import Clock, Usage
from appliance.gateway.queue import Queue
from appliance.gateway.refusal import Refused


def identity(name: str = "u", **limits: int) -> Identity:
    return Identity(name, "k", "user", frozenset(), Limits(**limits), None)


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_requests_come_back_evenly() -> None:
    clock, who = Time(), identity(requests_per_minute=6)
    usage = Usage(clock)
    for _ in range(6):
        usage.ask(who)
    with pytest.raises(Refused) as caught:
        usage.ask(who)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 10)
    clock.now_s += 10
    usage.ask(who)
    with pytest.raises(Refused):
        usage.ask(who)
    usage.ask(identity("another", requests_per_minute=6))


def test_tokens_are_held_and_what_was_not_used_comes_back() -> None:
    clock, who = Time(), identity(tokens_per_minute=100)
    usage = Usage(clock)
    share = usage.begin(who, 90)
    with pytest.raises(Refused):
        usage.begin(who, 50)
    share.end(10)
    share.end(10)
    usage.begin(who, 90).end(None)
    with pytest.raises(Refused):
        usage.begin(who, 50)
    clock.now_s += 60
    usage.begin(who, 1_000_000).end(500)
    with pytest.raises(Refused) as caught:
        usage.begin(who, 1)
    assert caught.value.retry_after_s > 200, "what was used above the limit is owed"


def test_places_are_given_back_also_when_limits_change_meanwhile() -> None:
    usage = Usage()
    share = usage.begin(identity(concurrent=1), 1)
    with pytest.raises(Refused):
        usage.begin(identity(concurrent=1), 1)
    second = usage.begin(identity(concurrent=2), 1)
    share.end(None)
    second.end(None)
    usage.begin(identity(concurrent=1), 1)


def test_nobody_who_is_forgotten_has_more_for_it() -> None:
    clock, who = Time(), identity(requests_per_minute=1)
    usage = Usage(clock)
    usage.ask(who)
    usage.sweep()
    with pytest.raises(Refused):
        usage.ask(who)
    clock.now_s += 200
    usage.sweep()
    usage.ask(who)


def test_silence_pays_no_debt() -> None:
    clock, who = Time(), identity(tokens_per_minute=1000)
    usage = Usage(clock)
    usage.begin(who, 1).end(60_000)
    for _ in range(2):
        clock.now_s += 121
        usage.sweep()
        with pytest.raises(Refused) as caught:
            usage.begin(who, 1)
    assert caught.value.retry_after_s == pytest.approx(59 * 60 - 2 * 121, abs=2)
    clock.now_s += 3600
    usage.sweep()
    assert not usage._users, "whoever owes nothing is forgotten"


def test_a_limit_of_zero_is_no_absence_of_a_limit() -> None:
    with pytest.raises(Refused):
        Usage().ask(identity(requests_per_minute=0))
    with pytest.raises(Refused):
        Usage().begin(identity(tokens_per_minute=0), 1)
    with pytest.raises(Refused):
        Usage().begin(identity(concurrent=0), 1)


def test_clock_jump_back_makes_nothing_valid_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    assert clock.now() >= real() - 1
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    assert clock.now() >= real() + 86_000, "a clock set forward is believed: fewer keys are valid, not more"


def test_clock_that_was_set_forward_and_back_again_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real, year_s = time.time, 365 * 86_400
    monkeypatch.setattr(time, "time", lambda: real() - year_s)
    clock = Clock()
    behind = clock.now()
    monkeypatch.setattr(time, "time", real)
    corrected = clock.now()
    assert corrected > behind + year_s - 1
    monkeypatch.setattr(time, "time", lambda: real() - year_s)
    assert clock.now() >= corrected
    time.sleep(0.01)
    assert clock.now() >= corrected + 0.01, "it does not stand still either"


def test_users_take_turns() -> None:
    async def order() -> list[str]:
        queue, found = Queue(1, 100, 50), []

        async def one(user: str) -> None:
            with queue.enter(user) as place:
                await place.turn(5)
                found.append(user)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for user in ["a"] * 5 + ["b"] * 2 + ["c"]:
                group.create_task(one(user))
        assert queue.length == 0
        return found

    assert asyncio.run(order()) == ["a", "a", "b", "c", "a", "b", "a", "a"]


def test_a_queue_is_bounded_for_all_and_for_each() -> None:
    async def fill() -> None:
        queue = Queue(1, 3, 2)
        places = [queue.enter("a") for _ in range(3)]
        with pytest.raises(Refused) as caught:
            queue.enter("a")
        assert (caught.value.status, caught.value.code) == (429, "queue_full")
        places.append(queue.enter("b"))
        with pytest.raises(Refused):
            queue.enter("c")
        with pytest.raises(Refused) as late:
            await places[1].turn(0.01)
        assert late.value.code == "queue_timeout"
        for place in places:
            place.__exit__(None, None, None)
            place.__exit__(None, None, None)
        assert queue.length == 0
        with queue.enter("d") as place:
            await place.turn(0.01)
            with queue.enter("e") as other, pytest.raises(Refused):
                await other.turn(0.01)

    asyncio.run(fill())


def test_whoever_gives_up_waiting_takes_no_slot_along() -> None:
    async def give_up() -> None:
        queue = Queue(1, 10, 10)
        first = queue.enter("a")

        async def waits() -> None:
            with queue.enter("b") as place:
                await place.turn(5)

        waiting = asyncio.create_task(waits())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        first.__exit__(None, None, None)
        with queue.enter("c") as place:
            await place.turn(0.01)

    asyncio.run(give_up())
