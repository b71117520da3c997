#!/usr/bin/python
"""Ansible module over `appliance.files`: many files, one execution."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from appliance.files import MARKER, Folder, Wanted, place
from custody.errors import AirgapError

DOCUMENTATION = r"""
module: airgap_files
short_description: Put files and folders in place, whole and at once
description:
  - Writes every listed file atomically when its bytes, owner or mode differ. Links are never written through.
  - C(@SECRET@) in the content is replaced, on the host, by the text of C(secret_file), which never passes through
    Ansible. Such files show no difference.
options:
  files:
    description: Files; C(mode) is octal text.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {type: path, required: true, description: Absolute path.}
      content: {type: str, default: "@SECRET@", description: The whole text.}
      mode: {type: str, default: "0644", description: Octal permission bits.}
      owner: {type: str, default: root, description: User name.}
      group: {type: str, default: root, description: Group name.}
      secret_file: {type: path, description: A file of mode 0600 on the host.}
      source: {type: path, description: A public file on the host that takes the place of the content.}
  folders:
    description: Folders, made first and in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {type: path, required: true, description: Absolute path.}
      mode: {type: str, default: "0755", description: Octal permission bits.}
      owner: {type: str, default: root, description: User name.}
      group: {type: str, default: root, description: Group name.}
  absent:
    description: Files and links that shall not exist.
    type: list
    elements: path
    default: []
  debt:
    description:
      - A file below C(/run) that says that a change is not in effect yet. Made before the first change; while it is
        there, this reports a change, so that the next run does what a killed one did not get to. A handler removes it.
    type: path
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
"""

EXAMPLES = r"""
- name: Write the clock's configuration
  airgap_files:
    files:
      - path: /etc/chrony/chrony.conf
        content: "{{ lookup('ansible.builtin.template', 'chrony.conf.j2') }}"
"""

RETURN = r"""
changed_paths:
  description: What was written, made or removed.
  type: list
  returned: success
"""

_OWNERSHIP = {
    "path": {"type": "path", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}


def main() -> None:
    """Run the module."""
    file = {
        **_OWNERSHIP,
        "content": {"type": "str", "default": MARKER},
        "mode": {"type": "str", "default": "0644"},
        "secret_file": {"type": "path", "no_log": False},
        "source": {"type": "path"},
    }
    folder = {**_OWNERSHIP, "mode": {"type": "str", "default": "0755"}}
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "default": [], "options": file},
            "folders": {"type": "list", "elements": "dict", "default": [], "options": folder},
            "absent": {"type": "list", "elements": "path", "default": []},
            "debt": {"type": "path"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        changes = place(
            [
                Wanted(
                    path=Path(f["path"]),
                    content=f["content"],
                    mode=int(f["mode"], 8),
                    owner=f["owner"],
                    group=f["group"],
                    secret_file=Path(f["secret_file"]) if f["secret_file"] else None,
                    source=Path(f["source"]) if f["source"] else None,
                )
                for f in given["files"]
            ],
            [Folder(Path(f["path"]), int(f["mode"], 8), f["owner"], f["group"]) for f in given["folders"]],
            [Path(path) for path in given["absent"]],
            debt=Path(given["debt"]) if given["debt"] else None,
            dry_run=module.check_mode,
        )
    except AirgapError as error:
        module.fail_json(msg=error.message, hint=error.hint, exit_code=error.exit_code)
    differences = [
        {"before_header": str(c.path), "after_header": f"{c.path}: {c.what}", "before": c.before, "after": c.after}
        for c in changes
    ]
    module.exit_json(changed=bool(changes), changed_paths=[str(c.path) for c in changes], diff=differences)


if __name__ == "__main__":
    main()
