#!/usr/bin/python
"""Ansible module over `appliance.units`: mask many units, one execution."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from appliance.units import mask
from custody.errors import AirgapError

DOCUMENTATION = r"""
module: airgap_units
short_description: Mask systemd units, present or not, and stop them
description:
  - Masks every listed unit, so that a package that comes later cannot start it either, and stops those that run.
options:
  masked:
    description: Full unit names.
    type: list
    elements: str
    required: true
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Mask what calls out
  airgap_units:
    masked: [apt-daily.timer, apt-daily-upgrade.timer]
"""

RETURN = r"""
masked: {description: Units whose mask is new., type: list, returned: success}
stopped: {description: Units that ran., type: list, returned: success}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"masked": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    try:
        outcome = mask(module.params["masked"], dry_run=module.check_mode)
    except AirgapError as error:
        module.fail_json(msg=error.message, hint=error.hint, exit_code=error.exit_code)
    module.exit_json(
        changed=bool(outcome.masked or outcome.stopped), masked=list(outcome.masked), stopped=list(outcome.stopped)
    )


if __name__ == "__main__":
    main()
