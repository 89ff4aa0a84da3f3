import sys
import threading

import pytest

from lifelong_ct.reporting.bounded import within


def test_it_returns_and_raises_what_the_call_does() -> None:
    assert within(10, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 / 0)


def test_a_call_that_hangs_is_left_behind() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
        within(0.05, never.wait)
    never.set()


def test_a_time_out_of_the_call_keeps_its_words() -> None:
    def late() -> None:
        raise TimeoutError("server")

    with pytest.raises(TimeoutError, match="server"):
        within(10, late)


def test_a_library_cannot_end_the_process() -> None:
    with pytest.raises(RuntimeError, match=r"SystemExit\(3\)"):
        within(10, lambda: sys.exit(3))
