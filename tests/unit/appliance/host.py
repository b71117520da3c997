"""An appliance made of namespaces: its own network, host name and files, on the kernel of the machine that tests.

The packet filter (from the role's own template), routes, sockets, files and mounts are real. Recorded are the answers
of programs that need what a namespace has not: systemd, disks with serials, LUKS.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.templates import render

AIRGAP = Path(sys.executable).with_name("airgap")

MAC, ADDRESS, V6 = "52:54:00:a1:00:01", "10.83.2.15", "fd00:83::15"
NAME, SERVER_NAME, SERIAL = "vault-seven", "oracle.site.example", "WDX42SERIAL"
API_KEY, PASSPHRASE = "sk-Canary0fTheSite5Key0000", 'correct "horse" battery'
FINGERPRINT = "ab" * 32
MODEL = b"weights"
ENGINE_UNIT, SOCKET = "airgap-engine-words.service", "/srv/engine/words.sock"

#: What happens inside before anything else: files over the machine's own, a card on a wire, the filters.
_SETUP = f"""
set -e
mount -t tmpfs layers "$1"
for folder in /etc /opt /srv /var/lib /var/log; do
    layer="$1/$(echo $folder | tr / _)"
    mkdir -p "$layer/up" "$layer/work" $folder
    mount -t overlay -o "lowerdir=$folder,upperdir=$layer/up,workdir=$layer/work" overlay $folder
done
mount -t tmpfs programs /usr/local/sbin
mkdir -p /dev/mapper && mount -t tmpfs mapper /dev/mapper && touch /dev/mapper/airgap-data
echo {NAME} >/proc/sys/kernel/hostname
ip link set lo up
unshare --net sleep infinity & peer=$!
while [ "$(readlink /proc/$peer/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link add card type veth peer name wire netns $peer
nsenter -t $peer -n ip link set wire up
ip link set card address {MAC} up
ip address add {ADDRESS}/24 dev card
ip -6 address add {V6}/64 dev card nodad
ip -6 address flush dev card scope link
mkdir -p /srv/airgap && mount -t tmpfs /dev/mapper/airgap-data /srv/airgap
echo ready
wait
"""

_UFW = "\n".join(
    f"table {family} filter {{ chain INPUT {{ type filter hook input priority 0; policy drop; iifname lo accept; }}\n"
    f"chain OUTPUT {{ type filter hook output priority 0; policy drop; oifname lo accept; }}\n"
    f"chain FORWARD {{ type filter hook forward priority 0; policy drop; }}\nchain {prefix}-user-input {{ }}\n}}"
    for family, prefix in (("ip", "ufw"), ("ip6", "ufw6"))
)

#: The service, as far as status asks: the engine lists its models, the gateway wants a key, or has no volume.
_SERVICE = f"""
import http.server, os, pathlib, socketserver, ssl, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        locked = self.server.status == 401 and not os.path.ismount("/srv/airgap")
        self.send_response(503 if locked else self.server.status)
        self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *a): pass
    def address_string(self): return ""
pathlib.Path("{SOCKET}").parent.mkdir(parents=True, exist_ok=True)
engine = socketserver.UnixStreamServer("{SOCKET}", Handler); engine.status = 200
gateway = http.server.HTTPServer(("{ADDRESS}", 443), Handler); gateway.status = 401
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain("/etc/airgap/gateway/tls.crt", "/etc/airgap/gateway/tls.key")
gateway.socket = tls.wrap_socket(gateway.socket, server_side=True)
threading.Thread(target=engine.serve_forever, daemon=True).start()
print("serving", flush=True)
gateway.serve_forever()
"""

_LSBLK = {
    "blockdevices": [
        {"name": "vda", "path": "/dev/vda", "type": "disk", "serial": "ROOT77", "wwn": None, "model": None, "ro": False,
         "size": 8 << 30, "mountpoints": ["/"]},
        {"name": "vdb", "path": "/dev/vdb", "type": "disk", "serial": SERIAL, "wwn": None, "model": "SSD", "ro": False,
         "size": 4 << 30, "mountpoints": [None], "children": [
             {"path": "/dev/mapper/airgap-data", "type": "crypt", "mountpoints": ["/srv/airgap"]}]},
    ]
}  # fmt: skip
_LUKS = {
    "keyslots": {"0": {"type": "luks2", "area": {"encryption": "aes-xts-plain64"},
                       "kdf": {"type": "argon2id", "memory": 262144}}},
    "segments": {"0": {"type": "crypt", "offset": "16777216", "encryption": "aes-xts-plain64"}}, "config": {},
}  # fmt: skip


@dataclass
class Host:
    """The namespaces of one process."""

    pid: int

    def run(self, *argv: str | Path, stdin: str = "", ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program inside."""
        inside = ["nsenter", "-t", str(self.pid), "--mount", "--net", "--uts", *map(str, argv)]
        done = subprocess.run(inside, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not ok, done.stderr
        return done

    @contextmanager
    def running(self, program: str) -> Iterator[None]:
        """Run a Python program inside, from its first line of output on."""
        inside = ["nsenter", "-t", str(self.pid), "--mount", "--net", "--uts", sys.executable, "-c", program]
        process = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None and process.stdout.readline()
            yield
        finally:
            process.kill()
            process.communicate()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside."""
        file = Path(f"/proc/{self.pid}/root{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def program(self, name: str, script: str) -> None:
        """Put a recorded answer in the place of a program."""
        self.write(f"/usr/local/sbin/{name}", f"#!/bin/sh\n{script}\n", 0o755)

    def status(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Lines of `airgap status --json`: (topic, what) → (verdict, found)."""
        done = self.run(AIRGAP, "status", "--json", ok=False)
        content = json.loads(done.stdout)
        assert content["schema"] == "airgap.status/1"
        assert (done.returncode, content["verdict"] == "ok") in ((0, True), (47, False)), done.stderr
        return {(x["topic"], x["what"]): (x["verdict"], x["found"]) for x in content["lines"]}


@contextmanager
def new_host(layers: Path) -> Iterator[Host]:
    """A host on which everything is well."""
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces and mounts")
    argv = ["unshare", "--mount", "--net", "--uts", "bash", "-c", _SETUP, "setup", str(layers)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        host = Host(process.pid)
        _furnish(host)
        with host.running(_SERVICE):
            yield host
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answer(content: Any) -> str:
    """A script that prints JSON."""
    return f"cat <<'END'\n{json.dumps(content)}\nEND"


def _furnish(host: Host) -> None:
    release = "/opt/airgap/releases/demo-1"
    facts = {"bundle": "demo", "channel": "demo", "version": 1, "security_epoch": 1, "source_date_epoch": 1700000000}
    host.write(f"{release}/sealed/facts.txt", "".join(f"{key}={value}\n" for key, value in facts.items()))
    models = [{"name": "words", "filename": "words.gguf", "size_bytes": len(MODEL)}]
    host.write(f"{release}/sealed/lock.json", json.dumps({"models": models}))
    host.run("ln", "-s", release, "/opt/airgap/current")
    state = {"root_fingerprint": FINGERPRINT, "channel": "demo", "version": 1, "security_epoch": 1, "release": "demo-1"}
    host.write("/var/lib/airgap/state.json", json.dumps(state), 0o600)
    host.write("/srv/airgap/models/demo-1/words.gguf", MODEL.decode())
    engine = {"name": "words", "unit": ENGINE_UNIT, "socket": SOCKET}
    host.write("/etc/airgap/engine.json", json.dumps({"schema_version": 1, "engines": [engine]}))
    storage = {"schema_version": 1, "serial": SERIAL, "mapper": "airgap-data", "mount": "/srv/airgap"}
    host.write("/etc/airgap/storage.json", json.dumps(storage))
    host.write("/etc/chrony/chrony.conf", "port 0\n")
    card = {"match": {"macaddress": MAC}, "addresses": [f"{ADDRESS}/24", f"{V6}/64"]}
    host.write("/etc/netplan/60-airgap.yaml", json.dumps({"network": {"ethernets": {"airgap": card}}}), 0o600)
    certificate, key = _certificate()
    host.write("/etc/airgap/gateway/tls.crt", certificate)
    host.write("/etc/airgap/gateway/tls.key", key, 0o640)
    host.write("/etc/site/passphrase", PASSPHRASE + "\n", 0o600)
    site = f"host: {{name: {NAME}}}\nstorage: {{passphrase: {{file: /etc/site/passphrase}}}}\n"
    host.write("/etc/airgap/site.yml", site, 0o600)
    host.write("/etc/hosts", f"127.0.0.1 localhost\n{ADDRESS} {NAME}\n")
    host.write("/etc/airgap/firewall.nft", firewall())
    host.run("nft", "-f", "/etc/airgap/firewall.nft")
    host.run("nft", "-f", "-", stdin=_UFW)
    host.program("systemctl", 'case "$1" in is-active) echo active;; list-units) echo "[]";; show) echo "Id=$3";; esac')
    host.program("lsblk", answer(_LSBLK))
    host.program("blkid", "printf 'VERSION=2\\nLABEL=airgap-data\\nTYPE=crypto_LUKS\\n'")
    host.program("cryptsetup", answer(_LUKS))
    host.program("journalctl", "true")


def firewall() -> str:
    """The filter as the role writes it."""
    networks = {"4": ["10.83.2.0/24", "172.20.0.0/16"], "6": ["fd00:83::/64"]}
    none: dict[str, list[str]] = {"4": [], "6": []}
    return render("firewall", "firewall.nft.j2", _firewall_management=networks, _firewall_time=none)


def _certificate(days: int = 90) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now, now + datetime.timedelta(days=days, hours=1)
    )
    signed = builder.sign(key, hashes.SHA384())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return signed.public_bytes(Encoding.PEM).decode(), pem


def certificate_for(days: int) -> str:
    """A certificate that ends in so many days."""
    return _certificate(days)[0]


def listener(kind: str) -> str:
    """A program that holds a socket: `tcp`, or `packet` below the filter."""
    made = {
        "tcp": "socket.create_server(('0.0.0.0', 8000))",
        "packet": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    }[kind]
    return textwrap.dedent(f"""
        import socket, time
        held = {made}
        print("held", flush=True)
        time.sleep(60)
    """)


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """A host's own key, from its file."""
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
