"""docs/reference/attacks.md, from the cases that the tests run; `python -m tests.attack.page` writes it."""

from __future__ import annotations

from pathlib import Path

from tests.attack import test_bundle, test_cnsa, test_medium, test_trust

PAGE = Path(__file__).parents[2] / "docs/reference/attacks.md"
_INTRO = """\
# Attacks on a bundle

{bundle} lies about a small bundle, each told to four judges, natively and without a network (`tests/attack/`):
`airgap verify`, `airgap install` (up to preflight, the last step before Ansible), `start --check` and the auditor's
`check`. All of them refuse all of it; nothing is changed or installed, nothing is left behind, none ends in a
traceback. The numbers are [exit codes](exit-codes.md). The two scripts share a judgement; where they differ from
`airgap`, each names the part of the same lie that it looks at first. Written by `python -m tests.attack.page`.

A lie inside of a model (*payload bit*, *last byte*) passes the installer's first look: models are read once, while
they are copied, and refused there (`tests/unit/install/test_stage.py`). A medium that shows a file differently the
second time gets nothing in either: whatever is read is checked anew. {medium} lies about the medium around the bundle
follow at the end.

What needs the memory of a host (older versions, another channel, forks, lists that shrink, orders used twice) is in
`tests/unit/install/test_admit.py` and `tests/unit/trust/`; who judges first on a host, in
`tests/unit/media/test_start.py`.
"""


_MEDIUM = """
## Headers of the encrypted partition: {count}

LUKS says nothing about who made it, so `start` compares a copy of the header with the form that `airgap burn` writes,
before it asks for a passphrase, and opens with that copy. Natively, over files; nothing else opens a partition that it
did not format itself in the same run. Where the code is 1, cryptsetup gave up by itself.

| case | `start` |
|---|---|
{cases}
## A `start` that lies: {starts}

It can print what it likes, the paper's digest too. Each of these is told by its digest: to a person, by `sha256sum` of
the copy; to `airgap burn`, reading back; to `airgap install --inventory`, by `--start-digest` (both 11). The paper is
written where the bundle was verified, never from the medium. Such a `start` does nothing to the bundle, and `airgap
verify` and the auditor's `check` neither run nor judge it: they accept a good bundle that lies beside one, and refuse a
harmed one that it calls accepted.

{lies}"""


def medium() -> dict[str, int]:
    """Name of a header's case → exit code of `start`."""
    return {name: code for name, _, code in test_medium.HEADERS}


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
    headers, starts = medium(), [name for name, _ in test_medium.STARTS]
    text = _INTRO.format(bundle=sum(map(len, found.values())), medium=len(headers) + len(starts))
    for title, cases in found.items():
        text += f"\n## {title}: {len(cases)}\n\n| case | `airgap` | scripts |\n|---|---|---|\n"
        text += "".join(f"| {name.replace('_', ' ')} | {code} | {shell} |\n" for name, code, shell in cases)
    return text + _MEDIUM.format(
        count=len(headers),
        cases="".join(f"| {name.replace('_', ' ')} | {code} |\n" for name, code in headers.items()),
        starts=len(starts),
        lies="".join(f"- {name.replace('_', ' ')}\n" for name in starts),
    )


if __name__ == "__main__":
    PAGE.write_text(render())
