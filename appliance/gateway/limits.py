"""What one user may ask for in a minute and at once; and a clock that a jump does not move.

Buckets are filled by the monotonic clock alone. A bucket holds one minute's worth.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.gateway import refusal
from appliance.gateway.identity import Identity, Limits

#: How long a user who does not ask is remembered; whoever owes, until that has come back.
_FORGOTTEN_S = 120.0


class Clock:
    """Unix time that never goes back while the process runs: what has expired stays expired."""

    def __init__(self) -> None:
        self._start_s = time.time() - time.monotonic()

    def now(self) -> float:
        """Unix seconds; a clock set forward is believed, one set back is not."""
        self._start_s = max(self._start_s, time.time() - time.monotonic())
        return self._start_s + time.monotonic()


class _Bucket:
    """Tokens that come back evenly."""

    __slots__ = ("_at_s", "_level", "_per_minute")

    def __init__(self, per_minute: int, now_s: float) -> None:
        self._per_minute, self._level, self._at_s = per_minute, float(per_minute), now_s

    def wait_s(self, wanted: float, now_s: float) -> float:
        """Seconds until it holds as many; more than it can hold count as all that it can hold."""
        self._level = min(self._per_minute, self._level + (now_s - self._at_s) * self._per_minute / 60)
        self._at_s = now_s
        missing = min(wanted, self._per_minute) - self._level
        return missing * 60 / self._per_minute if missing > 0 else 0

    def is_full(self, now_s: float) -> bool:
        """Whether all has come back."""
        return self.wait_s(self._per_minute, now_s) == 0

    def take(self, count: float) -> None:
        """May go below nothing; a negative count gives back."""
        self._level = min(self._per_minute, self._level - count)


class _User:
    """One user's buckets; full again when the limits change."""

    def __init__(self, limits: Limits, now_s: float) -> None:
        self.open, self.seen_s = 0, now_s
        self.set(limits, now_s)

    def is_like_new(self, now_s: float) -> bool:
        """Whether nothing is lost with it."""
        return not self.open and all(bucket.is_full(now_s) for bucket in (self.requests, self.tokens) if bucket)

    def set(self, limits: Limits, now_s: float) -> None:
        """Begin with full buckets of these limits."""
        self.limits = limits
        self.requests = _Bucket(limits.requests_per_minute, now_s) if limits.requests_per_minute else None
        self.tokens = _Bucket(limits.tokens_per_minute, now_s) if limits.tokens_per_minute else None


class Usage:
    """What all users use; safe within one event loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._users = monotonic, {}  # type: Callable[[], float], dict[str, _User]

    def ask(self, identity: Identity) -> None:
        """Count a request.

        Raises:
            Refused: more in a minute than this user may.
        """
        now_s = self._monotonic()
        user = self._user(identity, now_s)
        if identity.limits.requests_per_minute == 0:
            raise refusal.limited("requests_per_minute", "this user may ask nothing", 60)
        if user.requests is not None:
            if wait_s := user.requests.wait_s(1, now_s):
                raise refusal.limited("requests_per_minute", "too many requests in a minute", wait_s)
            user.requests.take(1)

    def begin(self, identity: Identity, tokens: int) -> Share:
        """Take a place and the tokens that the request may need; the share is to be ended.

        Raises:
            Refused: too many at once, or too many tokens in a minute.
        """
        now_s, limits = self._monotonic(), identity.limits
        user = self._user(identity, now_s)
        if limits.concurrent is not None and user.open >= limits.concurrent:
            raise refusal.limited("concurrent", "too many requests at once", 1)
        if limits.tokens_per_minute == 0:
            raise refusal.limited("tokens_per_minute", "this user may ask nothing", 60)
        if user.tokens is not None:
            if wait_s := user.tokens.wait_s(tokens, now_s):
                raise refusal.limited("tokens_per_minute", "too many tokens in a minute", wait_s)
            user.tokens.take(tokens)
        user.open += 1
        return Share(user, tokens)

    def sweep(self) -> None:
        """Forget users who have not asked for a while and owe nothing."""
        now_s = self._monotonic()
        idle = [(name, user) for name, user in self._users.items() if user.seen_s < now_s - _FORGOTTEN_S]
        for name, user in idle:
            if user.is_like_new(now_s):
                del self._users[name]

    def _user(self, identity: Identity, now_s: float) -> _User:
        user = self._users.get(identity.user_id)
        if user is None:
            user = self._users[identity.user_id] = _User(identity.limits, now_s)
        elif user.limits != identity.limits:
            user.set(identity.limits, now_s)
        user.seen_s = now_s
        return user


class Share:
    """What one request holds."""

    __slots__ = ("_tokens", "_user")

    def __init__(self, user: _User, tokens: int) -> None:
        self._user: _User | None = user
        self._tokens = tokens

    def end(self, used: int | None) -> None:
        """Give the place back and count what was used.

        Args:
            used: tokens; None: not known, all that were taken count.
        """
        user, self._user = self._user, None
        if user is None:
            return
        user.open -= 1
        if user.tokens is not None and used is not None:
            user.tokens.take(used - self._tokens)
