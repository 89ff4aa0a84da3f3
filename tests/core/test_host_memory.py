"""What the process holds."""

import numpy as np
import pytest

from lifelong_ct.core.host_memory import anonymous_rss, give_back, steady_heap


@pytest.mark.skipif(anonymous_rss() == 0, reason="this system does not tell anonymous memory")
def test_what_is_allocated_is_seen_and_what_is_freed_is_given_back():
    steady_heap()
    give_back()
    before = anonymous_rss()
    blocks = [np.ones(1 << 17) for _ in range(128)]  # 1 MiB each: from the heap
    held = anonymous_rss() - before
    assert held > 120 << 20
    del blocks[::2], blocks
    give_back()
    assert anonymous_rss() - before < held // 4
