"""Where things lie on an appliance; `docs/reference/paths.md` says the same to people."""

from __future__ import annotations

from pathlib import Path

RELEASES = Path("/opt/airgap/releases")
CURRENT = Path("/opt/airgap/current")
PROGRAM = Path("/usr/local/bin/airgap")
STATE = Path("/var/lib/airgap")
SITE = Path("/etc/airgap/site.yml")
LOGS = Path("/var/log/airgap")
DATA = Path("/srv/airgap")
MODELS = DATA / "models"
RUN = Path("/run/airgap")
