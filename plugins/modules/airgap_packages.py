#!/usr/bin/python
"""Ansible module over `appliance.packages`: all distribution packages, one execution."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from appliance.packages import KEYRING, Archive, install
from custody.errors import AirgapError

DOCUMENTATION = r"""
module: airgap_packages
short_description: Install exact package versions from archives on the host
description:
  - Runs apt with a configuration of its own, which knows the given C(file:) archives and nothing else. The
    distribution's signature is mandatory. Nothing is started by being installed. Refuses downgrades.
  - Moves the host's own package sources to C(/var/lib/airgap/before).
options:
  packages:
    description: The whole closure, as C(name=version).
    type: list
    elements: str
    required: true
  archives:
    description: Where the packages come from.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {type: str, required: true, description: For messages.}
      path: {type: path, required: true, description: Folder that holds C(dists) and C(pool).}
      suites: {type: list, elements: str, required: true, description: Suites below C(dists).}
      components: {type: list, elements: str, required: true, description: Components of each suite.}
  removable:
    description: Packages that may be removed when a wanted one conflicts with them.
    type: list
    elements: str
    default: []
  keep_boot_image:
    description: Leave the initial RAM disk alone, though a package would have it made anew.
    type: bool
    default: true
  keyring:
    description: The distribution's keys.
    type: path
    default: /usr/share/keyrings/debian-archive-keyring.gpg
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Install what the release brings
  airgap_packages:
    packages: ["chrony=4.6.1-3+deb13u2"]
    archives:
      - {name: debian, path: /opt/airgap/releases/7/sealed/data/apt/debian, suites: [trixie], components: [main]}
"""

RETURN = r"""
installed: {description: What was installed., type: list, returned: success}
removed: {description: What had to go for it., type: list, returned: success}
sources_set_aside: {description: The host's own sources that were moved away., type: list, returned: success}
"""


def main() -> None:
    """Run the module."""
    words = {"type": "list", "elements": "str", "required": True}
    archive = {
        "name": {"type": "str", "required": True},
        "path": {"type": "path", "required": True},
        "suites": words,
        "components": words,
    }
    module = AnsibleModule(
        argument_spec={
            "packages": words,
            "archives": {"type": "list", "elements": "dict", "required": True, "options": archive},
            "removable": {"type": "list", "elements": "str", "default": []},
            "keep_boot_image": {"type": "bool", "default": True},
            "keyring": {"type": "path", "default": str(KEYRING), "no_log": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    archives = [
        Archive(a["name"], Path(a["path"]), tuple(a["suites"]), tuple(a["components"])) for a in given["archives"]
    ]
    try:
        outcome = install(
            given["packages"],
            archives,
            removable=given["removable"],
            keep_boot_image=given["keep_boot_image"],
            keyring=Path(given["keyring"]),
            dry_run=module.check_mode,
        )
    except AirgapError as error:
        module.fail_json(msg=error.message, hint=error.hint, exit_code=error.exit_code)
    module.exit_json(
        changed=outcome.changed,
        installed=list(outcome.installed),
        removed=list(outcome.removed),
        sources_set_aside=list(outcome.sources_set_aside),
    )


if __name__ == "__main__":
    main()
