"""This project's playbooks, roles and modules, as they lie in its source.

They go into the bundle because an appliance runs them from there, never from a copy that it had before. Copied
without looking at git; what tests and runs leave behind is passed over, and links are refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from bundler.collect.interface import Item, Workplace
from bundler.collect.source import file_mode, project_files
from bundler.manifest.lock import Lock

PARTS = ("playbooks", "roles", "plugins")


class AnsibleCollector:
    """Playbooks, roles and plugins below `data/ansible/`."""

    name = "ansible"

    def items(self, lock: Lock, workplace: Workplace) -> Iterable[Item]:
        """Nothing is fetched."""
        return ()

    def assemble(self, lock: Lock, workplace: Workplace) -> None:
        """Copy the files, with mode 0644 or 0755.

        Raises:
            InputInvalid: a folder is missing, or there is a link.
        """
        folder = workplace.staging / "sealed/data/ansible"
        for path in project_files(workplace.project, PARTS):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(workplace.project / path, target)
            target.chmod(file_mode(workplace.project / path))
