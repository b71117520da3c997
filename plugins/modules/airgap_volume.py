#!/usr/bin/python
"""Ansible module over `appliance.drive.volume`: the encrypted data volume."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from appliance.drive.volume import Volume, prepare
from appliance.files import Folder
from custody.errors import AirgapError
from custody.secret import read_secret

DOCUMENTATION = r"""
module: airgap_volume
short_description: Format, open and mount the LUKS2 data volume
description:
  - Finds the disk by its serial number. Formats it when it is blank, opens it when it is our own volume, and refuses
    every other disk. Mounts it through the systemd unit of its mount point, which must exist.
options:
  serial: {type: str, required: true, description: The disk's serial number, as lsblk shows it.}
  mapper: {type: str, required: true, description: Name below C(/dev/mapper).}
  mount: {type: path, required: true, description: Mount point.}
  passphrase_file: {type: path, required: true, description: A file of mode 0600 on the host.}
  folders:
    description: Folders on the volume.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {type: path, required: true, description: Absolute path.}
      mode: {type: str, default: "0755", description: Octal permission bits.}
      owner: {type: str, default: root, description: User name.}
      group: {type: str, default: root, description: Group name.}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
"""

EXAMPLES = r"""
- name: Prepare the data volume
  airgap_volume:
    serial: S6CKNX0T123456
    mapper: airgap-data
    mount: /srv/airgap
    passphrase_file: /run/airgap/passphrase
"""

RETURN = r"""
done: {description: "What was done, one line each.", type: list, returned: success}
"""


def main() -> None:
    """Run the module."""
    folder = {
        "path": {"type": "path", "required": True},
        "mode": {"type": "str", "default": "0755"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
    }
    module = AnsibleModule(
        argument_spec={
            "serial": {"type": "str", "required": True},
            "mapper": {"type": "str", "required": True},
            "mount": {"type": "path", "required": True},
            "passphrase_file": {"type": "path", "required": True, "no_log": False},
            "folders": {"type": "list", "elements": "dict", "default": [], "options": folder},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        done = prepare(
            Volume(given["serial"], given["mapper"], Path(given["mount"])),
            read_secret(Path(given["passphrase_file"])),
            [Folder(Path(f["path"]), int(f["mode"], 8), f["owner"], f["group"]) for f in given["folders"]],
            dry_run=module.check_mode,
        )
    except AirgapError as error:
        module.fail_json(msg=error.message, hint=error.hint, exit_code=error.exit_code)
    module.exit_json(changed=bool(done), done=done)


if __name__ == "__main__":
    main()
