"""The settings of a process of the appliance: one strict JSON file that the installer writes."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from custody.errors import InputInvalid

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
