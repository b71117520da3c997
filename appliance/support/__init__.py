"""What a helper outside gets to see: a short list of sources, each line allowed, every text redacted.

Nothing is sent that is not listed in `_sources`; no file is copied whole. Prompts, answers, models, keys and the site
file are in none of them.
"""

from __future__ import annotations

import platform
import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import yaml

import custody
from appliance import engine, release, status
from appliance.support import known, lines
from appliance.support.redact import Redactor
from custody._run import run
from custody.errors import AirgapError, EnvironmentProblem

PAYLOAD_TYPE = "text/vnd.airgap.support"
INSTALL_LOG = Path("/var/log/airgap/install.log")

#: Beside the engines: unit → what its lines may look like.
_UNITS: dict[str, Sequence[re.Pattern[str]]] = {
    "nginx.service": lines.NGINX, "airgap-gateway.service": lines.SERVICE, "airgap-audit.service": lines.SERVICE,
    "airgap-diode.service": (), "airgap-diode-link.service": (),
    "airgap-firewall.service": (), "ufw.service": (), "chrony.service": (),
    "srv-airgap.mount": (), "systemd-networkd.service": (), "ssh.service": (),
}  # fmt: skip
_UNIT_PROPERTIES = "Id,LoadState,UnitFileState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,MemoryCurrent"
_JOURNAL_LINES, _LOG_LINES = 200, 400
#: Of one source, cut after redaction: half a secret would not be found.
_MAX_CHARS = 256 << 10


def collect() -> str:
    """The whole text, redacted: what is shown by `--dry-run` and what is sent.

    Raises:
        EnvironmentProblem: what must be kept back cannot be read, so that nothing is sent.
    """
    try:
        redact = Redactor(known.hidden(), {"serial": known.serials(), "host": known.names()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        kind = type(error).__name__  # its words may quote a secret
        raise EnvironmentProblem(
            f"support: this host's secrets and names cannot be read ({kind})", "look at /etc/airgap; airgap status"
        ) from error
    parts = ["airgap support 1\n"]
    for name, read in _sources().items():
        parts.append(f"\n==== {name} ====\n{redact(_read(read))[-_MAX_CHARS:].rstrip()}\n")
    return "".join(parts)


def _sources() -> dict[str, Callable[[], str]]:
    """Everything that is looked at, by name."""
    units = {each.unit: lines.ENGINE for each in engine.load()} | _UNITS
    found: dict[str, Callable[[], str]] = {
        "status": lambda: "\n".join(f"{x.verdict:8} {x.topic}, {x.what}: {x.found}" for x in status.collect()),
        "versions": _versions,
        "units": lambda: run(["systemctl", "show", f"--property={_UNIT_PROPERTIES}", *units]).text,
        "disks": lambda: run(["lsblk", "--output", "NAME,TYPE,SIZE,RO,FSTYPE"]).text,
        "addresses": lambda: run(["ip", "address"]).text,
        "routes v4": lambda: run(["ip", "-4", "route", "show", "table", "all"]).text,
        "routes v6": lambda: run(["ip", "-6", "route", "show", "table", "all"]).text,
        "packet filter": lambda: run(["nft", "list", "ruleset"]).text,
        "packages": lambda: run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n"]).text,
        "install.log": _install_log,
    }
    for unit, shapes in units.items():
        found[f"journal of {unit}"] = partial(_journal, unit, shapes)
    return found


def _read(read: Callable[[], str]) -> str:
    try:
        return read()
    except AirgapError as error:
        return f"not available: {error.message.splitlines()[0]}"
    except (OSError, ValueError, KeyError) as error:
        return f"not available: {type(error).__name__}"


def _versions() -> str:
    now = release.current()
    facts = [f"{key}={value}" for key, value in now.facts.items()] if now else ["no release"]
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return "\n".join([
        f"airgap {custody.VERSION}", f"Python {platform.python_version()}", system,
        f"Linux {platform.release()}", *facts, f"releases: {', '.join(release.installed())}",
    ])  # fmt: skip


def _journal(unit: str, shapes: Sequence[re.Pattern[str]]) -> str:
    listing = run(["journalctl", "--quiet", "--output=json", f"--lines={_JOURNAL_LINES}", f"--unit={unit}"]).text
    return lines.of_journal(listing.splitlines(), shapes)


def _install_log() -> str:
    with INSTALL_LOG.open(errors="replace") as stream:
        return lines.of_install_log(deque(stream, _LOG_LINES))
