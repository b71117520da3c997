#!/usr/bin/python
"""Ansible module over `appliance.network.strangers`: who is logged in from where."""

from __future__ import annotations

import ipaddress

from ansible.module_utils.basic import AnsibleModule

from appliance.network import strangers

DOCUMENTATION = r"""
module: airgap_sessions
short_description: Refuse to go on when the firewall would cut an ssh session
description:
  - Fails when an established ssh session comes from an address that is in none of the management networks.
options:
  management_networks: {type: list, elements: str, required: true, description: Networks with prefix length.}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Look for sessions that the firewall would cut
  airgap_sessions:
    management_networks: [10.0.2.0/24]
"""

RETURN = r""" # """


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"management_networks": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    given = module.params["management_networks"]
    found = strangers([ipaddress.ip_network(network) for network in given])
    if found:
        module.fail_json(
            msg=f"ssh sessions: expected them from {', '.join(given)}, found one from {', '.join(found)}; the firewall "
            "would cut it",
            hint="log in from a management network or at the console, or correct management_networks in site.yml",
            exit_code=23,
        )
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
