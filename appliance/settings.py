"""The settings of a process of the appliance: one strict JSON file that the installer writes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from custody.errors import AirgapError, InputInvalid
from custody.trust.keys import PublicKey

_Settings = TypeVar("_Settings", bound=BaseModel)


def load(kind: type[_Settings], file: Path) -> _Settings:
    """Read one.

    Raises:
        InputInvalid: unreadable, or not such a file; names each field.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InputInvalid(f"{file}: {error.strerror}", "airgap install") from error
    except ValidationError as error:
        # Without the values: some of them are nobody's business.
        wrong = [".".join(map(str, part["loc"])) + ": " + part["msg"] for part in error.errors(include_input=False)]
        raise InputInvalid(f"{file}: {'; '.join(wrong)}", "airgap install") from error


def public_key(name: str, text: str) -> PublicKey:
    """A key that stands in a setting: SPKI, base64, and nothing around it.

    Raises:
        InputInvalid: not such a key.
    """
    try:
        return PublicKey(base64.b64decode(text, validate=True))
    except (ValueError, AirgapError) as error:
        raise InputInvalid(f"{name}: expected SPKI in base64, found something else", "NAME.pub") from error
