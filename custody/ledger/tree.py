"""RFC 6962 Merkle tree: growing, proving, checking. No I/O.

Section 2.1 gives the hashes, 2.1.1 inclusion proofs, 2.1.2 consistency proofs; checking follows RFC 9162, sections
2.1.3.2 and 2.1.4.2, which state it as an algorithm. SHA-256 throughout, as C2SP `tlog-checkpoint` has it. The tree
over a file's leaves is another one: `custody.trust.leaves`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

#: Bytes of a hash.
HASH_BYTES = 32
#: log2 of the width of a C2SP tile.
TILE_LEVELS = 8
#: Root of the tree without entries.
EMPTY_ROOT = hashlib.sha256(b"").digest()
#: Hash of the complete subtree of 2**level entries that is the index-th of its level.
Node = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Hash of an entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two nodes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: all that growing needs.

    Attributes:
        size: entries in the tree.
    """

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        """Args: edge: the complete subtrees that the size's binary digits name, largest first."""
        if len(edge) != size.bit_count():
            raise ValueError(f"a tree of {size} has {size.bit_count()} complete subtrees, found {len(edge)}")
        self.size = size
        self._edge = list(edge)

    def copy(self) -> Frontier:
        """The same, to grow apart."""
        return Frontier(self.size, self._edge)

    def extend(self, leaves: Iterable[bytes], every: int = 1) -> list[tuple[int, bytes]]:
        """Add leaves' hashes.

        Args:
            every: which levels to tell of: this one, twice this one...

        Returns:
            The complete subtrees of those levels that the leaves end, as level divided by `every`, and hash; in order.
        """
        ended: list[tuple[int, bytes]] = []
        edge, size = self._edge, self.size
        for leaf in leaves:
            rest, level, node = size, 0, leaf
            while rest & 1:
                node = hashlib.sha256(b"\x01" + edge.pop() + node).digest()  # node_hash: calls are half the time here
                rest >>= 1
                level += 1
                if level % every == 0:
                    ended.append((level // every, node))
            edge.append(node)
            size += 1
        self.size = size
        return ended

    def root(self) -> bytes:
        """Tree head (RFC 6962, section 2.1)."""
        if not self._edge:
            return EMPTY_ROOT
        found = self._edge[-1]
        for node in reversed(self._edge[:-1]):
            found = node_hash(node, found)
        return found


def frontier_at(size: int, node: Node) -> Frontier:
    """The right edge of the tree's first `size` entries."""
    edge, start = [], 0
    for level in reversed(range(size.bit_length())):
        if size >> level & 1:
            edge.append(node(level, start >> level))
            start += 1 << level
    return Frontier(size, edge)


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Audit path of an entry in the tree of `size` entries, from the leaf's sibling up; O(log size) hashes."""
    if not 0 <= index < size:
        raise ValueError(f"no entry {index} in a tree of {size}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_head(middle, end, node))
            end = middle
        else:
            path.append(_head(start, middle, node))
            start = middle
    return path[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """Proof that the tree of `old` entries is the beginning of that of `new`; O(log new) hashes."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} does not hold one of {old}")
    if old in (0, new):
        return []
    proof, start, end, is_whole = [], 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_head(middle, end, node))
            end = middle
        else:
            proof.append(_head(start, middle, node))
            start, is_whole = middle, False
    return ([] if is_whole else [_head(start, end, node)]) + proof[::-1]


def root_of_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to; None when it has not the length that index and size ask for."""
    if not 0 <= index < size:
        return None
    at, last, root = index, size - 1, leaf
    for node in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            root = node_hash(node, root)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            root = node_hash(root, node)
        at, last = at >> 1, last >> 1
    return root if last == 0 else None


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the old tree is the beginning of the new one."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        return not proof and old_root == (EMPTY_ROOT if old == 0 else new_root)
    nodes = list(proof) if old & (old - 1) else [old_root, *proof]
    if not nodes:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, node)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def reduce(nodes: Sequence[bytes]) -> bytes:
    """Hash of a complete subtree over 2**n nodes of one level."""
    while len(nodes) > 1:
        nodes = [node_hash(a, b) for a, b in zip(nodes[::2], nodes[1::2], strict=True)]
    return nodes[0]


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _head(start: int, end: int, node: Node) -> bytes:
    """Tree head over entries start to end, of which start begins a complete subtree."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(count)
    return node_hash(_head(start, middle, node), _head(middle, end, node))
