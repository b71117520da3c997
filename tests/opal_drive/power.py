"""Power: where it can be lost, counted, so that a test can lose it at each such place in turn."""

from __future__ import annotations


class PowerCut(Exception):
    """Power is gone: nothing after this happened, nothing volatile is left."""


class Power:
    """Counts the steps of a drive and cuts power after a chosen one.

    A step is an Opal method whose effect is kept and whose answer is not sent yet, a write, or one of the drive's own
    steps inside an operation that no specification calls atomic (their names have a colon).
    """

    def __init__(self, cut_after: int | None = None) -> None:
        """Start counting.

        Args:
            cut_after: The step after which power is lost, from 1; None: never.
        """
        self.cut_after = cut_after
        self.steps: list[str] = []

    def step(self, name: str) -> None:
        """Note a step.

        Raises:
            PowerCut: It was the chosen one.
        """
        self.steps.append(name)
        if len(self.steps) == self.cut_after:
            raise PowerCut(name)

    def cut_after_next(self, count: int) -> None:
        """Choose the `count`-th step from now on."""
        self.steps.clear()
        self.cut_after = count
