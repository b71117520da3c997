"""A signature per model for people who have `model-signing` and not this project (OpenSSF Model Signing 1.0).

A Sigstore bundle 0.3 with a public key in place of a certificate: a DSSE envelope over an in-toto Statement that names
one file, the model, as `.` below itself. No transparency log: there is none inside a gap. Only models of a verified
bundle are signed, by the digest that enough persons vouched for; whoever holds the key vouches for it once more.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from custody.atomic import write_whole
from custody.errors import InputInvalid, TargetRefused
from custody.report import Reporter
from custody.trust import canonical
from custody.trust.envelope import pae
from custody.trust.keys import PublicKey, Signer
from custody.trust.profile import P384_SCHEME
from custody.trust.statement import PAYLOAD_TYPE, STATEMENT_TYPE, Entry
from custody.trust.verify import VerifiedBundle, check_contents

_BELOW = "data/models/"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def sign_models(bundle: VerifiedBundle, key: Signer, out: Path, reporter: Reporter) -> list[Path]:
    """Write `MODEL.sig` for every model, and the public key as `model-signing` reads it.

    Args:
        out: a folder; made when it is not there.

    Returns:
        The signatures, then `KEYID.pem`.

    Raises:
        DigestMismatch: a model is not what was signed.
        InputInvalid: no models, or a key of a scheme that the format has not.
        TargetRefused: a signature lies there already.
    """
    if key.public.scheme != P384_SCHEME:
        raise InputInvalid(f"{key.public.scheme}: OMS signatures are made with P-384", "name another key")
    entries = bundle.entries(_BELOW)
    if not entries:
        raise InputInvalid(f"{bundle.source.name}: holds no models", "name a bundle with models")
    files = {out / f"{entry.path.removeprefix(_BELOW)}.sig": entry for entry in entries}
    for file in files:
        if file.exists():
            raise TargetRefused(f"{file}: exists already", "name a new folder")
    check_contents(bundle, entries, reporter)
    out.mkdir(parents=True, exist_ok=True)
    for file, entry in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, _signature(entry, key))
    public = out / f"{key.public.keyid}.pem"
    write_whole(public, _pem(key.public))
    return [*files, public]


def _signature(entry: Entry, key: Signer) -> bytes:
    payload = canonical.dump(_statement(entry))
    signature = key.sign(pae(PAYLOAD_TYPE, payload))
    content = {
        "mediaType": _MEDIA_TYPE,
        # The hint is the verifier's own: SHA-256 of the PEM text.
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(_pem(key.public)).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def _statement(entry: Entry) -> dict[str, object]:
    resource = {"name": ".", "algorithm": "sha256", "digest": entry.sha256}
    root = hashlib.sha256(bytes.fromhex(entry.sha256)).hexdigest()  # over all resources' digests, here one
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": entry.path.rpartition("/")[2], "digest": {"sha256": root}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [resource],
        },
    }


def _pem(key: PublicKey) -> bytes:
    return load_der_public_key(key.der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
