#!/usr/bin/python
"""Ansible module over `appliance.gpu`: driver, cards and MIG layout."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from appliance.gpu import Wanted, prepare
from custody.errors import AirgapError

DOCUMENTATION = r"""
module: airgap_gpu
short_description: Load the GPU's driver, check the cards, bring them to a MIG layout
description:
  - Has DKMS build the kernel module for the running kernel if it is not there, loads it, checks driver, ECC and the
    kernel's log of Xid errors, and makes the MIG instances anew when they differ. Refuses while the engine runs.
options:
  kernel: {type: str, required: true, description: The kernel that must run, as C(uname -r) says.}
  driver: {type: str, required: true, description: The driver's upstream version.}
  mig: {type: list, elements: str, default: [], description: Profiles of the instances of each GPU.}
  ecc: {type: bool, default: true, description: Refuse a GPU without ECC.}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Prepare the GPUs
  airgap_gpu:
    kernel: 6.12.117+deb13-amd64
    driver: 550.163.01
    mig: [3g.71gb, 3g.71gb]
"""

RETURN = r"""
done: {description: "What was done, one line each.", type: list, returned: success}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "kernel": {"type": "str", "required": True},
            "driver": {"type": "str", "required": True},
            "mig": {"type": "list", "elements": "str", "default": []},
            "ecc": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    wanted = Wanted(kernel=given["kernel"], driver=given["driver"], mig=tuple(given["mig"]), ecc=given["ecc"])
    try:
        done = prepare(wanted, dry_run=module.check_mode)
    except AirgapError as error:
        module.fail_json(msg=error.message, hint=error.hint, exit_code=error.exit_code)
    module.exit_json(changed=bool(done), done=done)


if __name__ == "__main__":
    main()
