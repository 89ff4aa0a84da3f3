import pickle

import pytest

from lifelong_ct.core.errors import CheckpointError, DataError, LifelongCTError, LimitExceeded


def test_an_error_tells_what_where_and_the_fix() -> None:
    error = LifelongCTError("unknown organ 'livr'", "manifest.json, case 3", "did you mean liver?")
    assert str(error) == (
        "unknown organ 'livr'\n  where: manifest.json, case 3\n  fix:   did you mean liver?"
    )
    assert (error.what, error.where, error.fix) == error.args
    assert error.exit_code == 2


@pytest.mark.parametrize("kind", [DataError, LimitExceeded, CheckpointError])
def test_every_error_is_one_for_the_command_line(kind: type[LifelongCTError]) -> None:
    assert kind("a", "b", "c").exit_code == 2


def test_an_error_of_data_has_a_code_that_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(DataError("a", "b", "c", code="shape_mismatch")))
    assert (str(error), error.code) == (str(LifelongCTError("a", "b", "c")), "shape_mismatch")
    assert DataError("a", "b", "c").code == "bad_data"
