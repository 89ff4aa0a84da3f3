"""What a run ran on."""

from types import SimpleNamespace

import pytest
import torch

from lifelong_ct.reporting.environment import environment


def test_without_a_gpu_there_is_no_word_of_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    found = environment()
    assert found["GPU"] == "none"
    assert found["autocast"] == "none"
    assert not {"CUDA", "cuDNN", "TF32"} & found.keys()


def test_what_decides_the_arithmetic_of_a_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    card = SimpleNamespace(name="Some GPU", total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    found = environment("bf16")
    assert found["cuDNN"] == "91002"
    assert found["CUDA"] == "13.0"
    assert found["TF32"].startswith("matrices o")
    assert found["autocast"] == "bf16"
    assert found["GPU"].startswith("Some GPU")
