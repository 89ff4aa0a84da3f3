"""Peaks per kind of work, with a device whose memory is told by hand."""

import pytest
import torch

from lifelong_ct.training.device_peaks import DevicePeaks


class Device:
    """An allocator's statistics: what is held, and the most of it since the last reset."""

    def __init__(self) -> None:
        self.held = self.most = 0

    def hold(self, nbytes: int) -> None:
        self.held = nbytes
        self.most = max(self.most, nbytes)

    def allocated(self) -> int:
        return self.most

    def reserved(self) -> int:
        return 2 * self.most

    def reset(self) -> None:
        self.most = self.held


def test_work_within_work_has_a_peak_of_its_own() -> None:
    device = Device()
    peaks = DevicePeaks(device)
    device.hold(900)  # before any work: nobody's
    device.hold(10)
    with peaks.during("training"):
        device.hold(50)
        device.hold(20)
        with peaks.during("evaluation"):
            device.hold(70)
            device.hold(20)
        device.hold(60)
    assert peaks.found == {
        "training": {"allocated": 60, "reserved": 120},
        "evaluation": {"allocated": 70, "reserved": 140},
    }
    assert peaks.most == {"allocated": 70, "reserved": 140}


def test_each_experience_begins_anew_and_the_run_keeps_its_most() -> None:
    device = Device()
    peaks = DevicePeaks(device)
    for nbytes in (80, 30):
        peaks.restart()
        device.hold(0)
        with peaks.during("training"):
            device.hold(nbytes)
        assert peaks.found == {"training": {"allocated": nbytes, "reserved": 2 * nbytes}}
    assert peaks.most["allocated"] == 80


def test_work_that_breaks_off_is_counted_too() -> None:
    device = Device()
    peaks = DevicePeaks(device)

    def work() -> None:
        with peaks.during("training"):
            device.hold(5)
            raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        work()
    assert peaks.found["training"]["allocated"] == 5


def test_a_cpu_tells_nothing() -> None:
    peaks = DevicePeaks.of(torch.device("cpu"))
    with peaks.during("training"):
        torch.zeros(1000)
    assert peaks.found == {}
    assert peaks.most == {}
