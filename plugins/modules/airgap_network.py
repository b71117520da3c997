#!/usr/bin/python
"""Ansible module over `appliance.network`: the running network."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from appliance.network import Route, Wanted, settle
from custody.errors import AirgapError, OperatorMistake

DOCUMENTATION = r"""
module: airgap_network
short_description: Make the running network what netplan says, and nothing besides
description:
  - Puts every earlier network configuration aside, ends the programs that carried it out, applies netplan's live, and
    removes default routes in every table and addresses that nobody asked for.
options:
  mac: {type: str, required: true, description: MAC address of the network card.}
  addresses: {type: list, elements: str, required: true, description: "Addresses with prefix length."}
  routes:
    description: Networks and the neighbour that each is reached through.
    type: list
    elements: dict
    default: []
    suboptions:
      to: {type: str, required: true, description: Network with prefix length.}
      via: {type: str, required: true, description: Address of the neighbour.}
  netplan_file: {type: path, required: true, description: "Our file, in place already."}
  reload: {type: bool, default: false, description: Whether that file has just changed.}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Settle the network
  airgap_network:
    mac: "52:54:00:a1:00:01"
    addresses: [10.0.2.15/24]
    netplan_file: /etc/netplan/60-airgap.yaml
"""

RETURN = r"""
done: {description: "What was done, one line each.", type: list, returned: success}
"""


def main() -> None:
    """Run the module."""
    route = {"to": {"type": "str", "required": True}, "via": {"type": "str", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "mac": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "routes": {"type": "list", "elements": "dict", "default": [], "options": route},
            "netplan_file": {"type": "path", "required": True},
            "reload": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        done = settle(_wanted(module.params), reload=module.params["reload"], dry_run=module.check_mode)
    except AirgapError as error:
        module.fail_json(msg=error.message, hint=error.hint, exit_code=error.exit_code)
    module.exit_json(changed=bool(done), done=done)


def _wanted(given: dict[str, Any]) -> Wanted:
    try:
        return Wanted(
            mac=given["mac"],
            addresses=tuple(ipaddress.ip_interface(a) for a in given["addresses"]),
            routes=tuple(Route(ipaddress.ip_network(r["to"]), ipaddress.ip_address(r["via"])) for r in given["routes"]),
            netplan_file=Path(given["netplan_file"]),
        )
    except ValueError as error:
        raise OperatorMistake(f"network: {error}", "correct the addresses and routes in site.yml") from error


if __name__ == "__main__":
    main()
