import pytest

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.ledger import Ledger


def test_a_refused_reservation_names_holders_and_changes_nothing() -> None:
    ledger = Ledger({"ram": "1KiB"})
    ledger.admit("ram", "cache", 1000)
    with pytest.raises(LimitExceeded) as error:
        ledger.admit("ram", "queue", 25)
    assert "cache 1000 B" in error.value.where
    assert "1025" in error.value.fix
    assert ledger.holders("ram") == {"cache": 1000}
    ledger.admit("ram", "queue", 24)


def test_a_new_reservation_replaces_the_owner_s_old_one() -> None:
    ledger = Ledger({"disk": 100})
    ledger.admit("disk", "store", 90)
    ledger.admit("disk", "store", 100)
    ledger.release("disk", "store")
    assert (ledger.held("disk"), ledger.peak("disk"), ledger.free("disk")) == (0, 100, 100)


def test_reserve_gives_back_also_after_an_error() -> None:
    ledger = Ledger()
    with pytest.raises(ZeroDivisionError), ledger.reserve("gpu", "teacher", 5):
        _ = 1 / 0
    assert (ledger.held("gpu"), ledger.peak("gpu")) == (0, 5)


def test_peaks_of_use_sum_over_owners() -> None:
    ledger = Ledger()
    ledger.use("ram", "a", 3)
    ledger.use("ram", "b", 4)
    ledger.use("ram", "a", 1)
    assert ledger.report()["ram"] == {"limit": None, "peak": 0, "used": 7}
