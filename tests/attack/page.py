"""docs/reference/attacks.md, from the cases that the tests run; `python -m tests.attack.page` writes it."""

from __future__ import annotations

from pathlib import Path

from tests.attack import test_bundle, test_cnsa, test_trust

PAGE = Path(__file__).parents[2] / "docs/reference/attacks.md"
_INTRO = """\
# Attacks on a bundle

{count} lies about a small bundle, each told to four judges, natively and without a network (`tests/attack/`):
`airgap verify`, `airgap install` (up to preflight, the last step before Ansible), `start --check` and the auditor's
`check`. All of them refuse all of it; nothing is changed or installed, nothing is left behind, none ends in a
traceback. The numbers are [exit codes](exit-codes.md). The two scripts share a judgement; where they differ from
`airgap`, each names the part of the same lie that it looks at first. Written by `python -m tests.attack.page`.

A lie inside of a model (*payload bit*, *last byte*) passes the installer's first look: models are read once, while
they are copied, and refused there (`tests/unit/install/test_stage.py`). A medium that shows a file differently the
second time gets nothing in either: whatever is read is checked anew.

What needs the memory of a host (older versions, another channel, forks, lists that shrink, orders used twice) is in
`tests/unit/install/test_admit.py` and `tests/unit/trust/`; who judges first on a host, in
`tests/unit/media/test_start.py`.
"""


def sections() -> dict[str, list[tuple[str, int, int]]]:
    """Title → name of the case, exit code of `airgap verify`, and of the scripts."""

    def outsiders(cases: list[test_trust.Case]) -> list[tuple[str, int, int]]:
        return [(case[0], case[2], case[4]) for case in cases]

    def same(names: list[str], code: int) -> list[tuple[str, int, int]]:
        return [(name, code, code) for name in names]

    return {
        "Files": [(case[0], case[2], case[4]) for case in test_bundle.CASES]
        + same(["another_root"], 14)
        + same([f"last_byte_of_a_file_of_{gib}_GiB" for gib in (3, 5)], 11),
        "Profile cnsa": [(case[0], case[2], case[2]) for case in test_cnsa.CASES]
        + [("fingerprint_of_the_other_digest", 14, 14), ("bundle_with_the_other_digest", 14, 13)],
        "Signatures over the Statement": outsiders(test_trust.SIGNATURES) + same(["two_keys_of_one_person"], 12),
        "Roots": outsiders(test_trust.ROOTS),
        "Roots that are void, though signed": same([case[0] for case in test_trust.VOID], 14),
        "Revocations": outsiders(test_trust.REVOCATIONS),
        "Two releases mixed": outsiders(test_trust.MIXED),
        "Statements that read in two ways, though signed": same(
            [name for name, _ in test_trust.STATEMENTS] + ["a_hundred_megabytes"], 13
        ),
        "Lists with another grammar, though signed": same([name for name, _ in test_trust.LISTS], 13),
        "Names that no bundle has, though signed": same([name for name, _ in test_trust.NAMES], 13),
    }


def render() -> str:
    """The whole page."""
    found = sections()
    text = _INTRO.format(count=sum(map(len, found.values())))
    for title, cases in found.items():
        text += f"\n## {title}: {len(cases)}\n\n| case | `airgap` | scripts |\n|---|---|---|\n"
        text += "".join(f"| {name.replace('_', ' ')} | {code} | {shell} |\n" for name, code, shell in cases)
    return text


if __name__ == "__main__":
    PAGE.write_text(render())
