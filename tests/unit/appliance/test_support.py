"""What leaves in a support file: canaries of every kind go in, none comes out; only the named key opens it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.support.redact import Redactor
from custody.trust.envelope import Envelope
from custody.trust.keys import PrivateKey
from tests.unit.appliance import host as hosts
from tests.unit.appliance.host import AIRGAP, Host, new_host

KEY_PASSPHRASE = "correct horse battery"
PROMPT = "Canary prompt: who betrayed the duke?"
STRANGER, STRANGER_V6, OTHER_MAC = "198.51.100.77", "2001:db8:7:7::4242", "0c:c4:7a:11:22:33"
UNKNOWN_KEY = "Tk9tLongGeneratedToken0123456789"

#: What must not come out, by kind.
CANARIES = {
    "API key": hosts.API_KEY,
    "passphrase": hosts.PASSPHRASE,
    "another secret": UNKNOWN_KEY,
    "prompt": "duke",
    "host name": hosts.NAME,
    "server name": hosts.SERVER_NAME,
    "domain": "site.example",
    "serial": hosts.SERIAL,
    "MAC": hosts.MAC,
    "MAC in a name": hosts.MAC.replace(":", ""),
    "another MAC": OTHER_MAC,
    "address": hosts.ADDRESS,
    "v6 address": hosts.V6,
    "network": "172.20.0.0",
    "stranger": STRANGER,
    "v6 stranger": STRANGER_V6,
}


def record(message: Any, pid: str = "812") -> str:
    """A line of `journalctl --output=json`."""
    return json.dumps({"MESSAGE": message, "_PID": pid, "__REALTIME_TIMESTAMP": "1795239118000000"})


ENGINE = [
    record("Started airgap-engine-words.service - The inference engine of words.", pid="1"),
    record("0.00.412.604 I srv  llama_server: model loaded"),
    record(PROMPT),
    record("0.07.001.220 I slot      release: id  3 | task 12 | stop processing: n_tokens = 142, truncated = 0"),
    record(f"0.07.001.230 E srv    operator(): got exception: parse error: last read: '{PROMPT}'"),
    record(f"0.07.001.240 I srv  {PROMPT}: model loaded"),
    record(f"0.07.001.250 E srv    load_model: failed to load model, '/srv/airgap/models/{PROMPT}'"),
    record(f"llama_decode: failed to allocate {PROMPT}"),
    record(f"systemd[1]: {PROMPT}"),
    record([68, 117, 107, 101, 255]),
]
GATEWAY = [
    record(f'{STRANGER} "POST /v1/completions" 200 512 0.734 TLSv1.3'),
    record(f'{STRANGER_V6} "GET /{PROMPT}" 404 12 0.001 TLSv1.3'),
    record(f'2026/11/21 05:16:23 [error] 9#9: *1 connect() failed (111: Connection refused), request: "{PROMPT}"'),
    record(f'2026/11/21 05:16:23 [info] 9#9: *1 client sent invalid header line: "{hosts.API_KEY} {PROMPT}"'),
]
SERVICE = [
    record("gateway: req-0123456789abcdef01234567: KeyError at /opt/airgap/current/venv/lib/app.py:71"),
    record(f"gateway: req-0123456789abcdef01234567: KeyError: {PROMPT}"),
    record(f"gateway: policies: refused, the old ones stay: {PROMPT}"),
    record(f"gateway: audit: a request is not recorded: {PROMPT}"),
]
REASON = (
    f"disk /dev/vdb (serial {hosts.SERIAL}) on {hosts.NAME}.{hosts.SERVER_NAME.partition('.')[2]}: {hosts.PASSPHRASE}, "
    f"{UNKNOWN_KEY}, peer {STRANGER}:22, {OTHER_MAC}, enx{hosts.MAC.replace(':', '')}"
)
INSTALL_LOG = f"""\
TASK [storage : Format, open and mount the data volume] ****
ok: [localhost] => {{"msg": "{PROMPT}"}}
fatal: [localhost]: FAILED! => {json.dumps({"changed": False, "cmd": PROMPT, "msg": REASON})}
{PROMPT}
localhost                  : ok=12   changed=3    unreachable=0    failed=1
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with new_host(tmp_path_factory.mktemp("layers")) as made:
        made.write("/srv/engine.json", "\n".join(ENGINE))
        made.write("/srv/gateway.json", "\n".join(GATEWAY))
        made.write("/srv/service.json", "\n".join(SERVICE))
        made.program(
            "journalctl",
            'case "$*" in *engine*) cat /srv/engine.json;; *nginx*) cat /srv/gateway.json;; '
            "*airgap-gateway*) cat /srv/service.json;; esac",
        )
        made.write("/var/log/airgap/install.log", INSTALL_LOG)
        yield made


def make_keys(folder: Path, name: str) -> None:
    argv: list[str | Path] = [AIRGAP, "keys", "new", name, "--out", folder, "--passphrase-file", "-"]
    subprocess.run(argv, input=KEY_PASSPHRASE, text=True, capture_output=True, check=True)


def decrypt(file: Path, key: Path) -> subprocess.CompletedProcess[bytes]:
    """Open it as docs/how-to/ask-for-help.md says."""
    argv: list[str | Path] = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", file, "-inkey", key]
    return subprocess.run([*argv, "-passin", f"pass:{KEY_PASSPHRASE}"], capture_output=True, check=False)


@pytest.mark.root
def test_no_canary_leaves_and_the_named_key_alone_opens_it(host: Host, tmp_path: Path) -> None:
    for name in ("helper", "other"):
        make_keys(tmp_path, name)
    file = tmp_path / "support.cms"
    said = host.run(AIRGAP, "support", "-o", file, "--to", tmp_path / "helper.pub")
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob(".*")) == []
    assert decrypt(file, tmp_path / "other.key").returncode != 0

    opened = decrypt(file, tmp_path / "helper.key")
    assert opened.returncode == 0, opened.stderr
    envelope = Envelope.parse(opened.stdout, "support")
    (keyid,) = envelope.signatures
    assert keyid in said.stdout
    pem = Path(f"/proc/{host.pid}/root/var/lib/airgap/host.key").read_bytes()
    public = PrivateKey(hosts.load_key(pem)).public
    assert envelope.signers({keyid: public}, "support") == {keyid}

    text = envelope.payload.decode()
    inside = host.run("ip", "address").stdout + host.run("nft", "list", "ruleset").stdout + INSTALL_LOG + REASON
    inside += "".join(ENGINE + GATEWAY + SERVICE) + hosts.SERVER_NAME
    for kind, canary in CANARIES.items():
        assert canary.lower() in inside.lower(), f"{kind} was not planted"
        assert canary.lower() not in text.lower(), f"{kind} left the host"
        assert canary.encode() not in file.read_bytes()
    spelled = json.dumps(hosts.PASSPHRASE)[1:-1]
    assert spelled not in text and "betrayed" not in text


@pytest.mark.root
def test_what_helps_is_there_and_equal_things_stay_equal(host: Host) -> None:
    text = host.run(AIRGAP, "support", "--dry-run").stdout
    for part in (
        "Started airgap-engine-words.service",
        "srv  llama_server: model loaded",
        "id  3 | task 12 | stop processing: n_tokens = 142",
        "load_model: failed to load",
        "POST /v1/completions 200 512 0.734 TLSv1.3",
        "error connect() failed (111: Connection refused)",
        "req-0123456789abcdef01234567: KeyError at /opt/airgap/current/venv/lib/app.py:71",
        "gateway: policies: refused, the old ones stay\n",
        "audit: a request is not recorded\n",
        "TASK [storage : Format, open and mount the data volume]",
        "[secret]",
        "[token]",
        "(5 lines of other shapes left out)",
        "type filter hook output priority filter + 10; policy drop;",
        "inet 127.0.0.1/8",
    ):
        assert part in text, part
    sections = re.split(r"^==== (.*) ====$", text, flags=re.M)
    by_name = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert "not available" not in "".join(
        by_name[name] for name in ("status", "addresses", "packet filter", "packages")
    )
    (own,) = re.findall(r"inet (v4-\w{8})/24", by_name["addresses"])
    assert f"src {own}" in by_name["routes v4"]
    again = host.run(AIRGAP, "support", "--dry-run").stdout
    assert own not in again


@pytest.mark.root
def test_nothing_is_overwritten_and_a_wrong_recipient_is_refused(host: Host, tmp_path: Path) -> None:
    make_keys(tmp_path, "helper")
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for output, to, code in ((taken, "helper.pub", 22), (tmp_path / "new", "helper.key", 21)):
        done = host.run(AIRGAP, "support", "-o", output, "--to", tmp_path / to, ok=False)
        assert done.returncode == code, done.stderr
    assert taken.read_text() == "mine"
    assert not (tmp_path / "new").exists()


@pytest.mark.root
def test_nothing_is_sent_when_the_secrets_cannot_be_read(host: Host) -> None:
    file = Path(f"/proc/{host.pid}/root/etc/airgap/site.yml")
    text = file.read_text()
    file.write_text(f"host: [{hosts.API_KEY}")
    try:
        done = host.run(AIRGAP, "support", "--dry-run", ok=False)
    finally:
        file.write_text(text)
    assert (done.returncode, done.stdout) == (40, "")
    assert hosts.API_KEY not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 10.0.2.15:22 to 10.0.2.15", r"from (v4-\w{8}):22 to \1"),
        ("10.0.2.0/24, 10.0.2.2-10.0.2.9.", r"v4-\w{8}/24, v4-\w{8}-v4-\w{8}\."),
        (
            "[fe80::5054:ff:fea1:1%ens2]:443 client:fd00::1, ::1 and ::/0",
            r"\[v6-\w{8}%ens2\]:443 client:v6-\w{8}, ::1 and ::/0",
        ),
        ("::ffff:10.0.2.15", r"v6-\w{8}"),
        ("2001:db8:0:0:0:0:0:1 FD00::1 fd00::1", r"v6-\w{8} (v6-\w{8}) \1"),
        ("at 05:16:23 in 0000:01:00.0 of std::vector", r"at 05:16:23 in 0000:01:00\.0 of std::vector"),
        ("52:54:00:A1:00:01 52:54:00:a1:00:01 52-54-00-a1-00-01", r"(mac-\w{8}) \1 mac-\w{8}"),
        ("host alpha, Alpha.local, alphabet", r"host (host-\w{8}), \1\.local, alphabet"),
        ("disk S3RIAL1 nvme-S3RIAL1-part1", r"disk (serial-\w{8}) nvme-\1-part1"),
        ("uuid 9b6571a1-2fa0-5e25-8e20-24392f094c3b", r"uuid uuid-\w{8}"),
        ("x" + "se[cr.t" + "y", r"x\[secret\]y"),
        ("libfoo 1.2+dfsg-1 sha256 " + "ab" * 32, r"libfoo 1\.2\+dfsg-1 sha256 (?:ab){32}"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    redact = Redactor({"se[cr.t"}, {"serial": {"S3RIAL1"}, "host": {"alpha", ""}})
    assert re.fullmatch(expected, redact(text)), redact(text)


def test_pseudonyms_do_not_lead_back() -> None:
    first, second = (Redactor((), {})("10.0.2.15") for _ in range(2))
    assert first != second
