"""What lay on the host before has no say: planted configuration, plug-ins, modules of Python, and templates in values.

The real Ansible of this environment runs a small playbook twice: as `airgap install` runs it, and as somebody careless
would. The careless run shows that each plant works.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundler.install import ansible, paths
from custody.report import SilentReporter
from tests.unit.install.hosts import CLONE_NEWNS, in_namespace

pytestmark = pytest.mark.root
ROOT = Path(__file__).parents[3]
PLAYBOOK = """\
- name: Probe
  hosts: all
  gather_facts: false
  tags: [probe]
  tasks:
    - name: Run a module
      ansible.builtin.ping:
    - name: Say what was told
      ansible.builtin.debug:
        msg: "told <{{ told }}>, <{{ deep.list[0] }}>"
    - name: Compare as roles do
      ansible.builtin.assert:
        that: [told is match('.*pipe'), deep.list | length == 1]
"""
CALLBACK = """\
import pathlib
from ansible.plugins.callback import CallbackBase
pathlib.Path({mark!r}).touch()
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "planted"
"""
#: Those that work side by side stand together; of several configuration files Ansible takes one.
PLACES = (("ANSIBLE_CALLBACK_PLUGINS", "PYTHONPATH"), ("ANSIBLE_CONFIG",), ("folder",), ("home", "share"), ("etc",))


class Plants:
    """Planted things, each of which leaves a mark when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.marks = folder, folder / "marks"
        self.home, self.here, self.etc, self.share = (folder / name for name in ("home", "here", "etc", "share"))
        for path in (self.marks, self.home, self.here):
            path.mkdir(parents=True)
        shutil.copytree("/etc", self.etc, symlinks=True)
        (self.share / "ansible").mkdir(parents=True)

    def plant(self, place: str) -> dict[str, str]:
        """Plant one thing; returns the environment that it needs."""
        if place == "ANSIBLE_CALLBACK_PLUGINS":
            return {place: str(self._callback(place, self.folder / "callbacks"))}
        if place == "ANSIBLE_CONFIG":
            return {place: str(self._configuration(place, self.folder / "planted.cfg"))}
        if place == "folder":
            self._configuration(place, self.here / "ansible.cfg")
        elif place == "home":
            self._callback(place, self.home / ".ansible/plugins/callback")
        elif place == "etc":
            self._configuration(place, self.etc / "ansible/ansible.cfg")
        elif place == "share":
            self._callback(place, self.share / "ansible/plugins/callback")
        else:
            # User site-packages are beside it: a virtual environment like this one ignores them in any case.
            version = f"python{sys.version_info.major}.{sys.version_info.minor}"
            user = self.home / ".local/lib" / version / "site-packages"
            for file in (self.folder / "modules/sitecustomize.py", user / "usercustomize.py"):
                file.parent.mkdir(parents=True)
                file.write_text(f"import pathlib; pathlib.Path({str(self.marks / place)!r}).touch()\n")
            return {place: str(self.folder / "modules"), "PYTHONUSERBASE": str(self.home / ".local")}
        return {}

    def _callback(self, place: str, folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / f"planted_{place}.py").write_text(CALLBACK.format(mark=str(self.marks / place)))
        return folder

    def _configuration(self, place: str, file: Path) -> Path:
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"[defaults]\ncallback_plugins = {self._callback(place, self.folder / f'by-{place}')}\n")
        return file

    def marked(self) -> set[str]:
        """What was loaded."""
        return {mark.name for mark in self.marks.iterdir()}

    def mount(self) -> None:
        """Put the planted /etc and /usr/share in place, for this thread's namespace alone."""
        for arguments in (["--make-rprivate", "/"], ["--bind", self.etc, "/etc"], ["--bind", self.share, "/usr/share"]):
            subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A release with this environment's programs, the real ansible.cfg and the probe."""
    monkeypatch.setattr(paths, "STATE", tmp_path / "state")
    monkeypatch.setattr(paths, "LOGS", tmp_path / "logs")
    folder = tmp_path / "release"
    playbooks = folder / "sealed/data/ansible/playbooks"
    playbooks.mkdir(parents=True)
    shutil.copy(ROOT / "playbooks/ansible.cfg", playbooks)
    (playbooks / "probe.yml").write_text(PLAYBOOK)
    (folder / "venv").symlink_to(sys.prefix)
    yield folder


@pytest.fixture
def plants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plants:
    made = Plants(tmp_path / "plants")
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.chdir(made.here)
    return made


def variables(mark: Path) -> dict[str, object]:
    """Values that are templates, if anybody takes them for such."""
    pipe = "{{ lookup('ansible.builtin.pipe', 'touch " + str(mark) + "') }}"
    return {"told": pipe, "deep": {"list": [pipe]}}


def carelessly(release: Path, told: dict[str, object]) -> None:
    """The same playbook with the caller's environment and plain variables."""
    playbook = release / "sealed/data/ansible/playbooks/probe.yml"
    argv: list[str | Path] = [Path(sys.prefix, "bin/ansible-playbook"), "-i", "localhost,", "-c", "local", playbook]
    told = {**told, "ansible_python_interpreter": sys.executable}
    subprocess.run([*argv, "--extra-vars", json.dumps(told)], capture_output=True, check=False)


def test_nothing_planted_is_loaded_and_no_value_is_a_template(
    release: Path, plants: Plants, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in itertools.chain.from_iterable(PLACES):
        for name, value in plants.plant(place).items():
            monkeypatch.setenv(name, value)
    for name in ("ANSIBLE_FILTER_PLUGINS", "ANSIBLE_LIBRARY", "ANSIBLE_ROLES_PATH", "PYTHONHOME", "PYTHONINSPECT"):
        monkeypatch.setenv(name, str(plants.folder))
    told = variables(plants.marks / "template")

    def install() -> ansible.Outcome:
        plants.mount()
        assert Path("/etc/ansible/ansible.cfg").exists()
        return ansible.run_playbook(release, "probe.yml", "probe", told, SilentReporter())

    outcome = in_namespace(CLONE_NEWNS, install)
    assert outcome.executions == 3
    assert plants.marked() == set()
    assert f"told <{told['told']}>, <{told['told']}>" in (paths.LOGS / "install.log").read_text()


@pytest.mark.parametrize("places", PLACES, ids=" ".join)
def test_each_plant_works_on_somebody_careless(
    release: Path, plants: Plants, places: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)
    for place in places:
        for name, value in plants.plant(place).items():
            monkeypatch.setenv(name, value)

    def run() -> None:
        plants.mount()
        carelessly(release, variables(plants.marks / "template"))

    in_namespace(CLONE_NEWNS, run)
    assert plants.marked() == {*places, "template"}


def test_ansible_looks_in_no_folder_of_the_host(release: Path) -> None:
    playbook = release / "sealed/data/ansible/playbooks/probe.yml"
    _, environment = ansible.command_line(release, playbook, Path("/nonexistent"))
    dump = subprocess.run(
        [release / "venv/bin/ansible-config", "dump", "--format", "json"],
        env={"PATH": os.environ["PATH"], **environment}, capture_output=True, check=True,
    )  # fmt: skip
    settings = {row["name"]: str(row["value"]) for row in json.loads(dump.stdout) if "name" in row}
    assert "/nonexistent" in settings["DEFAULT_CALLBACK_PLUGIN_PATH"]
    settings.pop("DEFAULT_HOST_LIST")  # the inventory is in the arguments
    named = {name: value for name, value in settings.items() if "/etc/ansible" in value or "/usr/share" in value}
    assert named == {}
