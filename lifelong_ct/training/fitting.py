"""An optimizer step that fits into the device's memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.training.out_of_memory import is_out_of_memory
from lifelong_ct.training.undoing import mark


class Fitting:
    """What a learner does when it runs out of memory before the weights have moved.

    Attributes:
        at_once: samples that go through the network at a time, at most; None for whole micro-batches. Out of memory it is
            halved and the step made again, see `out_of_memory`.
        on_note: told then.
    """

    at_once: int | None
    on_note: Callable[[str], None]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    ranks: Ranks
    clock: Any
    accumulate: int
    mb_output: Any
    loss: Any
    _own: list[Any]
    _samples: int
    _make_empty_loss: Callable[[], Tensor]

    def _fitting(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, made again with fewer samples at once as long as the device runs out of memory."""
        while True:
            undo = mark(self.model, self._own)
            try:
                return work()
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.ranks.size > 1:
                    raise  # the other ranks do not make this step again, and wait for what it sends
                self._halve(error)
            undo()
            self.mb_output, self.loss = None, self._make_empty_loss()
            self.optimizer.zero_grad()
            gc.collect()  # frames of the error hold activations
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _halve(self, error: RuntimeError) -> None:
        """Half as many samples at once, from now on.

        Raises:
            LifelongCTError: it is one already, or a plugin needs them all at once.
        """
        step = f"step {self.clock.train_exp_iterations} of experience {self.clock.train_exp_counter + 1}"
        samples = self._samples
        before = samples if self.at_once is None else min(samples, self.at_once)
        whole = [type(p).__name__ for p in self._own if getattr(p, "needs_whole_batch", False)]
        if before <= 1 or whole:
            raise LifelongCTError(
                f"out of GPU memory at {step} with {before} samples at once: {str(error).splitlines()[0]}",
                "memory.gpu",
                "use a smaller stream.patch or model, trainer.amp=bf16, or a larger memory.gpu; lifelong-ct plan says what fits"
                if before <= 1
                else f"{' and '.join(whole)} cannot split a micro-batch: use trainer.batch_size=1 and a larger "
                "trainer.accumulate",
            ) from error
        self.at_once = before // 2
        parts = -(-samples // self.at_once) * self.accumulate
        self.on_note(
            f"out of GPU memory at {step}: micro-batches of {self.at_once} instead of {before}, accumulated over {parts}; "
            f"the effective batch stays {samples * self.accumulate}"
        )
