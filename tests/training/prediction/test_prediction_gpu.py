"""On CUDA: predicted peaks beside what was allocated and reserved."""

import gc
from dataclasses import replace

import pytest
import torch

from benchmarks.planner import options, steps
from lifelong_ct.training.prediction.rehearsal import rehearse
from lifelong_ct.training.prediction.reserve import STATED
from lifelong_ct.training.rounds import rounds

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
CELLS = [
    *(("unet", strategy, 96) for strategy in ("naive", "replay", "ewc", "lwf", "der")),
    ("segresnet", "naive", 96),
    ("dynunet", "lwf", 96),
    ("swinunetr", "naive", 64),
]


def on_cuda(network, strategy, edge, folder):
    opts = options(network, strategy, edge, folder)
    return replace(opts, trainer=replace(opts.trainer, device="cuda"))


@pytest.mark.parametrize(("network", "strategy", "edge"), CELLS)
def test_the_prediction_holds(network, strategy, edge, tmp_path):
    opts = on_cuda(network, strategy, edge, tmp_path)
    predicted = rehearse(opts, rounds(opts), on_cuda=True).peak
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    steps(opts, "cuda")
    allocated = torch.cuda.max_memory_allocated() - before
    free, whole = torch.cuda.mem_get_info()
    context = whole - free - torch.cuda.memory_reserved()
    held = torch.cuda.max_memory_reserved() - before + min(context, STATED.context)  # others may be there too
    print(f"{network} {strategy} {edge}: {predicted=} {allocated=} {held=} {context=}")
    assert 0.95 <= predicted / allocated <= 1.10
    assert held <= predicted + STATED.beside(predicted)
