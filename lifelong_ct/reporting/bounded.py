"""Calls that may hang, with an end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """What the call returns or raises; `SystemExit`, which libraries use for their own end, as a RuntimeError.

    A call that takes longer goes on in a daemon thread, which the end of the process does not wait for.

    Raises:
        TimeoutError: it has not returned in time.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:
            outcome.set_exception(error)
        except BaseException as error:
            outcome.set_exception(RuntimeError(repr(error)))

    Thread(target=work, daemon=True, name="bounded").start()
    try:
        return outcome.result(seconds)
    except NotYet:
        if outcome.done():  # the call's own
            raise
        raise TimeoutError(f"no answer within {seconds:g} s") from None
