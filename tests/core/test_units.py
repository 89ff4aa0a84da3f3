import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("512MiB", 512 * 1024**2), ("4GB", 4 * 1000**3), (123, 123), ("1.5 KiB", 1536), ("0", 0), ("2kb", 2000)],
)
def test_sizes_as_people_write_them(text: str | int, nbytes: int) -> None:
    assert parse_bytes(text) == nbytes


@pytest.mark.parametrize("text", ["12 parsecs", "-1", "", "GB", True, "nan", "1e400"])
def test_what_is_not_a_size_is_refused_with_key_and_value(text: str) -> None:
    with pytest.raises(LifelongCTError) as error:
        parse_bytes(text, "memory.ram")
    assert repr(text) in error.value.what
    assert error.value.where == "memory.ram"


def test_format() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1536, 3 * 1024**3)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
