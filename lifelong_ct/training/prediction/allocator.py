"""What PyTorch's allocator for the CPU gave."""

from __future__ import annotations

from collections.abc import Callable

import torch


def allocated(work: Callable[[], object]) -> int:
    """Most bytes that it gave at once during `work`, above those before it, by `torch.profiler`. What operations take inside
    is in it, which a look at their results does not see; the memory of libraries (oneDNN) is not."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
