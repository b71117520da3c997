"""Bad manifests, site files and locks: one clear message each, with line, field, expected, found and the next step.

Every case goes through the command line that an operator uses. What is checked of each: the documented exit code, one
message that cites the very line at fault, no traceback, and not a file made or changed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.cli import main
from bundler.install.remote.inventory import load_inventory
from bundler.install.site import load_site
from bundler.manifest.lock import load_lock
from bundler.manifest.models import load_manifest
from custody.errors import InputInvalid
from tests.attack.judges import state
from tests.bundles import lock
from tests.vm.hosts import load_hosts
from tests.vm.sitefiles import site_yml

AIRGAP = Path(sys.executable).with_name("airgap")
ROOT = Path(__file__).parents[2]
MANIFEST = """\
schema_version: 1
bundle:
  name: demo
  channel: stable
  version: 1
target:
  distribution: debian
  release: trixie
  architecture: amd64
  python: "3.13"
  kernel: "6.12"
  dpkg_status: status
apt:
  archives:
    - name: debian
      suites: [trixie]
      components: [main]
  packages:
    - nginx
wheels:
  environments:
    control: []
    engine:
      - llama-cpp-python[server]==0.3.36
  build:
    llama-cpp-python:
      flags:
        CMAKE_ARGS: -DGGML_NATIVE=OFF
models:
  - name: words
    source: words.gguf
    sha256: 5483c19d2ad2fb1dbff65fc75a9200e34ba14392a97ece0acc22a108981d71ff
    license: Apache-2.0
files:
  - name: notes.txt
    source: notes.txt
    sha256: 5483c19d2ad2fb1dbff65fc75a9200e34ba14392a97ece0acc22a108981d71ff
"""
SITE = site_yml(load_hosts()["appliance"])
ZEROS = "0" * 64


def _base_lock() -> str:
    """A lock with an item of each kind, as `airgap lock` writes it."""
    size = {"size_bytes": 1, "sha256": ZEROS}
    wheel = {"name": "tool", "version": "1.0", "filename": "tool-1.0-py3-none-any.whl", "environments": ["engine"]}
    deb = {
        "package": "nginx",
        "version": "1:1.26-3",
        "architecture": "amd64",
        "archive": "debian",
        "uses": ["appliance"],
    }
    model = {
        "name": "words",
        "filename": "words.gguf",
        "origin": "/srv/words.gguf",
        "license": "MIT",
        "label": "general",
    }
    facts = {"architecture": "llama", "context_tokens": 512, "kv_bytes_per_token": 1, "quantization": "Q8_0"}
    source = {
        "name": "thing",
        "version": "1",
        "kind": "sdist",
        "filename": "thing-1.tar.gz",
        "environments": ["engine"],
    }
    content = lock().model_dump(mode="json") | {
        "indexes": [{"archive": "debian", "path": "dists/trixie/InRelease", **size}],
        "debs": [{**deb, "path": "pool/main/n/nginx/nginx.deb", **size}],
        "wheels": [{**wheel, "url": "https://index.example/tool.whl", **size}],
        "sources": [{**source, "url": "https://index.example/t.gz", "flags": {"A": "B"}, "build_requires": [], **size}],
        "models": [{**model, **facts, "tokenizer": "gpt2", "chat_template_sha256": None, **size}],
        "files": [
            {"name": "notes.txt", "origin": "/srv/notes.txt", **size},
            {"name": "other.txt", "origin": "/srv/other.txt", **size},
        ],
    }
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


LOCK = _base_lock()
HOSTS = """\
schema_version: 1
hosts:
  - name: gpu-01
    address: 10.20.0.11
    key: /root/.ssh/site
    site: gpu-01.yml
  - name: gpu-02
    address: 10.20.0.12
    key: /root/.ssh/site
    site: gpu-02.yml
"""
BASES = {"manifest.yml": MANIFEST, "site.yml": SITE, "some.lock.json": LOCK, "hosts.yml": HOSTS}
LOADERS = {
    "manifest.yml": load_manifest,
    "site.yml": load_site,
    "some.lock.json": load_lock,
    "hosts.yml": load_inventory,
}
#: `airgap install` wants root before it reads these.
AS_ROOT = {"site.yml", "hosts.yml"}


def command(file: Path) -> list[str]:
    """What an operator runs with such a file."""
    folder = file.parent
    return {
        "manifest.yml": ["lock", str(file), "--cache", str(folder / "cache")],
        "site.yml": ["install", str(folder), "--site", str(file), "--fingerprint", ZEROS],
        "hosts.yml": ["install", str(folder), "-i", str(file), "--fingerprint", ZEROS, "--start-digest", ZEROS],
        "some.lock.json": ["build", str(file), str(folder / "bundle"), "--cache", str(folder / "cache")],
    }[file.name]


@dataclass(frozen=True)
class Case:
    """One mistake: `old` becomes `new` in a good file.

    Attributes:
        field: that the message names; "" where the text as a whole cannot be read.
        says: a part of the message.
        at: what stands in the line that the message cites; the last line of `new` when empty; None: no line at all.
    """

    file: str
    old: str
    new: str
    field: str
    says: str
    at: str | None = ""

    @property
    def cited(self) -> str:
        """A part of the line at fault."""
        return self.at or self.new.rstrip("\n").rpartition("\n")[2].strip()


def manifest(old: str, new: str, field: str, says: str, at: str | None = "") -> Case:
    return Case("manifest.yml", old, new, field, says, at)


def site(old: str, new: str, field: str, says: str, at: str | None = "") -> Case:
    return Case("site.yml", old, new, field, says, at)


def hosts(old: str, new: str, field: str, says: str, at: str | None = "") -> Case:
    return Case("hosts.yml", old, new, field, says, at)


def locked(old: str, new: str, field: str, says: str, at: str | None = "") -> Case:
    return Case("some.lock.json", old, new, field, says, at)


DISK = "AIRGAPDATA01\n  escrow_key: "
VERSION, NAME, PYTHON = "  version: 1\n", "  name: demo\n", '  python: "3.13"\n'
BOMB = "  name: &a [x, x]\n  channel: [*a, *a]\n"
FLOWS = "[" * 500 + "]" * 500
CASES = {
    # YAML that means more than it shows
    "key_twice": manifest(NAME, NAME + "  name: other\n", "bundle.name", "expected a key once, found it twice"),
    "section_twice": manifest("wheels:\n", "apt: {}\nwheels:\n", "apt", "expected a key once", "apt: {}"),
    "alias_bomb": manifest(NAME + "  channel: stable\n", BOMB, "", "no anchor (&) and no alias (*)", "name: &a"),
    "anchor": manifest(NAME, "  name: &name demo\n", "", "no anchor"),
    "merge_key": manifest(NAME, "  <<: {name: demo}\n", "bundle.'<<'", "expected a plain key, found a merge key"),
    "tag_python": manifest(NAME, "  name: !!python/object/apply:os.system [id]\n", "", "expected no tag (!)"),
    "tag_plain": manifest(VERSION, "  version: !!int '1'\n", "", "expected no tag (!)"),
    "tag_local": manifest(NAME, "  name: !vault demo\n", "", "expected no tag (!)"),
    "tag_binary": manifest(NAME, "  name: !!binary ZGVtbw==\n", "", "expected no tag (!)"),
    "tab": manifest(NAME, "\tname: demo\n", "", "expected YAML, found"),
    "bad_indent": manifest(NAME, "   name: demo\n", "", "expected YAML, found", "channel: stable"),
    "open_quote": manifest(NAME, "  name: 'demo\n", "", "expected YAML, found", None),
    "two_documents": manifest("target:\n", "---\ntarget:\n", "", "expected a single document", "---"),
    "deep": manifest(NAME, f"  name: {FLOWS}\n", "", "expected at most 24 levels"),
    "list_for_all": manifest(MANIFEST, "- schema_version\n", "", "expected a mapping, found a list"),
    "text_for_all": manifest(MANIFEST, "nothing here\n", "", "expected a mapping, found text"),
    "comments_alone": manifest(MANIFEST, "# later\n", "", "found comments alone", None),
    "key_number": manifest(NAME, "  1: demo\n", "bundle.1", "expected a word as key"),
    "key_truth": manifest(NAME, "  yes: demo\n", "bundle.yes", "expected a word as key"),
    # numbers, truth and dates that YAML 1.1 sees and people do not
    "octal": manifest(
        VERSION, "  version: 010\n", "bundle.version", "expected a whole number from 1 to 10^15-1, found"
    ),
    "hexadecimal": manifest(VERSION, "  version: 0x10\n", "bundle.version", "not 1 to 16 plain digits"),
    "sexagesimal": manifest(VERSION, "  version: 1:30\n", "bundle.version", "not 1 to 16 plain digits"),
    "underscores": manifest(VERSION, "  version: 1_000\n", "bundle.version", "not 1 to 16 plain digits"),
    "nan": manifest(VERSION, "  version: .nan\n", "bundle.version", "a number that is not whole"),
    "infinity": manifest(VERSION, "  version: -.inf\n", "bundle.version", "a number that is not whole"),
    "fraction_for_text": manifest(PYTHON, "  python: 3.13\n", "target.python", "a Python version in quotes"),
    "no_for_text": manifest(NAME, "  name: no\n", "bundle.name", "found no, which YAML takes for true or false"),
    "date": manifest(VERSION, "  version: 2026-01-01\n", "bundle.version", "found a date"),
    "too_large": manifest(VERSION, f"  version: {2**53}\n", "bundle.version", "found 9007199254740992"),
    "many_digits": manifest(VERSION, f"  version: {'9' * 5000}\n", "bundle.version", "not 1 to 16 plain digits"),
    "zero": manifest(VERSION, "  version: 0\n", "bundle.version", "from 1 to 10^15-1, found 0"),
    "negative": manifest(VERSION, "  version: -1\n", "bundle.version", "found -1"),
    "number_as_text": manifest(VERSION, '  version: "1"\n', "bundle.version", "found '1'"),
    # fields
    "unknown": manifest(NAME, NAME + "  colour: red\n", "bundle.colour", "found an unknown field"),
    "misspelled": manifest(NAME, "  nmae: demo\n", "bundle.nmae", "found an unknown field"),
    "misspelled_section": manifest("wheels:\n", "wheel:\n", "wheel", "found an unknown field"),
    "missing": manifest(NAME, "", "bundle.name", "found nothing", "bundle:"),
    "empty_section": manifest(MANIFEST[MANIFEST.index("apt:") : MANIFEST.index("wheels:")], "apt:\n", "apt", "nothing"),
    "schema_version": manifest("schema_version: 1\n", "schema_version: 2\n", "schema_version", "expected 1, found 2"),
    "wrong_release": manifest("release: trixie", "release: sid", "target.release", "one of trixie, bookworm"),
    "wrong_python": manifest('"3.13"', '"3.11"', "target.python", "expected 3.13, which trixie brings, found 3.11"),
    "list_for_text": manifest(NAME, "  name: [demo]\n", "bundle.name", "found a list"),
    "text_for_list": manifest("suites: [trixie]", "suites: trixie", "apt.archives[0].suites", "expected a list"),
    "empty_list": manifest("suites: [trixie]", "suites: []", "apt.archives[0].suites", "of at least one"),
    "mirror_named": manifest("name: debian\n", "name: mirror.example\n", "apt.archives[0].name", "one of debian, "),
    "name_with_traversal": manifest(NAME, "  name: ../../etc\n", "bundle.name", "found '../../etc'"),
    "name_with_line_end": manifest(NAME, '  name: "demo\\n"\n', "bundle.name", "visible text, found U+000A"),
    "name_with_escape": manifest(NAME, '  name: "\\e[2J"\n', "bundle.name", "visible text, found U+001B"),
    "key_with_escape": manifest(NAME, NAME + '  "\\e[2J": x\n', "bundle.'\\x1b[2J'", "found an unknown field"),
    "half_surrogate": manifest(NAME, '  name: "\\uD800"\n', "bundle.name", "found U+D800"),
    "file_with_traversal": manifest("- name: notes.txt", "- name: ../x", "files[0].name", "expected a file name"),
    "two_of_one_name": manifest(
        "files:\n",
        f"  - {{name: words, source: a, sha256: '{ZEROS}', license: MIT}}\nfiles:\n",
        "models[1].name",
        "expected a name of its own, found words a second time",
        "- {name: words",
    ),
    "short_digest": manifest(
        "5483c19d", "5483", "models[0].sha256", "64 lower-case hexadecimal digits", "sha256: 5483"
    ),
    "plain_http": manifest("words.gguf", "http://a.example/w", "models[0].source", "an https URL, or a path"),
    "file_url": manifest("words.gguf", "file:///etc/shadow", "models[0].source", "an https URL, or a path"),
    "option_as_package": manifest("- nginx", "- --allow-downgrades", "apt.packages[0]", "a package name"),
    "option_as_requirement": manifest(
        "- llama-cpp-python[server]==0.3.36",
        "- --index-url=https://evil.example",
        "wheels.environments.engine[0]",
        "expected a requirement",
    ),
    "address_as_requirement": manifest(
        "- llama-cpp-python[server]==0.3.36",
        "- thing @ https://evil.example/thing.whl",
        "wheels.environments.engine[0]",
        "expected a requirement",
    ),
    "environment_with_traversal": manifest(
        "    engine:\n", "    ../engine:\n", "wheels.environments.'../engine'", "expected a name of"
    ),
    "flag_name": manifest(
        "CMAKE_ARGS:", "A=B C:", "wheels.build.llama-cpp-python.flags.'A=B C'", "environment variable"
    ),
    # site files
    "site_template": site("AIRGAPDATA01", "\"{{ lookup('pipe', 'id') }}\"", "storage.data_disk_serial", "a serial of"),
    "site_statement": site("appliance-01", '"{% for a in b %}"', "host.name", "expected a host name"),
    "site_template_in_path": site(
        "/root/site/server.pem", "\"/root/{{ lookup('env', 'HOME') }}\"", "tls.certificate", "an absolute path"
    ),
    "site_template_in_model": site("airgap-words", '"{{ x }}"', "service.models[0]", "a name of lower-case letters"),
    "site_bad_octet": site("10.0.2.15/24", "10.0.2.999/24", "network.addresses[0]", "found '10.0.2.999/24'"),
    "site_no_prefix": site("10.0.2.15/24", "10.0.2.15", "network.addresses[0]", "with its prefix length"),
    "site_network_as_address": site("10.0.2.15/24", "10.0.2.0/24", "network.addresses[0]", "an address of one machine"),
    "site_netmask": site("10.0.2.15/24", "10.0.2.15/255.255.255.0", "network.addresses[0]", "with its prefix length"),
    "site_loopback": site("10.0.2.15/24", "127.0.0.1/8", "network.addresses[0]", "an address of one machine"),
    "site_everybody": site("10.0.2.0/24", "0.0.0.0/0", "network.management[0].network", "of /8 or smaller"),
    "site_everybody_6": site("10.0.2.0/24", '"::/0"', "network.management[0].network", "of /8 or smaller"),
    "site_half_of_everybody": site("10.0.2.0/24", "128.0.0.0/1", "network.management[0].network", "of /8 or smaller"),
    "site_host_bits": site("10.0.2.0/24", "10.0.2.7/24", "network.management[0].network", "without host bits"),
    "site_off_link": site("10.0.2.0/24", "10.9.0.0/24", "network.management[0].network", "on a link of the host"),
    "site_via_off_link": site("via: 10.0.2.2", "via: 192.0.2.1", "network.management[1].via", "another machine's"),
    "site_via_itself": site("via: 10.0.2.2", "via: 10.0.2.15", "network.management[1].via", "another machine's"),
    "site_nobody": site(
        SITE[SITE.index("  management:") : SITE.index("time:")],
        "  management: []\n",
        "network.management",
        "at least one",
    ),
    "site_strange_monitoring": site(
        "  auditor_key:",
        "  monitoring: [192.0.2.0/24]\n  auditor_key:",
        "service.monitoring[0]",
        "a network within those that may reach 443 (10.0.2.0/24, 172.20.0.0/16), found 192.0.2.0/24",
        "monitoring: [192.0.2.0/24]",
    ),
    "site_bad_mac": site("52:54:00", "52-54-00", "network.interface_mac", "the MAC address of one card"),
    "site_group_mac": site("52:54:00", "53:54:00", "network.interface_mac", "the MAC address of one card"),
    "site_bare_mac": site(
        f'"{load_hosts()["appliance"].mac}"', "52:54:00:10:00:01", "network.interface_mac", "in quotes, like"
    ),
    "site_bad_serial": site("AIRGAPDATA01", "a/b", "storage.data_disk_serial", "a serial of"),
    "site_serial_number": site("AIRGAPDATA01", "123456", "storage.data_disk_serial", "found 123456"),
    "site_no_key": site("AIRGAPDATA01", f"{DISK}NAME.pub", "storage.escrow_key", "of scheme p384"),
    "site_broken_key": site("AIRGAPDATA01", f"{DISK}aGVsbG8=", "storage.escrow_key", "of scheme p384"),
    "site_bad_time": site("sources: []", "sources: [pool.example]", "time.sources[0]", "the IP address of one machine"),
    "site_relative_secret": site(
        "/run/secrets-in/tls-key", "tls-key", "tls.key.file", "the absolute path of a file with the secret"
    ),
    "site_secret_with_traversal": site(
        "/run/secrets-in/tls-key", "/run/../etc/shadow", "tls.key.file", "the absolute path"
    ),
    "site_secret_itself": site(
        "{file: /run/secrets-in/tls-key}", "hunter2hunter2", "tls.key", "expected a mapping, found text"
    ),
    "site_secret_as_file": site(
        "file: /run/secrets-in/tls-key", "file: hunter2hunter2", "tls.key.file", "never the secret itself"
    ),
    "site_secret_as_alias": site("{file: /run/secrets-in/tls-key}", "*hunter2hunter2", "", "no alias (*), found one"),
    "site_secret_as_tag": site("{file: /run/secrets-in/tls-key}", "!hunter2hunter2 x", "", "no tag (!), found one"),
    "site_upper_case_name": site("appliance-01", "Appliance_01", "host.name", "lower-case letters"),
    "site_unknown": site("host:\n", "gateway: 10.0.2.1\nhost:\n", "gateway", "an unknown field", "gateway:"),
    # inventories
    "hosts_name_for_address": hosts("10.20.0.11", "host.example", "hosts[0].address", "the IP address of the host"),
    "hosts_template": hosts("10.20.0.11", '"{{ x }}"', "hosts[0].address", "the IP address of the host"),
    "hosts_twice": hosts("name: gpu-02", "name: gpu-01", "hosts[1].name", "every host named once"),
    "hosts_key_itself": hosts("/root/.ssh/site", "-----BEGIN", "hosts[0].key", "an absolute path"),
    "hosts_shallow_folder": hosts(
        "    site: gpu-01.yml\n", "    site: gpu-01.yml\n    folder: /etc\n", "hosts[0].folder", "two folders deep"
    ),
    "hosts_option_as_user": hosts(
        "    site: gpu-01.yml\n",
        "    site: gpu-01.yml\n    user: -oProxyCommand=id\n",
        "hosts[0].user",
        "the name of a user",
    ),
    # locks
    "lock_cut_off": locked(LOCK[-200:], "", "", "expected JSON, found", None),
    "lock_not_json": locked(LOCK, "schema_version: 1\n", "", "expected JSON, found"),
    "lock_list": locked(LOCK, "[]\n", "", "expected a mapping, found an empty list"),
    "lock_key_twice": locked(
        ' "bundle": {', ' "schema_version": 1,\n "bundle": {', "schema_version", "a key once, found it twice", None
    ),
    "lock_nan": locked(": 512,", ": NaN,", "models[0].context_tokens", "a number that is not whole"),
    "lock_fraction": locked(": 512,", ": 512.0,", "models[0].context_tokens", "a number that is not whole"),
    "lock_many_digits": locked(": 512,", f": {'9' * 5000},", "models[0].context_tokens", "1 to 16 plain digits"),
    "lock_negative_size": locked('"size_bytes": 1', '"size_bytes": -1', "debs[0].size_bytes", "found -1"),
    "lock_deep": locked(": 512,", f": {'[' * 40}{']' * 40},", "models[0]", "at most 24 levels", None),
    "lock_far_too_deep": locked(": 512,", f": {'[' * 100_000}{']' * 100_000},", "", "at most 24 levels", None),
    "lock_schema_version": locked(
        '"schema_version": 1', '"schema_version": 9', "schema_version", "expected 1, found 9"
    ),
    "lock_upper_digest": locked(
        f'"tree_sha256": "{ZEROS}', f'"tree_sha256": "{ZEROS[1:]}A', "tree_sha256", "a SHA-256"
    ),
    "lock_strange_archive": locked('"archive": "debian"', '"archive": "evil"', "debs[0].archive", "one of debian, "),
    "lock_path_up": locked("pool/main/n/nginx", "../../etc", "debs[0].path", "a relative path without .."),
    "lock_path_absolute": locked("pool/main/n/nginx", "/etc", "debs[0].path", "a relative path without .."),
    "lock_model_up": locked('"words.gguf"', '"../words.gguf"', "models[0].filename", "expected a file name"),
    "lock_hidden_file": locked('"name": "notes.txt"', '"name": ".notes"', "files[0].name", "expected a file name"),
    "lock_wheel_up": locked('"tool-1.0-py3', '"../../tool-1.0-py3', "wheels[0].filename", "expected a file name"),
    "lock_url_of_file": locked("https://index.example/tool", "file:///etc/tool", "wheels[0].url", "http or https URL"),
    "lock_url_with_blank": locked("https://index.example/tool", "https://a b/tool", "wheels[0].url", "https URL"),
    "lock_origin_relative": locked('"/srv/words.gguf"', '"words.gguf"', "models[0].origin", "an absolute path"),
    "lock_model_template": locked('"name": "words"', '"name": "{{ x }}"', "models[0].name", "a name of at most 40"),
    "lock_requirement_line": locked('"version": "1.0"', '"version": "1.0 --hash x"', "wheels[0].version", "a version"),
    "lock_escape": locked('"license": "MIT"', '"license": "\\u001b[2J"', "models[0].license", "found U+001B"),
    "lock_far_future": locked("1760000000", "9007199254740991", "source_date_epoch", "a whole number from"),
    "lock_collision": locked('"other.txt"', '"NOTES.txt"', "files[1]", "a place of its own in the bundle", "{"),
    "lock_unknown": locked('"size_bytes": 1', '"sise_bytes": 1', "debs[0].sise_bytes", "an unknown field"),
}


def run(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The command line in this process: exit code and standard error."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capfd.readouterr()
    assert out == ""
    return int(str(caught.value.code)), err


def refused(file: Path, code: int, err: str) -> tuple[str, str]:
    """Hold standard error to one message and one hint; returns both."""
    assert code == InputInvalid.exit_code, err
    assert "Traceback" not in err
    message, hint = err.splitlines()
    assert message.startswith(f"airgap: {file}")
    assert re.search(r"expected .+, found.+", message), message
    assert hint.startswith("  next: "), hint
    assert "\x1b" not in err
    assert "hunter2" not in err
    return message, hint


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to compare; beside nothing else of the test's."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", BASES)
def test_the_files_before_the_mistake_are_good(place: Path, name: str) -> None:
    file = place / name
    file.write_text(BASES[name])
    for host in ("gpu-01", "gpu-02"):
        (place / f"{host}.yml").write_text(SITE.replace("appliance-01", host))
    LOADERS[name](file)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_refuses_bad_text(case: Case, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if case.file in AS_ROOT and os.geteuid() != 0:
        pytest.skip("airgap install wants root first")
    good = BASES[case.file]
    assert case.old in good
    file = place / case.file
    file.write_text(good.replace(case.old, case.new, 1))
    before = state(place)
    message, hint = refused(file, *run(command(file), capfd))
    where = message.removeprefix(f"airgap: {file}")
    cited = re.match(r":(\d+): ", where)
    if case.at is not None:
        assert cited, message
        line = file.read_text().splitlines()[int(cited[1]) - 1]
        assert case.cited in line, f"{message}\ncites {line}"
    where = where[cited.end() :] if cited else where.removeprefix(": ")
    assert where.startswith(f"{case.field}: expected " if case.field else "expected "), message
    assert case.says in where, message
    if case.new.strip().startswith(("nmae", "wheel:", '"sise')):
        assert hint.startswith("  next: did you mean "), hint
    assert state(place) == before


THINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: None, "No such file or directory"),
    "empty": (lambda file: file.touch(), "found an empty file"),
    "blank": (lambda file: file.write_text(" \n\n"), "found an empty file"),
    "huge": (lambda file: os.truncate(os.open(file, os.O_CREAT | os.O_WRONLY), 65 << 20), "bytes, found more"),
    "folder": (lambda file: file.mkdir(), "expected a file, found a folder"),
    "pipe": (os.mkfifo, "expected a file, found a pipe"),
    "device": (lambda file: file.symlink_to("/dev/zero"), "expected a file, found a device"),
    "link_to_nowhere": (lambda file: file.symlink_to("nowhere"), "No such file or directory"),
    "link_to_itself": (lambda file: file.symlink_to(file.name), "symbolic links"),
    "not_utf8": (lambda file: file.write_bytes(b"a: b\nname: caf\xe9\n"), ":2: expected UTF-8 text, found byte 0xe9"),
    "utf16": (lambda file: file.write_bytes("a: b\n".encode("utf-16")), ":1: expected UTF-8 text, found byte 0xff"),
    "mark": (lambda file: file.write_bytes(b"\xef\xbb\xbfa: b\n"), ":1: expected visible text, found U+FEFF"),
    "nul": (lambda file: file.write_bytes(b"a: b\nc: \0\n"), ":2: expected visible text, found U+0000"),
    "hidden_line": (lambda file: file.write_text("a: b\n# c\u2028d: e\n"), ":2: expected visible text, found U+2028"),
    "turned_text": (lambda file: file.write_text("a: b\n# \u202ec\n"), ":2: expected visible text, found U+202E"),
    "escape": (lambda file: file.write_bytes(b"a: b\n# \x1b[2J\n"), ":2: expected visible text, found U+001B"),
}


def things(folder: Path) -> list[tuple[str, int, int, int]]:
    """All that lies in a folder, whatever it is; nothing is opened."""
    found = [(path.name, path.lstat()) for path in sorted(folder.rglob("*"))]
    return [(name, info.st_mode, info.st_size, info.st_mtime_ns) for name, info in found]


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", BASES)
def test_refuses_what_is_no_text(name: str, thing: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if name in AS_ROOT and os.geteuid() != 0:
        pytest.skip("airgap install wants root first")
    make, says = THINGS[thing]
    file = place / name
    make(file)
    before = things(place)
    message, _ = refused(file, *run(command(file), capfd))
    assert says in message, message
    assert things(place) == before


def test_refuses_an_unreadable_file(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = place / "manifest.yml"
    run(command(file), capfd)  # so that all code is loaded
    file.write_text(MANIFEST)
    file.chmod(0)
    before, user = things(place), os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        message, _ = refused(file, *run(command(file), capfd))
    finally:
        os.seteuid(user)
    assert "Permission denied" in message
    assert things(place) == before


@pytest.mark.parametrize("name", ["alias_bomb", "octal", "lock_model_up", "lock_far_too_deep"])
def test_the_installed_program_says_the_same(name: str, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]
    file = place / case.file
    file.write_text(BASES[case.file].replace(case.old, case.new, 1))
    done = subprocess.run([AIRGAP, *command(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == run(command(file), capfd)
    assert done.stdout == ""


def test_a_link_to_a_good_file_is_followed(place: Path) -> None:
    (place / "real.yml").write_text(MANIFEST)
    (place / "manifest.yml").symlink_to("real.yml")
    assert load_manifest(place / "manifest.yml").bundle.name == "demo"


TOKENS = [
    *"{}[]:,|>?~#%@`'\"=\\\t\r\0\x85\u2028é", "- ", "? ", "<<: ", "&a ", "*a", "!x ", "!!set ", "---\n", "...\n", "0x1",
    "1e5", ".inf", "yes", "null", "2026-01-01", "9" * 30, "\\ud800", "%YAML 9.9\n", "[key]", "\udce9",
]  # fmt: skip


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["manifest.yml", "site.yml", "some.lock.json"]),
    cuts=st.lists(
        st.tuples(st.integers(0, 4000), st.integers(0, 20), st.sampled_from(TOKENS) | st.text(max_size=4)),
        min_size=1,
        max_size=3,
    ),
)
def test_any_damage_is_read_or_refused(name: str, cuts: list[tuple[int, int, str]]) -> None:
    text = BASES[name]
    for at, length, token in cuts:
        at %= len(text) or 1
        text = text[:at] + token + text[at + length :]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_bytes(text.encode(errors="surrogatepass"))
        try:
            LOADERS[name](file)
        except InputInvalid as error:
            assert error.hint
            for line in error.message.splitlines():
                assert re.fullmatch(rf"{re.escape(str(file))}(:\d+)?: .*expected .+, found.*", line), line
                assert line.isprintable()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["keys", "new", "../evil"], "expected a person's name"),
        (["trust", "init", "t", "--person", "alice:root"], "expected NAME:ROLES:FILE"),
        (["trust", "init", "t", "--person", "alice:root:missing.pub"], "No such file or directory"),
        (["trust", "show", "."], "1.root.json: No such file or directory"),
        (["verify", ".", "--fingerprint", "12"], "expected 64 or 96 hexadecimal digits"),
    ],
    ids=["keys_traversal", "person_without_file", "person_missing_file", "no_root", "short_fingerprint"],
)
def test_refuses_bad_arguments(
    arguments: list[str], says: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    code, err = run(arguments, capfd)
    message, hint = err.splitlines()
    assert (code, says in message, hint.startswith("  next: ")) == (InputInvalid.exit_code, True, True), err
    assert list(place.parent.rglob("*")) == [place]
