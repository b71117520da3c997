"""Keys on tokens: made there, never brought out, not believed; the PIN goes nowhere. Against SoftHSM."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bundler.bundle.order import sign_order
from bundler.bundle.pkcs11uri import parse_uri
from bundler.bundle.read import FolderSource
from bundler.bundle.sign import sign_bundle
from bundler.bundle.signer import open_signer
from bundler.bundle.token import make_token_key, open_token_key
from custody.errors import (
    AirgapError,
    EnvironmentProblem,
    InputInvalid,
    ProgramMissing,
    SecretRefused,
    SignatureRejected,
    TargetRefused,
)
from custody.report import SilentReporter
from custody.trust.keys import PrivateKey, PublicKey
from custody.trust.root import Person, Root
from custody.trust.verify import read_trust, verify_bundle
from tests.bundles import make_trust, sealed
from tests.unit.bundle.conftest import Tokens

P256 = bytes.fromhex("06082a8648ce3d030107")
P384 = bytes.fromhex("06052b81040022")


@pytest.fixture(scope="module")
def alice(tokens: Tokens) -> PublicKey:
    """The key `alice` on the token `alice`."""
    public, _ = make_token_key(parse_uri("pkcs11:token=alice", tokens.module), "alice", lambda prompt: tokens.pin)
    return public


@contextmanager
def session(tokens: Tokens) -> Iterator[Any]:
    """On the token `odd`, for keys that this project would never make."""
    import pkcs11

    with pkcs11.lib(str(tokens.module)).get_token(token_label="odd").open(rw=True, user_pin=tokens.pin) as opened:
        yield opened


def pair(opened: Any, label: str, curve: bytes = P384, **template: bool) -> tuple[Any, Any]:
    import pkcs11

    attribute = pkcs11.Attribute
    parameters = opened.create_domain_parameters(pkcs11.KeyType.EC, {attribute.EC_PARAMS: curve}, local=True)
    private = {attribute[name]: value for name, value in template.items()}
    made = parameters.generate_keypair(id=label.encode(), label=label, store=True, private_template=private)
    return made[0], made[1]


def sign(tokens: Tokens, uri: str, message: bytes = b"message", pin: str | None = None) -> tuple[PublicKey, bytes]:
    with open_signer(uri, tokens.module, lambda prompt: pin or tokens.pin) as key:
        return key.public, key.sign(message)


def test_openssl_verifies_what_a_token_signs(tokens: Tokens, alice: PublicKey, tmp_path: Path) -> None:
    public, signature = sign(tokens, "pkcs11:token=alice;object=alice")
    assert public == alice
    (tmp_path / "sig").write_bytes(signature)
    (tmp_path / "key").write_bytes(alice.der)
    (tmp_path / "message").write_bytes(b"message")
    command = ["openssl", "dgst", "-sha384", "-keyform", "DER", "-verify", "key", "-signature", "sig", "message"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "Verified OK\n")


def test_a_key_is_made_so_that_it_cannot_leave_the_token(tokens: Tokens, alice: PublicKey) -> None:
    import pkcs11

    attribute = pkcs11.Attribute
    with pkcs11.lib(str(tokens.module)).get_token(token_label="alice").open(user_pin=tokens.pin) as opened:
        key = opened.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label="alice")
        assert not key[attribute.EXTRACTABLE]
        assert key[attribute.NEVER_EXTRACTABLE] and key[attribute.ALWAYS_SENSITIVE] and key[attribute.LOCAL]
        assert not any(key[attribute[use]] for use in ("DECRYPT", "UNWRAP", "DERIVE"))
        with pytest.raises(pkcs11.AttributeSensitive):
            key[attribute.VALUE]


def test_a_key_is_never_made_twice(tokens: Tokens, alice: PublicKey) -> None:
    with pytest.raises(TargetRefused, match="holds a key alice already"):
        make_token_key(parse_uri("pkcs11:token=alice", tokens.module), "alice", lambda prompt: tokens.pin)


def test_a_key_that_could_leave_is_destroyed(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    # SoftHSM makes none; so its answers are taken for no.
    monkeypatch.setattr("bundler.bundle.token._says", lambda key, name: False)
    with pytest.raises(EnvironmentProblem, match="can be taken out"):
        make_token_key(parse_uri("pkcs11:token=odd", tokens.module), "leaky", lambda prompt: tokens.pin)
    with session(tokens) as opened:
        assert "leaky" not in {found.label for found in opened.get_objects() if hasattr(found, "label")}


@pytest.mark.parametrize("make", [True, False])
def test_says_when_the_library_for_tokens_is_missing(monkeypatch: pytest.MonkeyPatch, make: bool) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    uri = parse_uri("pkcs11:token=alice", Path("/nowhere.so"))
    with pytest.raises(ProgramMissing, match="python-pkcs11: not installed") as found:
        if make:
            make_token_key(uri, "alice", lambda prompt: "1234")
        else:
            with open_token_key(uri, lambda prompt: "1234"):
                pass
    assert found.value.hint == "pip install python-pkcs11"  # not airgap[token]: an index may have another airgap


def test_root_bundle_and_order_are_signed_on_a_token(tokens: Tokens, alice: PublicKey, tmp_path: Path) -> None:
    bob = PrivateKey.generate()
    persons = (
        Person("alice", ("root", "builder", "recovery"), (alice,)),
        Person("bob", ("approver",), (bob.public,)),
    )
    root = Root(1, persons, {"root": 1, "builder": 1, "approver": 1, "recovery": 1})
    trust, bundle = tmp_path / "trust", sealed(tmp_path / "bundle")
    with open_signer("pkcs11:token=alice;object=alice", tokens.module, lambda prompt: tokens.pin) as key:
        pinned = make_trust(trust, root, [key])
        assert sign_bundle(bundle, key, trust, SilentReporter()) == "alice"
        assert sign_order(trust, bundle, (2, 1), "2 is broken", tmp_path / "order", key)[0] == "alice"
    sign_bundle(bundle, bob, trust, SilentReporter())
    source = FolderSource(bundle)
    assert verify_bundle(source, read_trust(source, pinned), SilentReporter()).builders == ("alice",)


def test_refuses_a_wrong_pin_once_and_without_repeating_it(tokens: Tokens, alice: PublicKey) -> None:
    asked = []

    def wrong(prompt: str) -> str:
        asked.append(prompt)
        return "geheim-77"

    signer = open_signer("pkcs11:token=alice;object=alice", tokens.module, wrong)
    with pytest.raises(SecretRefused, match="refuses this PIN") as caught, signer:
        pass
    assert asked == ["PIN of token alice"]
    error: BaseException | None = caught.value
    while error is not None:
        assert "geheim-77" not in str(error) + repr(error)
        error = error.__cause__


def test_refuses_another_curve(tokens: Tokens) -> None:
    with session(tokens) as opened:
        pair(opened, "short", P256)
    with pytest.raises(SecretRefused, match="expected an ECDSA P-384 key"):
        sign(tokens, "pkcs11:token=odd;object=short")


def test_refuses_a_signature_that_the_shown_public_key_does_not_verify(tokens: Tokens) -> None:
    import pkcs11

    with session(tokens) as opened:
        public, _ = pair(opened, "two-faced")
        point = PrivateKey.generate().public.der[-97:]
        shown = {
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY,
            pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.EC,
            pkcs11.Attribute.EC_PARAMS: P384,
            pkcs11.Attribute.EC_POINT: b"\x04\x61" + point,
            pkcs11.Attribute.ID: b"two-faced",
            pkcs11.Attribute.TOKEN: True,
        }
        public.destroy()
        opened.create_object(shown)
    with pytest.raises(SignatureRejected, match="does not verify with the public key that it shows"):
        sign(tokens, "pkcs11:token=odd;object=two-faced")


def test_refuses_a_key_without_its_public_half(tokens: Tokens) -> None:
    with session(tokens) as opened:
        pair(opened, "half")[0].destroy()
    with pytest.raises(SecretRefused, match="one public key beside the private one, found 0"):
        sign(tokens, "pkcs11:token=odd;object=half")


def test_refuses_a_key_that_may_not_sign(tokens: Tokens) -> None:
    with session(tokens) as opened:
        pair(opened, "mute", SIGN=False)
    with pytest.raises(SecretRefused, match="may not sign"):
        sign(tokens, "pkcs11:token=odd;object=mute")


def test_refuses_to_choose_between_two_keys(tokens: Tokens) -> None:
    with session(tokens) as opened:
        for id_ in (b"\x01", b"\x02"):
            pair(opened, id_.hex())[1]
    with pytest.raises(SecretRefused, match=r"expected one private key, found \d"):
        sign(tokens, "pkcs11:token=odd")
    assert sign(tokens, "pkcs11:token=odd;id=01")[0] != sign(tokens, "pkcs11:token=odd;id=02")[0]


def test_a_key_that_wants_its_pin_for_each_signature_gets_it(tokens: Tokens) -> None:
    with session(tokens) as opened:
        pair(opened, "careful", ALWAYS_AUTHENTICATE=True)
    with open_token_key(parse_uri("pkcs11:token=odd;object=careful", tokens.module), lambda prompt: tokens.pin) as key:
        assert all(key.public.verifies(key.sign(message), message) for message in (b"one", b"two"))
        assert tokens.pin not in repr(key)


@pytest.mark.parametrize(
    ("uri", "module", "kind", "says"),
    [
        ("pkcs11:token=bob", None, EnvironmentProblem, "found none"),
        ("pkcs11:manufacturer=SoftHSM%20project", None, EnvironmentProblem, "found alice, odd"),
        ("pkcs11:token=alice", "/nowhere/lib.so", EnvironmentProblem, "cannot open shared object"),
        ("alice.key", "/nowhere/lib.so", InputInvalid, "is for a key on a token"),
    ],
)
def test_refuses_without_asking_for_a_pin(
    tokens: Tokens, uri: str, module: str | None, kind: type[AirgapError], says: str
) -> None:
    def never(prompt: str) -> str:
        raise AssertionError(prompt)

    with pytest.raises(kind, match=says), open_signer(uri, Path(module or tokens.module), never):
        pass


def test_the_pin_goes_into_no_program_argument_or_environment(tokens: Tokens, alice: PublicKey, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(tokens.pin + "\n")
    (tmp_path / "pin").chmod(0o600)
    # Python tells of every program that it starts and every variable that it sets.
    script = """
import sys
watched = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork", "os.putenv"}
sys.addaudithook(lambda event, _: event in watched and print("started", event, file=sys.stderr))
from bundler.cli import main
try:
    main(sys.argv[1:])
finally:
    for name in ("cmdline", "environ"):
        sys.stdout.buffer.write(open("/proc/self/" + name, "rb").read())
"""
    command = ["keys", "public", "alice", "--out", tmp_path, "--key", "pkcs11:token=alice;object=alice"]
    command += ["--module", tokens.module, "--passphrase-file", tmp_path / "pin"]
    done = subprocess.run(
        [sys.executable, "-c", script, *command],
        capture_output=True, text=True, check=False, env={**os.environ, **tokens.environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert base64.b64decode((tmp_path / "alice.pub").read_text()) == alice.der
    assert "started" not in done.stderr
    assert "SOFTHSM2_CONF=" in done.stdout
    assert tokens.pin not in done.stdout + done.stderr
