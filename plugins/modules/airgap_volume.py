#!/usr/bin/python
"""Ansible module over `appliance.drive.volume`: the encrypted data volume."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from appliance.drive.escrow import Escrow
from appliance.drive.luks import Mode
from appliance.drive.own import Wanted
from appliance.drive.volume import Volume, prepare
from appliance.files import Folder
from custody.errors import AirgapError
from custody.report import SilentReporter
from custody.secret import read_secret

DOCUMENTATION = r"""
module: airgap_volume
short_description: Take over, format, open and mount the LUKS2 data volume
description:
  - Finds the disk by its serial number. Formats it when it is blank, opens it when it is our own volume, and refuses
    every other disk. Mounts it through the systemd unit of its mount point, which must exist.
options:
  serial: {type: str, required: true, description: The disk's serial number, as lsblk shows it.}
  mapper: {type: str, required: true, description: Name below C(/dev/mapper).}
  mount: {type: path, required: true, description: Mount point.}
  passphrase_file: {type: path, required: true, description: A file of mode 0600 on the host.}
  mode:
    description: Who encrypts a volume that is made; C(auto) is C(opal+luks) where the drive can, else C(luks).
    type: str
    choices: [auto, opal+luks, opal, luks]
    default: luks
  escrow_key: {type: str, default: "", description: "Public key of the escrow (SPKI, base64)."}
  psid_file: {type: str, default: "", description: File of mode 0600 with the PSID on the drive's label.}
  owned_pin_file: {type: str, default: "", description: File of mode 0600 with the PIN of a drive that is owned.}
  unattended: {type: bool, default: false, description: Have the TPM open the volume at boot.}
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


class _Notes(SilentReporter):
    """What the operator is to know besides what was changed."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def _secret(file: str) -> str:
    return read_secret(Path(file)) if file else ""


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
            "mode": {"type": "str", "choices": ["auto", "opal+luks", "opal", "luks"], "default": "luks"},
            "escrow_key": {"type": "str", "default": "", "no_log": False},
            "psid_file": {"type": "str", "default": ""},
            "owned_pin_file": {"type": "str", "default": "", "no_log": False},
            "unattended": {"type": "bool", "default": False},
            "folders": {"type": "list", "elements": "dict", "default": [], "options": folder},
        },
        supports_check_mode=True,
    )
    given = module.params
    told = _Notes()
    try:
        done = prepare(
            Volume(given["serial"], given["mapper"], Path(given["mount"])),
            read_secret(Path(given["passphrase_file"])),
            [Folder(Path(f["path"]), int(f["mode"], 8), f["owner"], f["group"]) for f in given["folders"]],
            wanted=Wanted(
                mode=None if given["mode"] == "auto" else Mode(given["mode"]),
                psid=_secret(given["psid_file"]),
                owned_pin=_secret(given["owned_pin_file"]),
            ),
            escrow=Escrow.to(given["escrow_key"]),
            opens_itself=given["unattended"],
            reporter=told,
            dry_run=module.check_mode,
        )
    except AirgapError as error:
        module.fail_json(msg=error.message, hint=error.hint, exit_code=error.exit_code)
    module.exit_json(changed=bool(done), done=[*done, *told.notes])


if __name__ == "__main__":
    main()
