"""Who may speak to an engine next: as many at once as it takes, users in turn, and no endless waiting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from types import TracebackType

from appliance.gateway import refusal


class Queue:
    """Of one model; safe within one event loop.

    Args:
        slots: requests that the engine takes at once.
        longest: requests that may wait.
        longest_user: the same, of one user.
    """

    def __init__(self, slots: int, longest: int, longest_user: int) -> None:
        self._free, self._longest, self._longest_user = slots, longest, longest_user
        self._waiting: OrderedDict[str, deque[Place]] = OrderedDict()
        self.length = 0

    def enter(self, user_id: str) -> Place:
        """Take a place, which is to be left.

        Raises:
            Refused: too many wait.
        """
        place = Place(self, user_id)
        if self._free:
            self._free -= 1
            place._turn.set_result(None)
            return place
        mine = self._waiting.get(user_id)
        if self.length >= self._longest or (mine is not None and len(mine) >= self._longest_user):
            raise refusal.limited("queue_full", "too many requests wait for this model", 2)
        if mine is None:
            mine = self._waiting[user_id] = deque()
        mine.append(place)
        self.length += 1
        return place

    def _leave(self, place: Place) -> None:
        if place._turn.done() and not place._turn.cancelled():
            self._free += 1
            self._next()
            return
        mine = self._waiting[place._user_id]
        mine.remove(place)
        self.length -= 1
        if not mine:
            del self._waiting[place._user_id]

    def _next(self) -> None:
        """The user whose turn it is goes to the end of the round."""
        while self._free and self._waiting:
            user_id, mine = next(iter(self._waiting.items()))
            place = mine.popleft()
            self.length -= 1
            if mine:
                self._waiting.move_to_end(user_id)
            else:
                del self._waiting[user_id]
            self._free -= 1
            place._turn.set_result(None)


class Place:
    """One request's place; a context manager that leaves it."""

    __slots__ = ("_has_left", "_queue", "_turn", "_user_id")

    def __init__(self, queue: Queue, user_id: str) -> None:
        self._queue, self._user_id, self._has_left = queue, user_id, False
        self._turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def turn(self, timeout_s: float) -> None:
        """Wait until the engine is free.

        Raises:
            Refused: it took too long.
        """
        if self._turn.done():
            return
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._turn)
        except TimeoutError:
            raise refusal.limited("queue_timeout", "the model was not free in time", 5) from None

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if not self._has_left:
            self._has_left = True
            self._queue._leave(self)
