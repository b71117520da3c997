"""Keys on PKCS#11 tokens: made there, used there, never brought out.

PKCS#11 2.40: CKM_ECDSA over a digest gives r and s of 48 bytes each (2.3.1), which become DER here. A token is not
believed: its key must be P-384, and what it signs must verify with the public key that it shows. The library that
drives a token runs in this process, so that a PIN goes into no argument, environment or file.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bundler.bundle.pkcs11uri import TokenUri
from custody.errors import EnvironmentProblem, ProgramMissing, SecretRefused, SignatureRejected, TargetRefused
from custody.trust.keys import PublicKey, digest

if TYPE_CHECKING:
    import pkcs11

#: DER of the object identifier 1.3.132.0.34, secp384r1 (RFC 5480, 2.1.1.1): what CKA_EC_PARAMS holds.
_P384 = bytes.fromhex("06052b81040022")
_HALF_BYTES = 48
_ID_BYTES = 8
_LIST = "list it with: pkcs11-tool --module LIBRARY --list-objects"


class TokenKey:
    """A key on an open token; a `custody.trust.keys.DigestSigner`.

    Args:
        key: of PKCS#11.
        name: for errors.
        pin: again for each signature, when the key wants that (CKA_ALWAYS_AUTHENTICATE).
    """

    def __init__(self, key: pkcs11.SignMixin, public: PublicKey, name: str, pin: str | None) -> None:
        self._key, self._public, self._name, self._pin = key, public, name, pin

    @property
    def public(self) -> PublicKey:
        """The other half."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """DER signature over `message`."""
        return self.sign_digest(digest(message))

    def sign_digest(self, sha384: bytes) -> bytes:
        """DER signature over the message with this SHA-384.

        Raises:
            SignatureRejected: the token gave something that its public key does not verify.
        """
        import pkcs11

        with _converted(self._name):
            raw = bytes(self._key.sign(sha384, mechanism=pkcs11.Mechanism.ECDSA, pin=self._pin))
        halves = (int.from_bytes(raw[:_HALF_BYTES]), int.from_bytes(raw[_HALF_BYTES:]))
        signature = encode_dss_signature(*halves)
        if len(raw) != 2 * _HALF_BYTES or not self._public.verifies_digest(signature, sha384):
            raise SignatureRejected(
                f"{self._name}: the token's signature does not verify with the public key that it shows", _LIST
            )
        return signature


@contextmanager
def open_token_key(uri: TokenUri, ask_pin: Callable[[str], str]) -> Iterator[TokenKey]:
    """Log in to a token and find a key; logged out at the end.

    Args:
        ask_pin: called once with a prompt. A refused PIN is not asked for again: tokens lock after a few.

    Raises:
        SecretRefused: wrong PIN; not exactly one key, or one that is not P-384.
        EnvironmentProblem: no such library or token.
    """
    token, name = _token(uri), str(uri)
    pin = ask_pin(f"PIN of token {token.label}")
    with _session(token, pin, name) as session:
        with _converted(name):
            key = _usable(session, _private(session, uri), name, pin)
        yield key


def make_token_key(uri: TokenUri, label: str, ask_pin: Callable[[str], str]) -> tuple[PublicKey, TokenUri]:
    """Make a key on a token, from which it can never be taken out.

    Args:
        label: the key's, unless the URI names one.

    Returns:
        The public key, and the key's own URI.

    Raises:
        TargetRefused: there is a private key with this label.
        EnvironmentProblem: the token makes keys that it gives away; this one was destroyed.
    """
    token, label, name = _token(uri), uri.label or label, str(uri)
    import pkcs11

    pin = ask_pin(f"PIN of token {token.label}")
    with _session(token, pin, name, writes=True) as session, _converted(name):
        attribute, kinds = pkcs11.Attribute, pkcs11.ObjectClass
        if list(session.get_objects({attribute.CLASS: kinds.PRIVATE_KEY, attribute.LABEL: label})):
            raise TargetRefused(f"{name}: holds a key {label} already", "a key is never overwritten; name another")
        curve = session.create_domain_parameters(pkcs11.KeyType.EC, {attribute.EC_PARAMS: _P384}, local=True)
        own = replace(uri, label=label, id=secrets.token_bytes(_ID_BYTES))
        halves = curve.generate_keypair(
            id=own.id, label=label, store=True,
            capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
            private_template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False, attribute.PRIVATE: True},
        )  # fmt: skip
        try:
            if not (_says(halves[1], "SENSITIVE") and _says(halves[1], "NEVER_EXTRACTABLE")):
                raise EnvironmentProblem(f"{name}: this token makes keys that can be taken out", "use another token")
            made = _usable(session, halves[1], name, pin)
            made.sign(b"airgap keys new")  # a token that cannot is found out now
        except BaseException:
            for half in halves:
                half.destroy()
            raise
    return made.public, own


def _token(uri: TokenUri) -> pkcs11.Token:
    """The one token that a URI is about."""
    try:
        import pkcs11
    except ImportError as error:
        raise ProgramMissing("python-pkcs11: not installed", "pip install python-pkcs11") from error
    with _converted(str(uri)):
        tokens = [token for token in pkcs11.lib(str(uri.module)).get_tokens() if _is_wanted(token, uri)]
    if len(tokens) != 1:
        labels = ", ".join(sorted(token.label for token in tokens)) or "none"
        hint = f"is it plugged in? pkcs11-tool --module {uri.module} --list-slots"
        raise EnvironmentProblem(f"{uri}: expected one token in {uri.module}, found {labels}", hint)
    return tokens[0]


def _is_wanted(token: pkcs11.Token, uri: TokenUri) -> bool:
    import pkcs11

    found = {
        "token": token.label,
        "serial": token.serial.decode(errors="replace"),
        "manufacturer": token.manufacturer_id,
        "model": token.model,
    }
    wanted = all(found[name].strip() == value for name, value in uri.token.items())
    return wanted and bool(token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED)


@contextmanager
def _session(token: pkcs11.Token, pin: str, name: str, *, writes: bool = False) -> Iterator[pkcs11.Session]:
    with _converted(name):
        session = token.open(rw=writes, user_pin=pin)
    try:
        yield session
    finally:
        with _converted(name):
            session.close()


def _private(session: pkcs11.Session, uri: TokenUri) -> pkcs11.PrivateKey:
    import pkcs11

    wanted: dict[Any, Any] = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
    if uri.label is not None:
        wanted[pkcs11.Attribute.LABEL] = uri.label
    if uri.id is not None:
        wanted[pkcs11.Attribute.ID] = uri.id
    keys = list(session.get_objects(wanted))
    if len(keys) != 1:
        raise SecretRefused(f"{uri}: expected one private key, found {len(keys)}", f"name it by object or id; {_LIST}")
    key = keys[0]
    assert isinstance(key, pkcs11.PrivateKey)
    return key


def _usable(session: pkcs11.Session, key: pkcs11.PrivateKey, name: str, pin: str) -> TokenKey:
    import pkcs11

    if not isinstance(key, pkcs11.SignMixin):
        raise SecretRefused(f"{name}: this key may not sign (CKA_SIGN)", _LIST)
    each_time = pin if _says(key, "ALWAYS_AUTHENTICATE") else None
    return TokenKey(key, _public_of(session, key, name), name, each_time)


def _public_of(session: pkcs11.Session, key: pkcs11.Key, name: str) -> PublicKey:
    """The public key that lies beside a private one: same id, or same label where there is no id."""
    import pkcs11

    same = {pkcs11.Attribute.ID: key.id} if key.id else {pkcs11.Attribute.LABEL: key.label}
    found = list(session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY, **same}))
    if len(found) != 1:
        raise SecretRefused(f"{name}: expected one public key beside the private one, found {len(found)}", _LIST)
    wrong = SecretRefused(f"{name}: expected an ECDSA P-384 key", "make one with: airgap keys new NAME --token URI")
    try:
        if key.key_type != pkcs11.KeyType.EC or found[0][pkcs11.Attribute.EC_PARAMS] != _P384:
            raise wrong
        point = bytes(found[0][pkcs11.Attribute.EC_POINT])
        # An OCTET STRING around the point; some tokens leave it out (PKCS#11 2.40, 2.3.3).
        point = point.removeprefix(b"\x04\x61") if len(point) == 2 * _HALF_BYTES + 3 else point
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)
    except (ValueError, pkcs11.PKCS11Error) as error:
        raise wrong from error
    return PublicKey(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _says(key: pkcs11.Object, name: str) -> bool:
    """A yes-or-no attribute of a key; a token that does not know it says no."""
    import pkcs11

    try:
        return bool(key[pkcs11.Attribute[name]])
    except pkcs11.AttributeTypeInvalid:
        return False


@contextmanager
def _converted(name: str) -> Iterator[None]:
    """What PKCS#11 says, in our words; none of it ever holds a PIN."""
    import pkcs11

    try:
        yield
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
        raise SecretRefused(f"{name}: the token refuses this PIN", "try again; tokens lock after a few") from error
    except (pkcs11.PinLocked, pkcs11.PinExpired) as error:
        raise SecretRefused(f"{name}: the token's PIN is locked or expired", "ask who manages the token") from error
    except pkcs11.PKCS11Error as error:
        what = f"{type(error).__name__} {error}".strip()
        raise EnvironmentProblem(
            f"{name}: the token answers {what}", "is it plugged in, and the library its own?"
        ) from error
