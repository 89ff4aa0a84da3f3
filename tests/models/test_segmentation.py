from pathlib import Path

import planned
import pytest
import torch
from hydra.utils import instantiate
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet
from omegaconf import OmegaConf
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.segmentation import GrowingHead, NormaliseHU, SegmentationModel

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
BACKBONES = {
    "UNet": lambda: UNet(3, 1, 6, channels=(4, 8), strides=(2,), num_res_units=1),
    "SegResNet": lambda: SegResNet(out_channels=6, init_filters=8, blocks_down=(1, 1), blocks_up=(1,)),
    "SwinUNETR": lambda: SwinUNETR(1, 6, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
    "DynUNet": lambda: DynUNet(3, 1, 6, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 8, 8]),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_monai_s_networks_map_stored_voxels_to_logits(name: str) -> None:
    torch.manual_seed(0)
    model = SegmentationModel(BACKBONES[name](), features=6)
    model.grow(4)
    shape = (64, 32, 32) if name == "SwinUNETR" else (16, 8, 8)
    x = torch.randint(-1024, 1500, (1, 1, *shape), dtype=torch.int16)
    logits = model.eval()(x)
    assert (logits.shape, logits.dtype) == ((1, 4, *shape), torch.float32)
    torch.testing.assert_close(model(x.float()), logits)
    assert torch.equal(x, x.clone()), "the input is untouched"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_model_of_the_configuration_has_a_head_that_fits(path: Path, tmp_path: Path) -> None:
    config = OmegaConf.create({"model": OmegaConf.load(path)})
    if "plans" in config.model:
        config.model.plans = str(planned.write(tmp_path)[0])
    model = instantiate(config.model)
    model.grow(10)
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes without the computation
        logits = model(torch.zeros(1, 1, 64, 64, 64, dtype=torch.int16))
    assert isinstance(model, SegmentationModel)
    assert logits.shape == (1, 10, 64, 64, 64)


def test_the_four_networks_of_the_issue_can_be_chosen() -> None:
    assert {"unet", "segresnet", "swinunetr", "dynunet"} <= {path.stem for path in CONFIGS}


class TestNormaliseHU:
    def test_a_window_becomes_zero_to_one_and_is_clipped(self) -> None:
        x = torch.tensor([-1024, -175, 37, 250, 3000], dtype=torch.int16)
        expected = torch.tensor([0.0, 0.0, (37 + 175) / 425, 1.0, 1.0])
        torch.testing.assert_close(NormaliseHU()(x), expected)

    def test_another_window_and_no_parameters(self) -> None:
        normalise = NormaliseHU((0, 200))
        assert normalise(torch.tensor([50.0])).item() == 0.25
        assert not list(normalise.parameters())
        assert not normalise.state_dict()

    def test_half_precision_stays(self) -> None:
        assert NormaliseHU()(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.bfloat16

    @pytest.mark.parametrize("window", [(5, 5), (3, -3)])
    def test_an_empty_window_is_told(self, window: tuple[float, float]) -> None:
        with pytest.raises(LifelongCTError, match="empty"):
            NormaliseHU(window)


class TestGrowingHead:
    def test_it_is_a_1x1x1_convolution(self) -> None:
        torch.manual_seed(0)
        head, convolution = GrowingHead(3, 2), nn.Conv3d(3, 2, 1)
        convolution.load_state_dict(head.state_dict())
        x = torch.randn(2, 3, 4, 4, 4)
        torch.testing.assert_close(head(x), convolution(x))

    def test_growth_appends_rows_and_keeps_the_old_ones_bit_equal(self) -> None:
        torch.manual_seed(0)
        head = GrowingHead(3, 2)
        weight, bias, x = head.weight.clone(), head.bias.clone(), torch.randn(1, 3, 2, 2, 2)
        before = head(x)
        assert head.grow(5)
        assert (head.width, head.weight.shape, head.bias.shape) == (5, (5, 3, 1, 1, 1), (5,))
        assert torch.equal(head.weight[:2], weight)
        assert torch.equal(head.bias[:2], bias)
        torch.testing.assert_close(head(x)[:, :2], before)
        assert head.weight[2:].abs().min() > 0
        assert head.weight.is_leaf
        assert head.weight.requires_grad
        assert set(dict(head.named_parameters())) == {"weight", "bias"}

    def test_the_same_width_changes_nothing(self) -> None:
        head = GrowingHead(3, 2)
        weight = head.weight
        assert not head.grow(2)
        assert head.weight is weight

    def test_it_never_shrinks(self) -> None:
        with pytest.raises(ValueError, match="shrink"):
            GrowingHead(3, 4).grow(3)


def test_the_state_of_a_grown_model_fits_a_fresh_one_of_the_same_width() -> None:
    first, second = (SegmentationModel(nn.Conv3d(1, 4, 1), features=4) for _ in range(2))
    first.grow(3)
    second.grow(3)
    second.load_state_dict(first.state_dict())
    x = torch.randint(-100, 100, (1, 1, 2, 2, 2), dtype=torch.int16)
    assert torch.equal(first(x), second(x))
