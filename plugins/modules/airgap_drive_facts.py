#!/usr/bin/python
"""Ansible module over `appliance.drive.discovery`: what a drive says of itself."""

from __future__ import annotations

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from appliance.drive import disks, kinds
from appliance.drive.sed import Sed
from custody.errors import AirgapError

DOCUMENTATION = r"""
module: airgap_drive_facts
short_description: Say what kind of drive a disk is, by TCG Level 0 Discovery
description:
  - Finds the disk by its serial number and reads what the drive tells everybody. Proves no PIN, changes nothing.
options:
  serial: {type: str, required: true, description: "The disk's serial number, as lsblk shows it."}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Look at the drive
  airgap_drive_facts:
    serial: S6CKNX0T123456
"""

RETURN = r"""
device: {description: "The disk's device.", type: str, returned: success, sample: /dev/nvme0n1}
model: {description: "The disk's model.", type: str, returned: success}
size_bytes: {description: Its size in bytes., type: int, returned: success}
kind:
  description: What the drive is to an appliance.
  type: str
  returned: success
  sample: factory
  choices: [unsupported, pyrite, factory, sid-blocked, owned]
why: {description: "Why it is that, in words.", type: str, returned: success}
remedy: {description: "What to do to have it taken over; empty for a new drive.", type: str, returned: success}
discovery:
  description: What Level 0 Discovery says; absent when the disk is no TCG drive.
  type: dict
  returned: when the drive answers
  contains:
    com_id: {description: "Where Opal 2 listens; 0 without it.", type: int}
    classes: {description: "Security subsystem classes, as the drive lists them.", type: list, elements: str}
    supported: {description: It has a Locking SP., type: bool}
    activated: {description: "The Locking SP is active: somebody owns the drive.", type: bool}
    locked: {description: At least one range is locked., type: bool}
    encrypts: {description: What is written is encrypted on the medium., type: bool}
    shadowed: {description: Reads return a shadow MBR until it is done., type: bool}
    sid_is_set: {description: "SID has a PIN of its own; null: the drive does not say.", type: bool}
    sid_blocked: {description: "SID is refused until power goes; null: the drive does not say.", type: bool}
    sid_is_msid: {description: "A new drive's SID has the PIN that everybody can read.", type: bool}
    removal_interrupted: {description: A revert was cut off., type: bool}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"serial": {"type": "str", "required": True}}, supports_check_mode=True)
    try:
        disk = disks.find(module.params["serial"])
        found = Sed(disk.path).discover()
    except AirgapError as error:
        module.fail_json(msg=error.message, hint=error.hint, exit_code=error.exit_code)
    judged = kinds.judge(found)
    told = {"discovery": asdict(found)} if found else {}
    module.exit_json(
        changed=False, device=str(disk.path), model=disk.model, size_bytes=disk.size_bytes,
        kind=str(judged.kind), why=judged.why, remedy=judged.remedy, **told,
    )  # fmt: skip


if __name__ == "__main__":
    main()
