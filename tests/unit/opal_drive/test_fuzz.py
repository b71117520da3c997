"""Calls that are well formed and make no sense: the drive answers each with a status, and stays whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.opal_drive import uids
from tests.opal_drive.codec import CodecError, Name, Value, decode
from tests.opal_drive.packets import MethodCall, Packet, Status, read_result
from tests.opal_drive.state import State

from .conftest import ADMIN1, Bench, own

_VALUES: st.SearchStrategy[Value] = st.recursive(
    st.integers(-9, 12) | st.sampled_from([2**31, 2**63, b"", b"x" * 33, uids.SID, uids.ADMINS, uids.locking_range(1)]),
    lambda inner: st.lists(inner, max_size=3) | st.builds(Name, st.integers(0, 10), inner),
    max_leaves=6,
)
_PARAMETERS = st.lists(_VALUES, max_size=3)
_CELL_BLOCKS = st.lists(st.builds(Name, st.integers(0, 5), st.integers(-2, 2**33)), max_size=3).map(
    lambda block: [block]
)
_SETS = st.lists(st.builds(Name, st.integers(0, 11), _VALUES), max_size=3).map(lambda cells: [Name(1, cells)])
_METHODS = sorted(set(uids.METHOD_NAMES) - {uids.REVERT, uids.REVERT_SP, uids.PROPERTIES, uids.START_SESSION})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One owned drive for all examples: what they do to it is part of the next."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    bench = Bench(folder / "drive.img")
    own(bench)
    yield bench
    bench.drive.close()


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_call_has_a_status(shared: Bench, data: st.DataObject) -> None:
    in_locking_sp = data.draw(st.booleans())
    provider = shared.drive.state.locking if in_locking_sp else shared.drive.state.admin
    uid = data.draw(st.sampled_from([*sorted(provider.factory), uids.ACCESS_CONTROL_TABLE, uids.uid(0x802, 0)]))
    if uid in (uids.C_PIN_SID, uids.c_pin(ADMIN1)):
        return  # the next example wants to authenticate
    method = data.draw(st.sampled_from(_METHODS))
    parameters = data.draw(_PARAMETERS | _CELL_BLOCKS | _SETS)
    if in_locking_sp:
        session = shared.host.start(uids.LOCKING_SP, ADMIN1, b"admin")
    else:
        session = shared.host.start(uids.ADMIN_SP, uids.SID, b"sid")
    result, status = read_result(session.exchange(MethodCall(uid, method, parameters).pack()))
    assert Status(status) is Status.SUCCESS or result == []
    session.close()
    kept = State(shared.store, shared.model)
    assert (kept.admin.changes, kept.locking.changes) == _running_changes(shared)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(_PARAMETERS, st.sampled_from([uids.START_SESSION, uids.PROPERTIES, uids.CLOSE_SESSION]))
def test_the_session_manager_answers_everything(shared: Bench, parameters: list[Value], method: bytes) -> None:
    call = MethodCall(uids.SESSION_MANAGER, method, parameters).pack()
    answer = shared.host.exchange(Packet(0x1000, 0, 0, call))
    assert decode(answer)
    shared.host.stack_reset()


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=1, max_size=60))
def test_noise_in_a_session_is_answered_and_the_session_goes_on(shared: Bench, noise: bytes) -> None:
    session = shared.host.start(uids.LOCKING_SP)
    answer = session.exchange(noise)
    try:
        assert Status(read_result(answer)[1]) is not Status.SUCCESS
    except CodecError:
        assert answer == b"\xfa"  # the noise was the end of the session
        return
    session.close()


def _running_changes(bench: Bench) -> tuple[object, object]:
    """What the running drive holds."""
    return bench.drive.state.admin.changes, bench.drive.state.locking.changes
