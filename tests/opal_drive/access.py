"""Who may do what: authorities, access control elements, and the columns that they open.

Follows Core 2.01, sections 5.3.4.3 (access control) and 5.1.3.3 (BooleanExpr), and Opal SSC, sections 4.2.1.5 and
4.3.1.6 for which ACE guards which method. The Core sections are from memory.
"""

from __future__ import annotations

from collections.abc import Collection

from . import uids
from .codec import Name, Value
from .state import Provider
from .tables import Ace, Auth

_AND, _OR, _NOT = 0, 1, 2  # boolean_ACE (Core 5.1.3.3)
_MAX_TERMS = 64


def open_columns(provider: Provider, who: Collection[bytes], uid: bytes, method: bytes) -> set[int] | None:
    """Return the columns of an object that some authorities may use a method on.

    Args:
        who: The authenticated authorities; Anybody goes without saying.

    Returns:
        Column numbers, every column of the object when an ACE names none; None: the method is refused.
    """
    row = provider.object(uid)
    granted = [ace for ace in row.acl.get(method, ()) if _fulfilled(provider, who, provider.get(ace, Ace.EXPRESSION))]
    if not granted:
        return None
    columns: set[int] = set()
    for ace in granted:
        named = provider.get(ace, Ace.COLUMNS)
        assert isinstance(named, list)
        columns |= {column for column in named if isinstance(column, int)} or set(row.columns)
    return columns


def is_expression(provider: Provider, value: Value) -> bool:
    """Tell whether a value is a BooleanExpr in postfix whose authorities exist."""
    if not isinstance(value, list) or len(value) > _MAX_TERMS:
        return False
    depth = 0
    for term in value:
        match term:
            case Name(uids.HALF_AUTHORITY, bytes() as authority) if (
                authority in provider and authority[:4] == _AUTHORITY
            ):
                depth += 1
            case Name(uids.HALF_BOOLEAN, int() as operator) if operator in (_AND, _OR) and depth >= 2:
                depth -= 1
            case Name(uids.HALF_BOOLEAN, int() as operator) if operator == _NOT and depth >= 1:
                pass
            case _:
                return False
    return depth == 1


_AUTHORITY = uids.ANYBODY[:4]


def _fulfilled(provider: Provider, who: Collection[bytes], expression: Value) -> bool:
    """Tell whether authorities fulfil a BooleanExpr; one that is not well formed is fulfilled by nobody."""
    if not is_expression(provider, expression):
        return False
    assert isinstance(expression, list)
    stack: list[bool] = []
    for term in expression:
        assert isinstance(term, Name)
        if term.key == uids.HALF_AUTHORITY:
            assert isinstance(term.value, bytes)
            stack.append(_is_one_of(provider, who, term.value))
        elif term.value == _NOT:
            stack.append(not stack.pop())
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(left and right if term.value == _AND else left or right)
    return stack == [True]


def _is_one_of(provider: Provider, who: Collection[bytes], authority: bytes) -> bool:
    """Tell whether an authority, or a member of it where it is a class, is among those authenticated."""
    if authority == uids.ANYBODY or authority in who:
        return True
    return any(member in provider and provider.get(member, Auth.CLASS) == authority for member in who)
