"""Where a run computes."""

import pytest
import torch

from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.training.distributed import place

GIB = 1 << 30


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Two GPUs of 8 GiB that are not there; the fractions asked for, with their GPU."""
    asked: list[tuple[float, int]] = []
    properties = type("Properties", (), {"total_memory": 8 * GIB})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, index: asked.append((share, index))
    )
    return asked


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place("auto", 1) == place("cpu", None) == torch.device("cpu")
    with pytest.raises(LifelongCTError, match="no CUDA device"):
        place("cuda", None)


@pytest.mark.parametrize(
    ("device", "local_rank", "index"),
    [("auto", None, 0), ("cuda", "1", 1), ("auto", "1", 1), ("cuda:0", "1", 0)],
)
def test_the_process_gets_its_gpu_and_a_ceiling(
    capped: list[tuple[float, int]],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    local_rank: str | None,
    index: int,
) -> None:
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert place(device, 2 * GIB) == torch.device("cuda", index)
    assert capped == [(0.25, index)]


def test_without_a_limit_there_is_no_ceiling_and_the_cpu_has_none(capped: list[tuple[float, int]]) -> None:
    assert place("cuda:1", None) == torch.device("cuda", 1)
    assert place("cpu", GIB) == torch.device("cpu")
    assert place("cuda", 8 * GIB) == torch.device("cuda", 0)
    assert capped == [(1.0, 0)]


def test_what_is_not_there_is_refused(capped: list[tuple[float, int]]) -> None:
    with pytest.raises(LifelongCTError, match="no GPU 2"):
        place("cuda:2", None)
    with pytest.raises(LifelongCTError, match="is no device"):
        place("gpu", None)
    with pytest.raises(LimitExceeded, match=r"the limit is 8\.0 GiB"):
        place("cuda", 8 * GIB + 1)
    assert capped == []


def test_more_ranks_than_work_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert place("cpu", None) == torch.device("cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LifelongCTError, match="2 ranks were started") as error:
        place("cpu", None)
    assert error.value.where == "WORLD_SIZE"
    assert place("cpu", None, ranks=2) == torch.device("cpu")
