"""What `make mutation` left alive in `custody/trust`, told apart: words of errors, the listed, and the rest.

A mutant of *words* differs from the code in the message or hint of a `raise` alone, or in the name that a document is
called by in errors. The exception's class, and so the exit code, is the same: nothing is accepted that would have been
refused. Tests ask for the words that a person acts on, and not for each of them. What else stays alive is listed with a
reason in docs/design/mutation.md, by function and change; anything beyond that fails this program.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTED = ROOT / "docs/design/mutation.md"
#: Exit codes in mutmut's notes: survived (0), no test ran (5, 33), not run yet (null).
_ALIVE = {0, 5, 33}
#: Variables and arguments that only name a document in errors, or say where in it.
_LABELS = {"name", "what", "where", "first", "halves"}
#: Functions that take such a name, a literal one as their last argument.
_NAMED = {"_check_sense", "_envelope", "_own_key", "_revocations", "parse", "require", "require_growth", "signers"}
#: Functions in which these variables are places that are opened.
_PLACES = {"x__check_listing", "x__leaves"}


class _WithoutWords(ast.NodeTransformer):
    """Takes out what only makes an error's words; labels stay in functions that open what they name."""

    def __init__(self, labels: bool) -> None:
        self._labels = _LABELS if labels else set[str]()

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id in self._labels:
            node.value = ast.Constant("words")
            return node
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for at, argument in enumerate(node.args if called in _NAMED else ()):
            last = at == len(node.args) - 1
            if (isinstance(argument, ast.Name) and argument.id in self._labels) or (
                last and isinstance(argument, (ast.JoinedStr, ast.Constant))
            ):
                node.args[at] = ast.Constant(None)
        return node


def plain(function: ast.FunctionDef) -> str:
    """The function without words."""
    return ast.unparse(_WithoutWords(function.name not in _PLACES).visit(ast.parse(ast.unparse(function))))


def alive(mutants: Path) -> Iterator[tuple[str, list[str], bool]]:
    """Function, changed lines, whether they are words, of every mutant that no test killed."""
    for notes in sorted(mutants.glob("custody/trust/*.py.meta")):
        codes = json.loads(notes.read_text())["exit_code_by_key"]
        tree = ast.parse(notes.with_suffix("").read_text())
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for key, code in codes.items():
            if code not in _ALIVE:
                continue
            name = key.rpartition(".")[2]
            stem = name.rpartition("__mutmut_")[0]
            found = functions[name], functions[f"{stem}__mutmut_orig"]
            for function in found:
                function.name = stem
            new, old = (ast.unparse(function).splitlines() for function in found)
            lines = [line for line in difflib.unified_diff(old, new, n=0, lineterm="") if line[:1] in "+-"][2:]
            where = re.sub(r"^x_|^xǁ", "", stem).replace("ǁ", ".")
            yield f"{notes.stem.removesuffix('.py')}.{where}", lines, plain(found[0]) == plain(found[1])


def main(mutants: Path) -> int:
    """Print what is neither words nor listed; 1 if there is any."""
    listed = LISTED.read_text() if LISTED.exists() else ""
    counts: Counter[str] = Counter()
    for where, lines, words in alive(mutants):
        told = lines[-1][1:].strip()
        kind = "words" if words else "listed" if f"`{where}`" in listed and told in listed else "new"
        counts[kind] += 1
        if kind == "new":
            print(where, *lines, sep="\n    ")
    codes = [
        code
        for notes in mutants.glob("custody/trust/*.py.meta")
        for code in json.loads(notes.read_text())["exit_code_by_key"].values()
    ]
    print(f"{len(codes)} mutants, {codes.count(None)} not run yet; alive: {dict(sorted(counts.items()))}")
    return 1 if counts["new"] else 0


if __name__ == "__main__":
    sys.exit(main(ROOT / "mutants"))
