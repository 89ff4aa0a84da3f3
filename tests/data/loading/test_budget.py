"""Bytes by hand, asked before and given back after."""

import pytest

from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.loading.budget import (
    CACHES,
    DECODING,
    QUEUE,
    admitted,
    batch_bytes,
    checked_kind,
    needs,
)


def test_needs_by_hand():
    patch = (10, 20, 30)
    assert batch_bytes(patch, 2) == 2 * 6000 * 3
    assert batch_bytes(patch, 2, channels=4, code_bytes=2) == 2 * 6000 * 10
    assert needs(patch, 2, read_ahead=3, workers=2) == {
        QUEUE: 36_000 * (3 + 2 + 1),
        DECODING: 2 * ((4 << 20) + 49_152 * 6),
    }
    assert needs(patch, 2, read_ahead=3, workers=2, kind="process", cache=99, channels=4, code_bytes=2) == {
        QUEUE: 120_000 * (3 + 2 + 2),
        DECODING: 2 * ((4 << 20) + 49_152 * 12),
        CACHES: 99,
    }


def test_what_an_owner_had_before_it_has_again():
    ledger = Ledger({"ram": 100})
    ledger.admit("ram", QUEUE, 30)
    with admitted(ledger, {QUEUE: 20, DECODING: 40}):
        assert ledger.holders("ram") == {QUEUE: 30, DECODING: 40}
    assert ledger.holders("ram") == {QUEUE: 30}
    with pytest.raises(ValueError), admitted(ledger, {QUEUE: 50}):  # noqa: PT012
        assert ledger.held("ram") == 50
        raise ValueError
    assert ledger.holders("ram") == {QUEUE: 30}
    assert ledger.peak("ram") == 70


def test_a_need_beyond_the_limit_is_refused_and_nothing_stays_reserved():
    ledger = Ledger({"ram": 100})
    with pytest.raises(LimitExceeded, match=DECODING), admitted(ledger, {QUEUE: 60, DECODING: 41}):
        raise AssertionError("it was admitted")
    assert ledger.held("ram") == 0
    with admitted(None, {QUEUE: 1 << 60}):
        pass


def test_an_unknown_kind_of_worker_is_refused():
    assert checked_kind("process") == "process"
    with pytest.raises(LifelongCTError) as error:
        checked_kind("fibre")
    assert error.value.where == "data.worker_kind"
