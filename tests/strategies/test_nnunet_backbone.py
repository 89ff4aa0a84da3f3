"""What strategies look for inside a network is found in nnU-Net's."""

from pathlib import Path

import planned
import pytest
import torch

from lifelong_ct.models.nnunet import NnunetModel
from lifelong_ct.strategies.cuts import find_cut
from lifelong_ct.strategies.frozen_encoder import encoder_parameters
from lifelong_ct.strategies.taps import stage_ends

pytest.importorskip("dynamic_network_architectures", reason="the extra nnunet is not installed")
CHANGES = [pytest.param(lambda own: None, id="plain"), pytest.param(planned.residual, id="residual")]
SHAPE = (1, 16, 16, 16)


@pytest.fixture(params=CHANGES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> NnunetModel:
    model = NnunetModel(planned.write(tmp_path, planned.plans(request.param))[0])
    model.grow(3)
    return model


def test_the_encoder_is_its_encoder(model: NnunetModel) -> None:
    own = {name for name, _ in model.named_parameters() if name.startswith("backbone.network.encoder.")}
    assert encoder_parameters(model, torch.zeros(1, *SHAPE)) == own


def test_a_tap_per_level_down_and_up(model: NnunetModel) -> None:
    levels = [name.split(".")[2:5] for name in stage_ends(model, SHAPE)]
    assert [level[0] for level in levels].count("decoder") == 2
    assert [level[0] for level in levels].count("encoder") == 3


def test_it_can_be_cut_at_the_bottom(model: NnunetModel) -> None:
    assert {shape[0] for shape in find_cut(model, SHAPE).shapes} == {4, 6, 8}
