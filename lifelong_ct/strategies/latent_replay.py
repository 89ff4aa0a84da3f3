"""Latent replay: features of a middle layer are replayed, no voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import xxhash
from torch import Tensor

from lifelong_ct.avalanche_bridge.plugin import StrategyContext, StrategyPlugin
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.protocols import Batch
from lifelong_ct.core.seeding import generator
from lifelong_ct.core.units import format_bytes
from lifelong_ct.memory.exemplars import Origin
from lifelong_ct.memory.parts import pack, stacked
from lifelong_ct.memory.selection import Description, SelectionPolicy
from lifelong_ct.memory.selection.arguments import between, whole
from lifelong_ct.strategies.arguments import check_needs, check_numbers
from lifelong_ct.strategies.cuts import Cut, find_cut, spliced
from lifelong_ct.strategies.describing import Describer
from lifelong_ct.strategies.freezing import freeze

_MANTISSA = 10
"""Bits of float16."""


class LatentReplay(StrategyPlugin):
    """Replays features of earlier hospitals, which enter the network where they left it.

    Pellegrini et al., "Latent Replay for Real-Time Continual Learning", IROS 2020 (arXiv 1912.01100), section III:
    after an experience activations of some of its patches are kept; later they are laid behind those of the new batch
    at the same layer, and the layers below it, which would make them out of date, are frozen from the second experience
    on (their learning rate 0; running statistics too, which the paper lets adapt). The loss is that of the new batch
    plus λ times that of the replayed one; the paper's union of both is λ = replayed / new patches, but for the scale.

    The layer is a cut (`find_cut`): all feature maps that the rest of the network needs. In a U-Net those are the bottom
    and what each skip connection carries, so the decoder and the head go on learning, and the encoder is frozen. With the
    networks of `conf/model` they are so many numbers per voxel of a patch: UNet 3, SegResNet 21, SwinUNETR 28, DynUNet
    43. Most are of the skip connection of the finest grid: exemplars take the bytes of many patches of voxels, and of such
    maps one can guess at the image, which a hospital that shares features must know. A cut before the last stage of the
    decoder takes hardly less, 4, 32, 27 and 40, and leaves less to learn.

    Features are kept as float16 with `mantissa` bits, compressed, and the labels at their own (finest) grid: of each
    block of voxels the code of one, whose place is drawn by the features. The loss is of the logits of just these voxels.
    A hospital that shares features leaves no more than that, and one that forbids even these leaves nothing. Bytes:
    `memory.exemplars`, whatever the number of hospitals; at the defaults 226 kB for a phantom's patch of 48³ voxels, five
    times those of `Replay`.

    Args:
        selection: policy of the memory, one that asks for `organs` and `offered` at most.
        latent_lambda: λ.
        exemplars_per_batch: patches of the memory per micro-batch.
        patches: patches of each experience that are offered at its end.
        mantissa: bits, 0 to 10; of each number a 2^-(mantissa + 1)th is lost at most, and 10 keep all of float16.
        cut: name of the module before which the network is cut; null for the bottom of a U-Net, or the head of a network of
            one level.
    """

    adds_samples = True
    needs_whole_batch = True

    def __init__(
        self,
        selection: SelectionPolicy,
        latent_lambda: float = 1.0,
        exemplars_per_batch: int = 1,
        patches: int = 32,
        mantissa: int = 4,
        cut: str | None = None,
    ) -> None:
        super().__init__()
        check_numbers(latent_lambda=latent_lambda)
        check_needs(
            selection,
            {"offered", "organs"},
            "which nobody tells of features",
            "use reservoir, hospital_balanced or organ_balanced",
        )
        self.selection, self.latent_lambda = selection, latent_lambda
        self.exemplars_per_batch = whole(exemplars_per_batch, "strategy.plugins.exemplars_per_batch", 1)
        self.patches = whole(patches, "strategy.plugins.patches", 1)
        between(mantissa, "strategy.plugins.mantissa", 0, _MANTISSA)
        self.mantissa = whole(mantissa, "strategy.plugins.mantissa", 0)
        self.cut_at = cut
        self.cut: Cut | None = None

    def bind(self, context: StrategyContext) -> None:
        super().bind(context)
        self.memory = context.exemplars(self.selection)
        self.describer = Describer(self.selection, context.label_space)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Looks for the cut, and freezes what is below it from the second experience on."""
        model = strategy.model
        if self.cut is None:
            self.cut = find_cut(model, (self.context.channels, *self.context.patch), self.cut_at)
            self.stride = strides(self.context.patch, self.cut.grid)
            self._check_room(model)
        if strategy.clock.train_exp_counter > 0:
            freeze(model, self.cut.below)

    def before_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Lays features of earlier hospitals behind those of the micro-batch."""
        assert self.cut is not None
        if strategy.clock.train_exp_counter > 0:
            for name in self.cut.norms:  # `model.train()` came before this
                strategy.model.get_submodule(name).eval()
        self._past, self._new = self._drawn(strategy), len(strategy.mb_x)
        if self._past:
            flat = self._past["z"].split([math.prod(shape) for shape in self.cut.shapes], 1)
            self._maps = [z.view(-1, *shape) for z, shape in zip(flat, self.cut.shapes, strict=True)]
            self._splice = spliced(strategy.model, self.cut, self._behind)
            self._splice.__enter__()

    def after_forward(self, strategy: Any, **kwargs: Any) -> None:
        """Takes their logits aside, so that nobody else has to know of them."""
        if self._past:
            self._splice.__exit__(None, None, None)
            logits = strategy.mb_output
            self._logits, strategy.mb_output = logits[self._new :], logits[: self._new]

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        """Adds their loss to the undivided loss."""
        if self._past:
            z, y = self._past["z"], self._past["y"].to(strategy.device)
            places = [place(each, self.stride) for each in z]
            logits = torch.stack(
                [at(own, p, self.stride) for own, p in zip(self._logits, places, strict=True)]
            )
            strategy.loss = strategy.loss + self.latent_lambda * strategy._criterion(logits, y)
            del self._logits

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Offers features of held-out patches of the experience."""
        hospital = self.context.hospitals[strategy.clock.train_exp_counter]
        if self.memory.allows(hospital, ("z", "y")):
            for i, batch in enumerate(strategy.held_out_batches(self.patches)):
                self._offer(strategy, hospital, batch, strategy.clock.train_iterations + i / self.patches)

    def _check_room(self, model: Any) -> None:
        """Before hours of training, by the features of noise: they compress a little less than others."""
        size = (1, self.context.channels, *self.context.patch)
        noise = 100 * torch.randn(size, generator=torch.Generator().manual_seed(0))
        z = self._features(model, noise.to(next(model.parameters()).device))
        exemplar, _ = pack({"z": z}, Origin("", ""), Description())
        if exemplar.nbytes > self.memory.budget:
            raise LimitExceeded(
                f"the features of one patch take about {format_bytes(exemplar.nbytes)}, the memory holds "
                f"{format_bytes(self.memory.budget)}",
                "memory.exemplars",
                f"raise it to many times {exemplar.nbytes}, or use smaller patches or a lower mantissa",
            )

    @torch.no_grad()
    def _features(self, model: Any, x: Tensor) -> Tensor:
        """Of one patch, as they are stored: float16 `[n]`, all maps of the cut one after another."""
        assert self.cut is not None
        caught: dict[int, Tensor] = {}
        was_training = model.training
        with spliced(model.eval(), self.cut, lambda i, own: caught.setdefault(i, own.clone()).clone()):
            model(x)
        model.train(was_training)
        flat = [caught[i][0].float().flatten() for i in range(len(self.cut.sites))]
        return short(torch.cat(flat), self.mantissa).cpu()

    def _offer(self, strategy: Any, hospital: str, batch: Batch, when: float) -> None:
        z = self._features(strategy.model, batch.x[:1].to(strategy.device))
        y = at(batch.y[0], place(z, self.stride), self.stride)
        patient, corner = next(iter(batch.patients), ""), next(iter(batch.corners), None)
        origin = Origin(hospital, batch.cases[0], patient, corner)
        said = Description(self.describer.organs(y[None])[0], {"offered": when})
        self.memory.offer({"z": z, "y": y}, origin, said)

    def _drawn(self, strategy: Any) -> dict[str, Tensor]:
        hospital = self.context.hospitals[strategy.clock.train_exp_counter]
        step, micro_step = strategy.clock.train_iterations, strategy.micro_step
        rng = generator(self.context.seed, "latent_replay", step, micro_step)
        return stacked([p for _, p in self.memory.draw(self.exemplars_per_batch, rng, without=hospital)])

    def _behind(self, i: int, own: Tensor) -> Tensor:
        """The new patches' maps, and the replayed ones: what else stands there was made of replayed maps before them."""
        return torch.cat([own[: self._new], self._maps[i].to(own)])

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return self.memory.declared_bytes()

    def held_bytes(self) -> dict[str, int]:
        return self.memory.held_bytes()

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory.load_state_dict(state["memory"])

    def state_within(self) -> dict[str, Any]:
        """The memory waits for the end of the experience."""
        return {}


def strides(patch: Sequence[int], grid: Sequence[int]) -> tuple[int, int, int]:
    """Voxels per axis of one feature's block.

    Raises:
        LifelongCTError: the grid does not divide the patch.
    """
    if any(size % n for size, n in zip(patch, grid, strict=True)):
        raise LifelongCTError(
            f"features on a grid of {list(grid)} do not divide a patch of {list(patch)}",
            "stream.patch",
            "use a patch that all strides of the network divide",
        )
    d, h, w = (size // n for size, n in zip(patch, grid, strict=True))
    return d, h, w


def short(z: Tensor, mantissa: int) -> Tensor:
    """float16, rounded to the nearest number with so many bits behind the first.

    Args:
        z: float32, of any shape; what float16 cannot hold becomes its largest.
        mantissa: 0 to 10.
    """
    limit = torch.finfo(torch.float16).max
    gone = _MANTISSA - mantissa
    bits = z.clamp(-limit, limit).half().view(torch.int16).int()
    bits = bits & 0x8000 | ((bits & 0x7FFF) + ((1 << gone) >> 1)).clamp(max=0x7BFF) >> gone << gone
    return torch.where(bits >= 0x8000, bits - 0x10000, bits).to(torch.int16).view(torch.float16)


def place(z: Tensor, stride: tuple[int, int, int]) -> tuple[int, int, int]:
    """Of each block of voxels the one whose label is kept: known from the features, so that it need not be stored."""
    drawn = xxhash.xxh3_64_intdigest(z.numpy().tobytes()) % math.prod(stride)
    plane, w = divmod(drawn, stride[2])
    return (*divmod(plane, stride[1]), w)


def at(volume: Tensor, start: Sequence[int], stride: Sequence[int]) -> Tensor:
    """One voxel of each block: `[C,D,H,W]` → `[C,D/s,H/s,W/s]`."""
    (d, h, w), (sd, sh, sw) = start, stride
    return volume[:, d::sd, h::sh, w::sw]
