"""Somebody else's word for when bytes existed (RFC 3161): the request, and what came back.

The request goes to an authority by hand, since nothing here reaches a network. It has no nonce: a nonce shows that an
answer is fresh, and here an older token for the same bytes says more. A token holds if the authority's certificate
was valid at the token's own time; whether it was revoked later is not asked. An answer must be DER: one whose
certificates are in another order than DER wants (openssl 3.0 with `-chain`) is refused, so let the authority send its
signer's certificate alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from custody.errors import BundleMalformed, EnvironmentProblem, InputInvalid, SignatureRejected

try:
    from rfc3161_client import (
        HashAlgorithm,
        TimestampRequestBuilder,
        TimeStampResponse,
        VerificationError,
        VerifierBuilder,
        decode_timestamp_response,
    )
except ImportError as _error:  # an extra: appliances need none of it
    raise EnvironmentProblem(
        "timestamp: the Python package rfc3161-client is not installed", "pip install rfc3161-client"
    ) from _error

#: Tokens with their chains are some kilobytes.
LIMIT_BYTES = 1 << 20
#: What `rfc3161-client` says last, when all but the bytes is right.
_OTHER_BYTES = "Mismatch between messages"


@dataclass(frozen=True)
class Token:
    """A token that holds.

    Attributes:
        time: when the authority saw the bytes, UTC.
        authority: name in the certificate that signed.
        serial: the token's number.
    """

    time: datetime
    authority: str
    serial: int


def request(data: bytes) -> bytes:
    """The request (DER) for a token over these bytes; asks for the authority's certificate, too."""
    builder = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA512)
    return builder.nonce(nonce=False).cert_request(cert_request=True).build().as_bytes()


def verify(response: bytes, data: bytes, authority: bytes, name: str) -> Token:
    """Judge an answer.

    Args:
        response: DER, as the authority sent it.
        data: what the token shall be over.
        authority: PEM certificates: the root that is trusted for time, and any between it and the signer.

    Raises:
        InputInvalid: no certificate.
        BundleMalformed: not an answer.
        SignatureRejected: refused by the authority, over other bytes, or not signed under the root.
    """
    answer = _decode(response, name)
    builder = VerifierBuilder()
    try:
        for certificate in x509.load_pem_x509_certificates(authority):
            is_root = certificate.subject == certificate.issuer
            add = builder.add_root_certificate if is_root else builder.add_intermediate_certificate
            builder = add(certificate)
    except ValueError as error:
        raise InputInvalid("authority: expected certificates in PEM", "ask the authority for its root") from error
    try:
        builder.build().verify_message(answer, data)
    except (VerificationError, ValueError) as error:
        hint = (
            "it is over another file, or this one changed" if str(error) == _OTHER_BYTES else "ask the authority again"
        )
        raise SignatureRejected(f"{name}: the token does not hold: {error}", hint) from error
    return Token(answer.tst_info.gen_time.astimezone(UTC), _signer(answer), answer.tst_info.serial_number)


def _decode(response: bytes, name: str) -> TimeStampResponse:
    try:
        if len(response) > LIMIT_BYTES:
            raise ValueError(f"{len(response)} bytes, at most {LIMIT_BYTES} expected")
        return decode_timestamp_response(response)
    except ValueError as error:
        raise BundleMalformed(f"{name}: not an RFC 3161 response: {error}") from error


def _signer(answer: TimeStampResponse) -> str:
    """Subject of the certificate that the one signer names."""
    info = next(iter(answer.signed_data.signer_infos))
    for der in answer.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(der)
        if (certificate.issuer, certificate.serial_number) == (info.issuer, info.serial_number):
            return certificate.subject.rfc4514_string()
    return info.issuer.rfc4514_string()
