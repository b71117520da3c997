"""Two bare guests installed in one run from the builder as the laptop; one of them is broken on purpose."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.carried import lay_down
from tests.vm import path
from tests.vm.images import client_key
from tests.vm.machine import Machine
from tests.vm.sitefiles import DATA_KEY, TLS_KEY, make_site

pytestmark = pytest.mark.nightly


def _settle(walk: path.Walk, machine: Machine, name: str, folder: Path) -> str:
    """Bring what the site brings to one host; returns its entry of the inventory."""
    machine.wait_ssh()
    assert walk.site is not None
    machine.run(f"mkdir -m 700 -p {path.PASSPHRASES} /root/site")
    for secret in (DATA_KEY, TLS_KEY):
        machine.put(walk.secrets[secret].encode(), f"{path.PASSPHRASES}/{secret}", 0o600)
    machine.put(walk.site.certificate, "/root/site/server.pem")
    text = walk.site.site_yml.decode().replace("name: appliance-01", f"name: {name}")
    if name == "broken":
        text = text.replace("AIRGAPDATA01", "NOSUCHDISK")
    (folder / f"{name}.yml").write_text(text)
    fingerprint = machine.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").text.split()[1]
    return (
        f"  - name: {name}\n    address: 127.0.0.1\n    port: {machine.ssh_port}\n    key: {client_key()}\n"
        f"    host_key: {fingerprint}\n    site: {name}.yml\n"
    )


def test_two_hosts_in_one_run_one_of_them_broken(bundled: path.Walk, tmp_path: Path) -> None:
    walk = bundled
    folder, start_digest = lay_down(walk.bundle, walk.fingerprint, tmp_path / "carry")
    with Machine("appliance") as good, Machine("appliance") as broken:
        walk.site = make_site(walk, good.host)
        hosts = "".join(
            _settle(walk, machine, name, tmp_path) for name, machine in (("good", good), ("broken", broken))
        )
        inventory = tmp_path / "hosts.inventory"
        inventory.write_text("schema_version: 1\nserial: 2\nhosts:\n" + hosts)
        command = [
            str(path.AIRGAP), "install", str(folder), "-i", str(inventory), "--fingerprint", walk.fingerprint,
            "--start-digest", start_digest, "--minimum-version", "1", "--known-hosts", str(tmp_path / "known_hosts"),
        ]  # fmt: skip

        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr)
        assert done.returncode == 23, done.stdout + done.stderr
        table = done.stdout.split("\n\n")[0].splitlines()
        assert "installed" in table[1]
        assert "exit 23" in table[2]
        assert "NOSUCHDISK" in done.stdout
        assert "network" in path.ask(walk, good).lower()
        assert not path.default_routes(good)
        assert good.run("ls /var/lib/airgap/carried").text.split() == ["log", "result"]
        assert broken.run("test -e /opt/airgap/current", check=False).rc == 1

        # Mended: the same command leaves the first host alone and installs the second.
        site = tmp_path / "broken.yml"
        site.write_text(site.read_text().replace("NOSUCHDISK", "AIRGAPDATA01"))
        again = subprocess.run(
            [*command, "--json"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert again.returncode == 0, again.stdout + again.stderr
        rows = {row["name"]: row for row in json.loads(again.stdout)["hosts"]}
        assert rows["good"]["result"] == "unchanged"
        assert rows["broken"]["result"] == "installed"
        assert rows["broken"]["carried_bytes"] < 1 << 20  # all but the site file lay there
        assert "network" in path.ask(walk, broken).lower()
        said = (
            done.stdout + done.stderr + again.stdout + again.stderr + good.get("/var/lib/airgap/carried/log").decode()
        )
        assert [
            name
            for name, secret in walk.secrets.items()
            if secret.strip().splitlines()[1 if "BEGIN" in secret else 0] in said
        ] == []
