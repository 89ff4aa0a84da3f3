from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.training.plugins import AGEMPlugin
from hospitals import options, stream
from tiny import World, context
from torch import Tensor, nn
from toy import PerVoxel, patches, softmax_model, trained

from lifelong_ct.avalanche_bridge import SupervisedPlugin
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.memory.parts import stacked
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.strategies.agem import AGEM, loss_gradient, project
from lifelong_ct.strategies.ewc import OnlineEWC
from lifelong_ct.strategies.lwf import LwF
from lifelong_ct.strategies.rwalk import RWalk
from lifelong_ct.strategies.si import SI
from lifelong_ct.training.run import Run

THREE = {"hospitals": ["a", "b", "c"], "sharing": dict.fromkeys("abc", "patches")}


class Whole(AGEM):
    """Its g_ref is that of all exemplars of earlier hospitals."""

    def past(self, strategy: Any) -> dict[str, Tensor]:
        hospital = self.context.hospitals[strategy.clock.train_exp_counter]
        return stacked([parts for e, parts in self.memory.held() if e.origin.hospital != hospital])


class Gradients(SupervisedPlugin):
    """Keeps the gradients that the optimizer gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Tensor]] = []

    def after_backward(self, strategy: Any, **kwargs: Any) -> None:
        named = strategy.model.named_parameters()
        self.seen.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def test_a_gradient_against_the_reference_loses_its_part_along_it() -> None:
    """g = (1, -2, 3), g_ref = (0, 2, 1), in two parameters: g·g_ref = -1, g_ref² = 5, g + g_ref / 5."""
    gradient = [torch.tensor([1.0, -2.0]), torch.tensor([[3.0]])]
    reference = [torch.tensor([0.0, 2.0]), torch.tensor([[1.0]])]
    project(gradient, reference)
    assert gradient[0].tolist() == pytest.approx([1.0, -2 + 2 / 5])
    assert gradient[1].item() == pytest.approx(3 + 1 / 5)
    assert sum(float((g * r).sum()) for g, r in zip(gradient, reference)) == pytest.approx(0, abs=1e-6)
    assert [r.flatten().tolist() for r in reference] == [[0.0, 2.0], [1.0]]


@pytest.mark.parametrize("second", [4.0, 5.0])
def test_a_gradient_that_does_no_harm_is_not_touched(second: float) -> None:
    """g·g_ref is -4 + 4 and -4 + 5."""
    gradient = [torch.tensor([-2.0]), torch.tensor([second])]
    project(gradient, [torch.tensor([2.0]), torch.tensor([1.0])])
    assert [g.item() for g in gradient] == [-2.0, second]


@pytest.mark.parametrize("wrong", [float("inf"), float("nan")])
def test_a_gradient_that_is_no_number_is_left_to_the_learner(wrong: float) -> None:
    for g, r in (([-wrong, 1.0], [1.0, 1.0]), ([-1.0, 1.0], [wrong, 1.0])):
        gradient = [torch.tensor(g)]
        project(gradient, [torch.tensor(r)])
        assert torch.equal(gradient[0].nan_to_num(), torch.tensor(g).nan_to_num())


def learner(model: nn.Module, **changes: Any) -> Any:
    """What `loss_gradient` needs of one."""
    return SimpleNamespace(
        model=model,
        train_mb_size=2,
        at_once=None,
        amp=None,
        device=torch.device("cpu"),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        _criterion=PerVoxel(),
        **changes,
    )


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_the_reference_is_the_gradient_of_the_mean_loss_whatever_the_micro_batches(scale: float) -> None:
    """Softmax regression: the mean of (p - onehot) x and of p - onehot over 5 patches, in pieces of 2, 2 and 1."""
    model = softmax_model().eval()
    x, y = (torch.cat(column) for column in zip(*patches(5), strict=True))
    lent = learner(model)
    lent.scaler = SimpleNamespace(scale=lambda loss: loss * scale, get_scale=lambda: scale)
    found = loss_gradient(lent, x, y)
    v, labels = x.flatten().double(), y.flatten().long()
    weight, bias = model.weight.detach().double(), model.bias.detach().double()
    score = (weight @ v[None] + bias[:, None]).softmax(0) - nn.functional.one_hot(labels, 3).T
    torch.testing.assert_close(found["weight"][:, 0].double(), (score * v).mean(1), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found["bias"].double(), score.mean(1), rtol=1e-5, atol=1e-7)
    assert model.weight.grad is None


def test_weights_are_those_of_avalanche() -> None:
    """Both take the whole memory as the reference, so that their draws play no part."""
    ours = trained(Whole(Reservoir()), lr=0.05, whole=True, bind=THREE)
    theirs = trained(AGEMPlugin(patterns_per_experience=6, sample_size=18), lr=0.05, whole=True, bind=THREE)
    free = trained(lr=0.05, whole=True, bind=THREE)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
        assert (ours[name] - free[name]).abs().max() > 0.01, "the projection did something"


@pytest.mark.parametrize("accumulate", [1, 3])
def test_no_step_of_the_second_hospital_goes_against_the_first(accumulate: int) -> None:
    agem, gradients = Whole(Reservoir()), Gradients()
    organs, bind = ([["liver"]], [["spleen"]]), {"exemplar_bytes": 1 << 20}
    world = World(agem, gradients, annotated=organs, accumulate=accumulate, bind=bind)
    references = []
    before = agem.after_backward

    def spy(strategy: Any, **kwargs: Any) -> None:
        references.append(dict(agem._reference))
        before(strategy, **kwargs)

    agem.after_backward = spy
    world.learn(0, steps=6)
    assert not any(references), "there is no earlier hospital"
    gradients.seen.clear()
    references.clear()
    world.learn(1, steps=8)
    assert len(references) == len(gradients.seen) == 8, "once per optimizer step"
    products = [
        sum(float((g[name].double() * r[name]).sum()) for name in r)
        for g, r in zip(gradients.seen, references, strict=True)
    ]
    scales = [sum(float(r[name].square().sum()) for name in r) for r in references]
    assert all(product > -1e-6 * scale for product, scale in zip(products, scales, strict=True))
    bent = [abs(product) < 1e-6 * scale for product, scale in zip(products, scales, strict=True)]
    assert any(bent)


def test_the_head_grows_and_frozen_parameters_do_not_count() -> None:
    agem = AGEM(Reservoir(), exemplars_per_step=2)
    world = World(agem, bind={"exemplar_bytes": 1 << 20})
    world.learn(0, steps=4)
    frozen = world.learner.model.backbone[0].weight.requires_grad_(False)
    before = frozen.clone()
    world.learn(1, steps=4)
    assert world.learner.model.head.width == 3
    assert torch.equal(frozen, before)
    assert not agem._reference, "g_ref lives within a step"


def test_a_parameter_without_a_gradient_counts_in_no_product() -> None:
    """Its part of g_ref would turn a harmless gradient, or leave a harmful one with g·g_ref < 0 where it moves."""
    model = nn.Linear(1, 1)
    agem = AGEM(Reservoir())
    agem.bind(context(LabelSpace(["liver"])))
    model.weight.grad = torch.tensor([[-1.0]])
    agem._reference = {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([7.0])}
    agem.after_backward(SimpleNamespace(model=model))
    assert model.weight.grad.item() == 0.0
    assert model.bias.grad is None


def test_memory_is_fed_as_replay_feeds_it_and_a_resumed_run_goes_on() -> None:
    whole, first, second = (
        World(AGEM(Reservoir(), exemplars_per_step=2), bind={"exemplar_bytes": 1 << 20}) for _ in range(3)
    )
    for world in (whole, first):
        world.learn(0, steps=4)
    second.load_state_dict(first.state_dict())
    for world in (whole, second):
        world.learn(1, steps=4)
    for name, value in whole.weights().items():
        assert torch.equal(value, second.weights()[name]), name


def test_without_boundaries_the_reference_is_of_all_that_is_held() -> None:
    asked: list[int] = []

    class Asking(AGEM):
        def after_backward(self, strategy: Any, **kwargs: Any) -> None:
            asked.append(len(self._reference))
            super().after_backward(strategy)

    world = World(Asking(Reservoir()), boundaries=False, bind={"exemplar_bytes": 1 << 20})
    world.learn(0, steps=3)
    parameters = len(list(world.learner.model.parameters()))
    assert asked == [0, parameters, parameters], "only the first step has no past"


@pytest.mark.parametrize("method", [SI, RWalk])
def test_what_reads_the_gradient_stands_before_it(method: Any) -> None:
    agem, reads = AGEM(Reservoir()), method(1.0)
    agem.check_behind([LwF(1.0), OnlineEWC(1.0)])
    reads.check_behind([agem])
    with pytest.raises(LifelongCTError, match=method.__name__) as error:
        agem.check_behind([LwF(1.0), reads])
    assert error.value.fix == f"list AGEM after {method.__name__}"


def test_a_run_that_lists_it_before_si_is_refused(tmp_path: Any) -> None:
    def plan(*made: Any) -> Any:
        opts = options(stream({"name": "a"}, {"name": "b"}), tmp_path, new_plugins=lambda: list(made))
        opts.limits["exemplars"] = 1 << 20  # type: ignore[index]
        return Run(opts, Reporters([])).demands()

    plan(SI(1.0), AGEM(Reservoir()))
    with pytest.raises(LifelongCTError, match="SI would take the gradient"):
        plan(AGEM(Reservoir()), SI(1.0))


def test_its_bytes_are_asked_for_before_there_are_gradients_and_given_back() -> None:
    """g_ref and the gradient of a piece of it: two copies of the parameters."""
    needed: list[int] = []

    class Asking(AGEM):
        def after_backward(self, strategy: Any, **kwargs: Any) -> None:
            needed.append(self.context.ledger.held("gpu"))
            super().after_backward(strategy)

    agem, ledger = Asking(Reservoir()), Ledger()
    world = World(agem, bind={"exemplar_bytes": 1 << 20, "ledger": ledger})
    world.learn(0, steps=2)
    world.learn(1, steps=2)
    parameters = 4 * sum(p.numel() for p in world.learner.model.parameters())
    assert needed == [0, 0, 2 * parameters, 2 * parameters]
    assert ledger.held("gpu") == 0
    assert ledger.peak("gpu") == agem.declared_bytes(parameters)["gpu"]


def test_a_limit_that_is_too_low_stops_before_the_gradient_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(AGEM(Reservoir()), bind={"exemplar_bytes": 1 << 20, "ledger": Ledger({"gpu": 100})})
    world.learn(0, steps=2)
    monkeypatch.setattr("lifelong_ct.strategies.agem.loss_gradient", lambda *args: pytest.fail("too early"))
    with pytest.raises(LimitExceeded, match="A-GEM reference"):
        world.learn(1, steps=1)


@pytest.mark.parametrize("wrong", [0, 1.5, True])
def test_wrong_options_are_told_by_their_own_name(wrong: Any) -> None:
    with pytest.raises(LifelongCTError, match="exemplars_per_step"):
        AGEM(Reservoir(), exemplars_per_step=wrong)


def test_a_hospital_that_shares_no_patches_is_no_reference() -> None:
    agem, gradients = AGEM(Reservoir()), Gradients()
    world = World(agem, gradients, bind={"sharing": {"first": "features", "second": "patches"}})
    world.learn(0, steps=2)
    assert len(agem.memory) == 0
    world.learn(1, steps=2)
    assert not agem._reference
