"""PKCS#11 URIs: what they name, and that a PIN in one is refused and not repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.bundle.pkcs11uri import parse_uri
from custody.errors import InputInvalid, SecretRefused

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")


def test_names_token_and_key() -> None:
    uri = parse_uri("pkcs11:token=The%20Software%20PKCS%2311;serial=4D;object=alice;id=%00%fFa;type=private", LIBRARY)
    assert uri.token == {"token": "The Software PKCS#11", "serial": "4D"}
    assert (uri.label, uri.id, uri.module) == ("alice", b"\x00\xffa", LIBRARY)


def test_the_library_may_stand_in_the_uri() -> None:
    assert parse_uri(f"pkcs11:token=a?module-path={LIBRARY}", None).module == LIBRARY


def test_is_written_as_it_is_read() -> None:
    uri = parse_uri("pkcs11:token=The%20one;object=%C3%A4%3b;id=%00%3B", LIBRARY)
    assert parse_uri(str(uri), LIBRARY) == uri


@pytest.mark.parametrize("query", ["pin-value=geheim77", "module-path=/x.so&pin-value=geheim77", "pin-source=geheim77"])
def test_refuses_a_pin_and_does_not_repeat_it(query: str) -> None:
    with pytest.raises(SecretRefused) as caught:
        parse_uri(f"pkcs11:token=a?{query}", LIBRARY)
    assert "geheim77" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pkcs11:token=a;token=b", "given twice"),
        ("pkcs11:token=a;slot-id=1", "'slot-id': expected one of"),
        ("pkcs11:token=a;object=%4", "expected letters"),
        ("pkcs11:token=a b", "expected letters"),
        ("pkcs11:token=", "expected letters"),
        ("pkcs11:token=%FF", "UTF-8"),
        ("pkcs11:token=%1B%5B2J", "printable"),
        ("pkcs11:token=a;type=cert", "type=private"),
        ("pkcs11:token=a?module-path=/x.so", "found two"),
        ("pkcs11:token=a?module-name=x", "'module-name'"),
        ("pkcs11:pin-value=1234", "'pin-value'"),
    ],
)
def test_refuses(text: str, says: str) -> None:
    with pytest.raises(InputInvalid, match=says):
        parse_uri(text, LIBRARY)


def test_refuses_no_library_and_one_that_the_environment_would_choose() -> None:
    with pytest.raises(InputInvalid, match="found none"):
        parse_uri("pkcs11:token=a", None)
    with pytest.raises(InputInvalid, match="absolute"):
        parse_uri("pkcs11:token=a", Path("libsofthsm2.so"))
