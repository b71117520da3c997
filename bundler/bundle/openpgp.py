"""OpenPGP signatures, judged by a program of the distribution: sqv, as apt does from Debian 13 on, else gpgv.

What is judged is a detached signature over a text, and nothing that a program prints of the text is read. A signature
counts when its key is in the keyring, neither expired nor revoked, and its digest is SHA-2. One is enough, as for apt:
a distribution signs with the keys of several releases. Formats: sqv(1); GnuPG's doc/DETAILS, "status-fd".
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bundler.bundle.distribution import Signed
from custody._run import Completed, run
from custody.errors import EnvironmentProblem, ProgramMissing, SignatureRejected

#: SHA-256, SHA-384, SHA-512 (RFC 9580, section 9.5).
_DIGESTS = frozenset(("8", "9", "10"))
_HINT = "if the keys are new or old, take a newer keyring: --keyring FILE; else keep this bundle for whoever asks"


def signers(signed: Signed, keyring: Path, name: str) -> tuple[str, ...]:
    """Who signed a text.

    Args:
        keyring: certificates, binary.
        name: what to call the text in an error.

    Returns:
        Fingerprints of the certificates, upper-case hex, sorted; at least one.

    Raises:
        SignatureRejected: no signature counts, or one is false.
        EnvironmentProblem: no keyring, or neither program is installed.
    """
    if not keyring.is_file():
        raise EnvironmentProblem(
            f"{keyring}: no such keyring", "install the package debian-archive-keyring, or name one: --keyring FILE"
        )
    with tempfile.TemporaryDirectory(prefix="airgap-") as made:
        text, signature = Path(made, "text"), Path(made, "signature")
        text.write_bytes(signed.text)
        signature.write_bytes(signed.signature)
        found = _by_sqv(text, signature, keyring.absolute(), name)
    return tuple(sorted(found))


def _by_sqv(text: Path, signature: Path, keyring: Path, name: str) -> set[str]:
    try:
        done = run(["sqv", "--keyring", keyring, signature, text], ok=range(256))
    except ProgramMissing:
        return _by_gpgv(text, signature, keyring, name)
    found = set(done.text.split())
    if done.returncode != 0 or not found:
        raise _rejected(name, done)
    return found


def _by_gpgv(text: Path, signature: Path, keyring: Path, name: str) -> set[str]:
    try:
        command: list[str | Path] = [
            "gpgv",
            "--homedir",
            text.parent,
            "--keyring",
            keyring,
            "--status-fd",
            "1",
            signature,
            text,
        ]
        done = run(command, ok=range(256))
    except ProgramMissing as error:
        raise ProgramMissing(
            "neither sqv nor gpgv is installed, which judge OpenPGP signatures", "apt-get install sqv, or gpgv"
        ) from error
    found, is_good = set(), False
    for words in (line.split()[1:] for line in done.text.splitlines() if line.startswith("[GNUPG:] ")):
        if words[0] == "BADSIG":
            raise _rejected(name, done)
        if words[0] in ("NEWSIG", "GOODSIG"):
            is_good = words[0] == "GOODSIG"
        # VALIDSIG also follows EXPKEYSIG and REVKEYSIG; its last word is the certificate's fingerprint.
        if words[0] == "VALIDSIG" and is_good and words[8] in _DIGESTS:
            found.add(words[-1])
    if not found:
        raise _rejected(name, done)
    return found


def _rejected(name: str, done: Completed) -> SignatureRejected:
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return SignatureRejected(f"{name}: {done.argv[0]} finds no signature that counts\n" + "\n".join(said[-6:]), _HINT)
