"""The tree against the vectors of certificate-transparency, against RFC 6962 word for word, and against lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.ledger import tree
from custody.ledger.tree import Frontier, frontier_at
from tests.unit.trust.test_leaves import by_definition

#: cpp/merkletree/merkle_tree_test.cc of google/certificate-transparency, Apache-2.0.
INPUTS = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
_96A2 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
_5F08 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
_6B47 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
_BC1A = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
_CA85 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
_0EBC = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
#: Entry (from 0), size of the tree, path.
PATHS = (
    (0, 1, ()),
    (0, 8, (_96A2, _5F08, _6B47)),
    (5, 8, (_BC1A, _CA85, ROOTS[3])),
    (2, 3, (ROOTS[1],)),
    (1, 5, (ROOTS[0], _5F08, _BC1A)),
)
#: Old size, new size, proof.
PROOFS = (
    (1, 1, ()),
    (1, 8, (_96A2, _5F08, _6B47)),
    (6, 8, (_0EBC, _CA85, ROOTS[3])),
    (2, 5, (_5F08, _BC1A)),
)


def nodes(entries: list[bytes]) -> tree.Node:
    """Complete subtrees, by definition."""
    return lambda level, index: by_definition(entries[index << level : index + 1 << level])


def grown(entries: list[bytes]) -> Frontier:
    frontier = Frontier()
    frontier.extend(map(tree.leaf_hash, entries))
    return frontier


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert grown(INPUTS[:size]).root().hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_paths_are_the_published_ones(index: int, size: int, path: tuple[str, ...]) -> None:
    made = tree.inclusion_proof(index, size, nodes(INPUTS))
    assert [node.hex() for node in made] == list(path)
    assert tree.root_of_inclusion(index, size, tree.leaf_hash(INPUTS[index]), made) == bytes.fromhex(ROOTS[size - 1])


@pytest.mark.parametrize(("old", "new", "proof"), PROOFS)
def test_consistency_proofs_are_the_published_ones(old: int, new: int, proof: tuple[str, ...]) -> None:
    made = tree.consistency_proof(old, new, nodes(INPUTS))
    assert [node.hex() for node in made] == list(proof)
    assert tree.is_consistent(old, bytes.fromhex(ROOTS[old - 1]), new, bytes.fromhex(ROOTS[new - 1]), made)


@given(st.lists(st.binary(max_size=4), max_size=70), st.data())
def test_growing_in_any_steps_gives_the_tree_of_the_rfc(entries: list[bytes], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(entries)))
    frontier = frontier_at(cut, nodes(entries))
    ended = frontier.extend(map(tree.leaf_hash, entries[cut:]))
    assert frontier.root() == by_definition(entries)
    for level, node in ended:
        assert any(node == nodes(entries)(level, index) for index in range(len(entries) >> level))


@given(st.integers(1, 70), st.data())
def test_every_entry_is_proven_and_nothing_else(size: int, data: st.DataObject) -> None:
    entries = [b"%d" % i for i in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path = tree.inclusion_proof(index, size, nodes(entries))
    leaf, root = tree.leaf_hash(entries[index]), by_definition(entries)
    assert len(path) <= max(size - 1, 0).bit_length()
    assert tree.root_of_inclusion(index, size, leaf, path) == root
    other = data.draw(st.integers(0, 80).filter(lambda n: n != index))
    assert tree.root_of_inclusion(other, size, leaf, path) != root
    assert tree.root_of_inclusion(index, size, tree.leaf_hash(b"other"), path) != root
    assert tree.root_of_inclusion(index, size, leaf, [*path, bytes(32)]) is None
    for i in range(len(path)):
        assert tree.root_of_inclusion(index, size, leaf, [*path[:i], bytes(32), *path[i + 1 :]]) != root
        assert tree.root_of_inclusion(index, size, leaf, [*path[:i], *path[i + 1 :]]) != root


@given(st.integers(0, 70), st.integers(0, 70), st.data())
def test_a_log_that_goes_on_is_told_from_one_that_does_not(a: int, b: int, data: st.DataObject) -> None:
    old, new = sorted((a, b))
    entries = [b"%d" % i for i in range(new)]
    first, second = by_definition(entries[:old]), by_definition(entries)
    proof = tree.consistency_proof(old, new, nodes(entries))
    assert tree.is_consistent(old, first, new, second, proof)
    assert not tree.is_consistent(old, bytes(32), new, second, proof)
    assert not tree.is_consistent(old, first, new, second, [*proof, bytes(32)])
    if old:
        assert not tree.is_consistent(old, first, new, bytes(32), proof)
        changed = data.draw(st.integers(0, old - 1))
        entries[changed] = b"changed"
        lie = tree.consistency_proof(old, new, nodes(entries))
        assert not tree.is_consistent(old, first, new, by_definition(entries), lie)
    for i in range(len(proof)):
        assert not tree.is_consistent(old, first, new, second, [*proof[:i], *proof[i + 1 :]])


def test_questions_without_an_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="no entry 8"):
        tree.inclusion_proof(8, 8, nodes(INPUTS))
    with pytest.raises(ValueError, match="does not hold"):
        tree.consistency_proof(9, 8, nodes(INPUTS))
    with pytest.raises(ValueError, match="complete subtrees"):
        Frontier(3, [bytes(32)])
    assert not tree.is_consistent(9, bytes(32), 8, bytes(32), [])
    assert tree.root_of_inclusion(1, 1, bytes(32), []) is None
