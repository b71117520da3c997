"""Every way in which this project says no, and the exit code of each.

Three branches are told apart, because three different people act on them: an *integrity failure* (the
auditor's business: something is not what was signed), an *operator's mistake* (the input is wrong) and a
*broken environment* (the machine lacks something). Codes 1 and 2 belong to Python and to click; a code, once
given, is never reused. `docs/reference/exit-codes.md` lists them.
"""

from __future__ import annotations

from typing import ClassVar


def printable(text: str) -> str:
    """A text without what a terminal would obey: names on a medium are whoever's who made it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class AirgapError(Exception):
    """Something was refused or could not be done.

    Args:
        message: names the object, what was expected and what was found.
        hint: the next thing to do, preferably a command.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class IntegrityFailure(AirgapError):
    """Something is not what was signed."""

    exit_code = 10


class DigestMismatch(IntegrityFailure):
    """A file's bytes are not those that its digest or leaves name."""

    exit_code = 11


class SignatureRejected(IntegrityFailure):
    """A signature is malformed, false, or not enough persons signed."""

    exit_code = 12


class BundleMalformed(IntegrityFailure):
    """A file is missing, extra, renamed, a link, or breaks the format's grammar."""

    exit_code = 13


class TrustRejected(IntegrityFailure):
    """The root is not the pinned one, or it is void."""

    exit_code = 14


class RolledBack(IntegrityFailure):
    """The bundle is older than what the host has accepted before."""

    exit_code = 15


class HostKeyRejected(TrustRejected):
    """A host showed another ssh key than the pinned one, or one that nobody has vouched for."""

    exit_code = 16


class BundleRevoked(IntegrityFailure):
    """The signers have taken the bundle back."""

    exit_code = 17


class VerifierTooOld(IntegrityFailure):
    """The bundle asks for a newer verifier than this one."""

    exit_code = 18


class LedgerBroken(IntegrityFailure):
    """A log is not what its checkpoints say: changed, cut off, or put together anew."""

    exit_code = 19


class OperatorMistake(AirgapError):
    """The input or the order given is wrong; nothing was changed."""

    exit_code = 20


class InputInvalid(OperatorMistake):
    """A manifest, lock or site file breaks its schema."""

    exit_code = 21


class TargetRefused(OperatorMistake):
    """A device may not be written: mounted, part of the running system, or not the one that was named."""

    exit_code = 22


class PreflightFailed(OperatorMistake):
    """The host, the site file and the bundle do not fit together."""

    exit_code = 23


class SecretRefused(OperatorMistake):
    """A passphrase or key is wrong, missing, or readable by others."""

    exit_code = 24


class PolicyRefused(OperatorMistake):
    """A policy folder does not load: a typo, something that its schema does not know, a file too many."""

    exit_code = 25


class EnvironmentProblem(AirgapError):
    """This machine lacks something, or something on it failed."""

    exit_code = 40


class ProgramMissing(EnvironmentProblem):
    """A program that is needed is not installed."""

    exit_code = 41


class ProgramFailed(EnvironmentProblem):
    """A program ended with an error."""

    exit_code = 42


class SpaceShort(EnvironmentProblem):
    """A file system or device is too small."""

    exit_code = 43


class FetchFailed(EnvironmentProblem):
    """An item could not be fetched, built or resolved; staging is kept."""

    exit_code = 44


class InstallFailed(EnvironmentProblem):
    """A role failed on the host; the log says where."""

    exit_code = 45


class AlreadyRunning(EnvironmentProblem):
    """Another airgap holds the lock on this work folder or host, or a dpkg is at work there."""

    exit_code = 46


class NotWell(EnvironmentProblem):
    """`airgap status` found something that is not ok; the lines say what."""

    exit_code = 47


class DriveFailed(EnvironmentProblem):
    """A drive answered with an error, or does not do what it says that it does."""

    exit_code = 48


class LedgerUnwritable(EnvironmentProblem):
    """A log cannot take an entry; nothing was acknowledged.

    Args:
        is_done: what the entry would have told has happened.
    """

    exit_code = 49

    def __init__(self, message: str, hint: str = "", *, is_done: bool = False) -> None:
        super().__init__(message, hint)
        self.is_done = is_done


class EntriesMissing(EnvironmentProblem):
    """Entries of a log did not come out of the diode, or nothing is heard from it; a file brings them."""

    exit_code = 50
