"""Files are placed whole, with their mode, through no link, and a secret shows nowhere."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from appliance.files import Folder, Wanted, place
from custody.errors import OperatorMistake, SecretRefused

USER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name


def wanted(path: Path, content: str = "text\n", mode: int = 0o640, secret: Path | None = None) -> Wanted:
    return Wanted(path, content, mode, USER, GROUP, secret)


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    files, folders = [wanted(tmp_path / "a/b")], [Folder(tmp_path / "a", 0o750, USER, GROUP)]
    assert [change.what for change in place(files, folders)] == ["folder made", "written"]
    assert place(files, folders) == []
    assert (tmp_path / "a/b").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o750


def test_a_changed_mode_or_text_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "a"
    place([wanted(path)])
    path.chmod(0o666)
    assert [change.what for change in place([wanted(path)])] == ["owner or mode set"]
    path.write_text("altered")
    (change,) = place([wanted(path)])
    assert (change.what, change.before, change.after) == ("changed", "altered", "text\n")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert place([wanted(tmp_path / "a")], [Folder(tmp_path / "b", 0o755, USER, GROUP)], dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_does_not_need_the_user_yet(tmp_path: Path) -> None:
    file = Wanted(tmp_path / "a", "", owner="nobody-of-this-name")
    assert place([file], dry_run=True)
    with pytest.raises(OperatorMistake, match="does not exist"):
        place([file])


def test_place_refuses_to_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(OperatorMistake, match="regular file"):
        place([wanted(tmp_path / "link")])
    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_absent_removes_links_and_refuses_folders(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert [change.what for change in place([], absent=[tmp_path / "link", tmp_path / "none"])] == ["removed"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OperatorMistake, match="folder"):
        place([], absent=[tmp_path / "folder"])


def test_a_secret_is_put_in_and_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush-hush\n")
    secret.chmod(0o600)
    changes = place(
        [
            wanted(tmp_path / "map", 'key "@SECRET@";\n', secret=secret),
            wanted(tmp_path / "copy", "@SECRET@", secret=secret),
        ]
    )
    assert (tmp_path / "map").read_text() == 'key "hush-hush";\n'
    assert (tmp_path / "copy").read_text() == "hush-hush\n"
    assert "hush-hush" not in repr(changes)


def test_place_refuses_a_secret_that_others_can_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush-hush\n")
    secret.chmod(0o640)
    with pytest.raises(SecretRefused, match="0640") as caught:
        place([wanted(tmp_path / "copy", "@SECRET@", secret=secret)])
    assert "hush-hush" not in str(caught.value)
    assert not (tmp_path / "copy").exists()


def test_a_change_stays_due_until_somebody_has_brought_it_into_effect(tmp_path: Path) -> None:
    debt = tmp_path / "run/debt"
    assert place([wanted(tmp_path / "a")], debt=debt, dry_run=True)
    assert not debt.exists()
    assert [change.what for change in place([wanted(tmp_path / "a")], debt=debt)] == ["written"]
    # The run was killed before the handler: the next one has the same to do.
    assert [change.path for change in place([wanted(tmp_path / "a")], debt=debt, dry_run=True)] == [debt]
    assert [change.path for change in place([wanted(tmp_path / "a")], debt=debt)] == [debt]
    place([], absent=[debt])
    assert place([wanted(tmp_path / "a")], debt=debt) == []


def test_a_debt_is_noted_before_the_first_change(tmp_path: Path) -> None:
    debt = tmp_path / "debt"
    with pytest.raises(OperatorMistake):  # what stops it comes after the note
        place([Wanted(tmp_path / "a", "", owner="nobody-of-this-name")], debt=debt)
    assert debt.exists()


def test_what_a_killed_run_left_is_written_over(tmp_path: Path) -> None:
    left = tmp_path / ".a.part"
    left.write_text("half")
    left.chmod(0o666)
    place([wanted(tmp_path / "a")])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "text\n"
