"""The sender: `python -m appliance.diode [CONFIG]`. It may be ended at any moment; what it repeats is harmless."""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.diode import config
from appliance.diode.send import Sender, Wire
from custody.errors import AirgapError
from custody.report import ConsoleReporter


def main(settings: config.Config) -> None:
    """Send until a signal comes."""
    reporter = ConsoleReporter()
    Sender(settings, Wire(settings, reporter).send, reporter).run()


if __name__ == "__main__":
    try:
        main(config.load(*map(Path, sys.argv[1:2])))
    except AirgapError as error:
        sys.exit(f"diode: {error.message}\n  next: {error.hint}")
