"""Each check of the contract catches a plug-in that breaks it, and lets one pass that does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin, tensor_bytes
from lifelong_ct.cli import compose
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.testing.holding import check_flat
from lifelong_ct.testing.invariance import check_invariance
from lifelong_ct.testing.midway import check_midway
from lifelong_ct.testing.scenarios import check_online, check_unbounded
from lifelong_ct.testing.strategies import check_arguments, check_strategy
from lifelong_ct.testing.world import EDGE, TinyWorld


class Holding(StrategyPlugin):
    """Keeps some floats after each hospital."""

    more, told, declared = 0, 1.0, 1 << 20

    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.zeros(2000)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.kept = torch.zeros(len(self.kept) + self.more)

    def declared_bytes(self, model_bytes: int) -> dict[str, int]:
        return {"ram": self.declared}

    def held_bytes(self) -> dict[str, int]:
        return {"ram": int(self.told * tensor_bytes(self.kept))}

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept = state["kept"]


class Growing(Holding):
    more = 1


class Silent(Holding):
    told = 0.5


class Modest(Holding):
    declared = 7999


class Lists(Holding):
    """Grows in JSON values, not in tensors."""

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "log": list(range(getattr(self, "count", 0)))}

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.count = getattr(self, "count", 0) + 1


class Adding(StrategyPlugin):
    """Adds the logits' squares to the loss."""

    reduce: Callable[[torch.Tensor], torch.Tensor] = staticmethod(torch.mean)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        strategy.loss = strategy.loss + 1e-3 * self.reduce(strategy.mb_output.square())


class Summing(Adding):
    reduce = staticmethod(torch.sum)


def test_what_grows_is_caught_and_what_stays_passes() -> None:
    check_flat("good", lambda: [Holding()], None)
    with pytest.raises(AssertionError, match=r"8008 bytes .* after 2 hospitals and 8080"):
        check_flat("bad", lambda: [Growing()], None)
    with pytest.raises(AssertionError, match="after 20"):
        check_flat("bad", lambda: [Lists()], None)


def test_an_exemplar_memory_may_fill_and_nothing_beside_it_may_grow() -> None:
    class Filling(Growing):
        """Patches in RAM."""

        more, declared = 10, 9000

        def declared_bytes(self, model_bytes: int) -> dict[str, int]:
            return {"ram": self.declared, "exemplars": self.declared, "gpu": 1000}

        def held_bytes(self) -> dict[str, int]:
            kept = tensor_bytes(self.kept)
            return {"ram": kept, "exemplars": kept, "gpu": self.beside()}

        def beside(self) -> int:
            return 10

    class Beside(Filling):
        def beside(self) -> int:
            return len(self.kept) - 2000

    check_flat("good", lambda: [Filling()], None)
    with pytest.raises(AssertionError, match="after 20"):
        check_flat("bad", lambda: [Beside()], None)


def test_a_formula_excuses_growth_up_to_what_was_declared() -> None:
    check_flat("good", lambda: [Growing()], "4 bytes per hospital")
    Growing.declared = 8000 + 4 * 19
    try:
        with pytest.raises(AssertionError, match="declared"):
            check_flat("bad", lambda: [Growing()], "4 bytes per hospital")
    finally:
        del Growing.declared


@pytest.mark.parametrize(("bad", "said"), [(Silent, "held_bytes tells"), (Modest, "declared")])
def test_bytes_that_are_not_told_or_not_declared_are_caught(bad: type[Holding], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_flat("bad", lambda: [bad()], None)


def test_a_plugin_that_declares_nothing_may_hold_nothing() -> None:
    class Undeclared(Holding):
        def declared_bytes(self, model_bytes: int) -> dict[str, int]:
            return {}

    with pytest.raises(AssertionError, match=r"declared \{\}"):
        check_flat("bad", lambda: [Undeclared()], None)


def test_a_sum_over_voxels_is_caught_and_a_mean_passes() -> None:
    check_invariance("good", lambda: [Adding()])
    with pytest.raises(AssertionError, match="divide a sum over voxels"):
        check_invariance("bad", lambda: [Summing()])


def test_the_tiled_world_is_the_small_one_and_its_plugins_act() -> None:
    """Without a plugin the weights agree; what a plugin adds is what the probes say."""
    small, large = (TinyWorld(lambda: [Adding()], 2, tiles=tiles) for tiles in (1, 4))
    for world in (small, large):
        world.learn(0, steps=2)
    assert len(large.sources[0].x[0]) == 4 * EDGE
    for one, other in zip(small.learner.model.parameters(), large.learner.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert small.added == pytest.approx(large.added, rel=1e-2)
    assert min(small.added) > 1e-5


def test_what_plugins_add_is_told() -> None:
    class Constant(StrategyPlugin):
        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            strategy.loss = strategy.loss + 0.25

    world = TinyWorld(lambda: [Constant(), Constant()], 1)
    world.learn(0, steps=2)
    assert world.added == pytest.approx([0.5, 0.5], abs=1e-6)


def test_who_says_that_it_needs_no_boundaries_and_does_is_caught() -> None:
    class Needy(StrategyPlugin):
        def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
            self.start = strategy.clock.train_exp_counter

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            strategy.loss = strategy.loss * (1 + self.start)

    check_unbounded("good", lambda: [Adding()])
    with pytest.raises(AttributeError, match="start"):
        check_unbounded("bad", lambda: [Needy()])


def test_who_looks_at_a_boundary_that_nobody_told_is_caught() -> None:
    class Looking(StrategyPlugin):
        """Its strength is another in each experience of the clock."""

        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            strategy.loss = strategy.loss * (1 + strategy.clock.train_exp_counter)

    class Asking(Looking):
        def before_backward(self, strategy: Any, **kwargs: Any) -> None:
            assert self.context.present(strategy) is None

    check_unbounded("good", lambda: [Asking()])
    with pytest.raises(AssertionError, match="learns otherwise"):
        check_unbounded("bad", lambda: [Looking()])


def online(strategy: str, folder: Path) -> Any:
    places = (f"paths.{name}={folder / name}" for name in ("run", "store", "state"))
    asked = [f"strategy={strategy}", "stream=online", "debug=tiny", "reporter=quiet", *places]
    return compose.compose(compose.Request(asked))


def test_a_stream_that_is_not_allowed_has_to_be_refused_and_only_that(tmp_path: Path) -> None:
    check_online("naive", online("naive", tmp_path), tmp_path, {"boundaries": False})
    check_online("lwf", online("lwf", tmp_path), tmp_path, {"boundaries": True})
    with pytest.raises(AssertionError, match="is not refused"):
        check_online("naive", online("naive", tmp_path), tmp_path, {"boundaries": True})
    with pytest.raises(AssertionError, match="requires nothing and is refused"):
        check_online("lwf", online("lwf", tmp_path), tmp_path, {})
    with pytest.raises(AssertionError, match="does not name other"):
        check_online("other", online("lwf", tmp_path), tmp_path, {"boundaries": True})


class Cited:
    """ICML 2017."""

    def __init__(self, weight: float) -> None:
        self.weight = weight


class Uncited(Cited):
    """Nobody's."""


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ({"_target_": f"{__name__}.Cited"}, r"lists \[\], the constructor takes \['weight'\]"),
        ({"_target_": f"{__name__}.Cited", "weight": 1, "wait": 2}, "wait"),
        ({"_target_": f"{__name__}.Uncited", "weight": 1}, "cites no source"),
    ],
)
def test_an_argument_that_is_not_listed_and_a_source_that_is_not_cited_are_caught(
    plugin: dict[str, Any], said: str
) -> None:
    check_arguments({"_target_": f"{__name__}.Cited", "weight": 1}, "good")
    with pytest.raises(AssertionError, match=said):
        check_arguments(plugin, "bad")


def test_a_state_that_is_not_kept_is_caught_by_the_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LwF, "state_dict", lambda self: {"teacher": None})
    with pytest.raises(AssertionError, match=r"other scores|other weights|learns otherwise"):
        check_strategy("lwf", tmp_path, "strategy.plugins.0.lwf_lambda=100")


class Counting(StrategyPlugin):
    """Its penalty is another one with each step."""

    told = True

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self.steps = 0

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        squares = [p.square().sum() for p in strategy.model.parameters()]
        strategy.loss = strategy.loss + self.steps * torch.stack(squares).sum()
        self.steps += 1

    def state_within(self) -> dict[str, Any]:
        return {"steps": self.steps if self.told else 0}

    def load_state_within(self, state: dict[str, Any], strategy: Any) -> None:
        self.steps = state["steps"]


class Forgetful(Counting):
    told = False


def test_state_within_an_experience() -> None:
    check_midway("it", lambda: [Counting()])
    with pytest.raises(
        AssertionError, match="learns otherwise where it was stopped after step 1 of hospital 1"
    ):
        check_midway("it", lambda: [Forgetful()])
