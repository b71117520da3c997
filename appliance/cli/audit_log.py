"""What the commands of `airgap audit` share: which log, and its process's settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from custody.errors import InputInvalid

if TYPE_CHECKING:
    from custody.ledger.view import View


def _default() -> Path:
    from appliance.audit.config import FOLDER

    return FOLDER


def _config() -> Path:
    from appliance.audit.config import FILE

    return FILE


log_option = click.option(
    "--log", "folder", type=click.Path(path_type=Path, file_okay=False), default=_default,
    show_default="/srv/airgap/audit", help="The audit log's folder, or a copy of it.",
)  # fmt: skip
config_option = click.option(
    "--config", "file", type=click.Path(path_type=Path, dir_okay=False), default=_config,
    show_default="/etc/airgap/audit.json", help="Settings of the audit process.",
)  # fmt: skip


def open_view(folder: Path, log_key: Path | None) -> View:
    """The log, as a reader sees it.

    Args:
        log_key: log.vkey from another hand; None: the folder's own is believed.

    Raises:
        InputInvalid: no log is there.
    """
    from custody.ledger.origin import read_public
    from custody.ledger.view import View

    if not folder.is_dir():
        raise InputInvalid(f"{folder}: expected an audit log, found none", "is the data volume open? airgap unlock")
    return View(folder, key=read_public(log_key) if log_key is not None else None)
