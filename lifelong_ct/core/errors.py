"""Errors that tell the next step."""

from __future__ import annotations


class LifelongCTError(Exception):
    """What a user can mend, told in three parts.

    Args:
        what: what is wrong, with the offending value.
        where: the case, file, key or limit it is about.
        fix: what to do next.

    Attributes:
        case_id: of the case that it is about, where whoever lists the cases knows it; else empty.
    """

    exit_code = 2
    case_id = ""

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  fix:   {self.fix}"


class DataError(LifelongCTError):
    """A file or label of a case cannot be used. `code` is a short stable name for scripts."""

    def __init__(self, what: str, where: str, fix: str, code: str = "bad_data") -> None:
        super().__init__(what, where, fix)
        self.code = code


class Refused(LifelongCTError):
    """A method does not allow a scenario, by what it declares. Known before anything is read; in a sweep it is an
    answer, not a failure."""


class LimitExceeded(LifelongCTError):
    """A byte limit would be broken. The message lists who holds what."""


class CheckpointError(LifelongCTError):
    """A checkpoint is missing, damaged or belongs to another configuration."""
