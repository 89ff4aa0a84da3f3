import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import planned
import pytest
import torch
from torch import nn

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.models.nnunet import NnunetModel, read_checkpoint
from lifelong_ct.models.plans import NormaliseCT, Plan

pytest.importorskip("dynamic_network_architectures", reason="the extra nnunet is not installed")
SPACING = [2.0, 1.5, 3.0]
"""Of `planned.PLANS` as ours: x, y, z."""
SCAN = (8, 16, 8)


def scan(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(-1024, 1500, (2, 1, *(shape or SCAN)), generator=generator, dtype=torch.int16)


def theirs(x: torch.Tensor) -> torch.Tensor:
    """Canonical `[B,1,x,y,z]` as nnU-Net reads and normalises it: z, y, x, then `transpose_forward`."""
    from_file = x.numpy().transpose(0, 1, 4, 3, 2)
    turned = from_file.transpose(0, 1, *(2 + axis for axis in planned.PLANS["transpose_forward"]))
    own = planned.INTENSITIES
    clipped = np.clip(turned.astype(np.float32), own["percentile_00_5"], own["percentile_99_5"])
    return torch.from_numpy((clipped - np.float32(own["mean"])) / np.float32(own["std"]))


def back(logits: torch.Tensor) -> torch.Tensor:
    """From nnU-Net's axes to x, y, z."""
    backward = planned.PLANS["transpose_backward"]
    return logits.permute(0, 1, *(2 + axis for axis in backward)).permute(0, 1, 4, 3, 2)


@pytest.mark.parametrize("change", [lambda own: None, planned.residual], ids=["plain", "residual"])
def test_the_logits_are_those_of_nnunet_s_own_network(tmp_path: Path, change: Any) -> None:
    plans, weights, network = planned.write(tmp_path, planned.plans(change))
    model = NnunetModel(plans, weights=weights, spacing=SPACING).eval()
    model.know(["liver", "aorta", "spleen"])
    x = scan()
    with torch.no_grad():
        logits, expected = model(x), back(network.eval()(theirs(x))[0])
    assert logits.shape == (2, 4, *SCAN)
    torch.testing.assert_close(logits[:, [0, 1, 3]], expected[:, [0, 2, 1]], rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.1


def test_nnunet_itself_builds_the_same_network_and_normalises_the_same(tmp_path: Path) -> None:
    building = pytest.importorskip("nnunetv2.utilities.get_network_from_plans", reason="no nnU-Net here")
    schemes = pytest.importorskip("nnunetv2.preprocessing.normalization.default_normalization_schemes")
    plans, weights, _ = planned.write(tmp_path)
    own = planned.PLANS["configurations"]["3d_fullres"]["architecture"]
    network = building.get_network_from_plans(
        own["network_class_name"],
        own["arch_kwargs"],
        own["_kw_requires_import"],
        1,
        4,
        deep_supervision=False,
    )
    network.load_state_dict(read_checkpoint(weights)[0])
    model = NnunetModel(plans, weights=weights, spacing=SPACING).eval()
    model.know(["spleen", "liver"])
    x = scan()
    normal = schemes.CTNormalization(False, planned.INTENSITIES)
    turned = x.numpy().transpose(0, 1, 4, 3, 2).transpose(0, 1, 3, 2, 4)
    with torch.no_grad():
        expected = back(network.eval()(torch.from_numpy(normal.run(turned.astype(np.float32)))))
        torch.testing.assert_close(model(x), expected[:, :3], rtol=1e-5, atol=1e-5)


def test_files_in_another_orientation(tmp_path: Path) -> None:
    """A network that was trained on LPS files sees a canonical scan as such a file has it."""
    plans, weights, network = planned.write(tmp_path)
    model = NnunetModel(plans, weights=weights, spacing=SPACING, orientation="LPS").eval()
    model.know(["spleen"])
    x = scan()
    with torch.no_grad():
        logits = back(network.eval()(theirs(x.flip(2, 3)))[0]).flip(2, 3)
        torch.testing.assert_close(model(x), logits[:, :2], rtol=1e-5, atol=1e-5)


def test_axes_and_signs_of_any_orientation(tmp_path: Path) -> None:
    """Files stored as (S, L, A): x runs along their second axis, backwards."""
    plan = Plan.read(planned.write(tmp_path)[0], orientation="SLA")
    # nnU-Net's arrays are the file's axes reversed (A, L, S), then turned by [1, 0, 2]: L, A, S
    assert (plan.order, plan.turned) == ((0, 1, 2), (0,))
    assert (plan.patch, plan.spacing) == ((24, 32, 16), (1.5, 3.0, 2.0))


def test_plans_in_our_order_of_axes(tmp_path: Path) -> None:
    plans = planned.write(tmp_path)[0]
    plan = Plan.read(plans)
    assert (plan.patch, plan.spacing) == ((16, 24, 32), tuple(SPACING))
    assert plan.batch_size == 2
    assert Plan.read(plans, "3d_bs4").batch_size == 4


def test_without_weights_it_starts_as_nnunet_does(tmp_path: Path) -> None:
    plans = planned.write(tmp_path)[0]
    torch.manual_seed(0)
    model = NnunetModel(plans)
    torch.manual_seed(0)
    network = planned.network(planned.PLANS, rows=2)
    first = "encoder.stages.0.0.convs.0.all_modules.0.weight"
    assert torch.equal(model.backbone.network.state_dict()[first], network.state_dict()[first])
    assert (model.organs, model.head.width) == ((), 1)
    model.grow(3)
    assert model(scan()).shape == (2, 3, *SCAN)


def test_every_parameter_has_one_name_and_gets_a_gradient(tmp_path: Path) -> None:
    model = NnunetModel(planned.write(tmp_path)[0])
    pointers = [value.data_ptr() for value in model.state_dict().values()]
    assert len(pointers) == len(set(pointers))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    model.grow(2)
    model(scan()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_plans_from_before_2_4(tmp_path: Path) -> None:
    """As `ConfigurationManager` of nnU-Net completes them."""
    content = planned.plans()
    own = content["configurations"]["3d_fullres"]
    given = own["architecture"]["arch_kwargs"]
    given |= {"features_per_stage": [4, 8, 12]}
    weights = planned.write(tmp_path, content)[1]
    del own["architecture"]
    own |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 12,
        "n_conv_per_stage_encoder": given["n_conv_per_stage"],
        "n_conv_per_stage_decoder": given["n_conv_per_stage_decoder"],
        "conv_kernel_sizes": given["kernel_sizes"],
        "pool_op_kernel_sizes": given["strides"],
        "num_pool_per_axis": [2, 1, 2],
    }
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert NnunetModel(tmp_path / "old.json", weights=weights, spacing=SPACING).organs == ("spleen", "liver")


class TestRows:
    def test_organs_by_name_and_those_that_are_none_left_out(self, tmp_path: Path) -> None:
        plans, weights, network = planned.write(tmp_path)
        model = NnunetModel(plans, weights=weights, spacing=SPACING)
        assert model.organs == ("spleen", "liver")
        last = network.decoder.seg_layers[-1]
        torch.manual_seed(0)
        model.know(["aorta", "liver"])
        assert torch.equal(model.head.weight[[0, 2]], last.weight[[0, 2]])
        assert torch.equal(model.head.bias[[0, 2]], last.bias[[0, 2]])
        assert not any(torch.equal(model.head.weight[1], row) for row in last.weight)

    def test_labels_of_the_user_s(self, tmp_path: Path) -> None:
        plans, weights, network = planned.write(tmp_path)
        model = NnunetModel(plans, weights=weights, labels={"liver_tumor": 3}, spacing=SPACING)
        model.know(["liver_tumor"])
        assert torch.equal(model.head.weight[1], network.decoder.seg_layers[-1].weight[3])
        with pytest.raises(LifelongCTError, match="liver has the id 4, the weights have 1 to 3"):
            NnunetModel(plans, weights=weights, labels={"liver": 4}, spacing=SPACING)

    def test_sigmoids_of_regions_are_no_rows(self, tmp_path: Path) -> None:
        plans, weights, _ = planned.write(tmp_path, labels={"background": 0, "liver": [1, 2], "spleen": 3})
        assert NnunetModel(plans, weights=weights, spacing=SPACING).organs == ()


class TestCheckpoint:
    def test_it_is_read_with_the_numbers_that_are_logged(self, tmp_path: Path) -> None:
        _, weights, network = planned.write(tmp_path)
        with pytest.raises(Exception, match="numpy"):
            torch.load(weights, weights_only=True)
        state, labels = read_checkpoint(weights)
        assert labels == planned.LABELS
        assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())

    def test_one_that_was_written_with_numpy_1(self, tmp_path: Path) -> None:
        """Whose numbers come from `numpy.core`."""
        _, weights, network = planned.write(tmp_path)
        with zipfile.ZipFile(weights) as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
            for name in new.namelist():
                old.writestr(
                    name, new.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
                )
        assert read_checkpoint(tmp_path / "old.pth")[0].keys() == network.state_dict().keys()

    def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(self, tmp_path: Path) -> None:
        class Bad:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.system, (f"touch {tmp_path / 'run'}",)

        torch.save({"network_weights": {}, "logging": Bad()}, tmp_path / "bad.pth")
        with pytest.raises(LifelongCTError, match="will not be executed"):
            read_checkpoint(tmp_path / "bad.pth")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("content", [{"state_dict": {}}, [1], {"network_weights": {"a": 1}}])
    def test_something_else(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(LifelongCTError, match="no network_weights"):
            read_checkpoint(tmp_path / "other.pth")

    def test_no_file_and_no_checkpoint(self, tmp_path: Path) -> None:
        with pytest.raises(LifelongCTError, match="cannot be read: No such file"):
            read_checkpoint(tmp_path / "none.pth")
        (tmp_path / "text.pth").write_text("text")
        with pytest.raises(LifelongCTError, match="no checkpoint of tensors"):
            read_checkpoint(tmp_path / "text.pth")

    def test_names_that_are_missing_unexpected_or_of_another_shape_are_told(self, tmp_path: Path) -> None:
        plans, weights, network = planned.write(tmp_path)
        content = planned.checkpoint(network, planned.LABELS, planned.PLANS)
        state = {f"module.{name}": value for name, value in network.state_dict().items()}
        torch.save(content | {"network_weights": state}, weights)
        assert NnunetModel(plans, weights=weights, spacing=SPACING).organs, "data parallel"
        name = "module.decoder.transpconvs.0.bias"
        changed = {key: value for key, value in state.items() if key != name} | {"extra.bias": torch.ones(1)}
        changed["module.decoder.transpconvs.1.bias"] = torch.ones(9)
        torch.save(content | {"network_weights": changed}, weights)
        with pytest.raises(LifelongCTError) as error:
            NnunetModel(plans, weights=weights, spacing=SPACING)
        told = error.value.what
        assert "1 missing: decoder.transpconvs.0.bias" in told
        assert "1 unexpected: extra.bias" in told
        assert "1 of another shape: decoder.transpconvs.1.bias" in told


class TestRefusals:
    def test_no_plans(self) -> None:
        with pytest.raises(LifelongCTError, match="no plans"):
            NnunetModel(None)

    @pytest.mark.parametrize(
        ("configuration", "said"),
        [("2d", "not 3D"), ("3d_lowres", "no configuration"), ("3d_cascade_fullres", "another stage")],
    )
    def test_configurations(self, tmp_path: Path, configuration: str, said: str) -> None:
        with pytest.raises(LifelongCTError, match=said):
            Plan.read(planned.write(tmp_path)[0], configuration)

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("network_class_name", "os.system", "cannot be built"),
            ("network_class_name", "dynamic_network_architectures.architectures.primus.Primus", "Primus"),
            ("conv_op", "os.system", "no module of torch.nn"),
            ("nonlin", "torch.nn.functional.relu", "no module of torch.nn"),
            ("norm_op", "torch.nn.Module.register_buffer", "no module of torch.nn"),
            ("n_stages", 5, "PlainConvUNet cannot be built"),
        ],
    )
    def test_what_plans_may_name(self, tmp_path: Path, key: str, value: Any, said: str) -> None:
        def change(own: dict[str, Any]) -> None:
            into = own["architecture"]
            (into if key in into else into["arch_kwargs"])[key] = value

        (tmp_path / "plans.json").write_text(json.dumps(planned.plans(change)))
        with pytest.raises(LifelongCTError, match=said):
            NnunetModel(tmp_path / "plans.json")

    def test_a_normalisation_of_whole_scans(self, tmp_path: Path) -> None:
        content = planned.plans(lambda own: own.update(normalization_schemes=["ZScoreNormalization"]))
        (tmp_path / "plans.json").write_text(json.dumps(content))
        with pytest.raises(LifelongCTError, match="ZScoreNormalization, which needs the whole scan"):
            Plan.read(tmp_path / "plans.json")

    def test_channels_orientation_and_files(self, tmp_path: Path) -> None:
        plans = planned.write(tmp_path)[0]
        with pytest.raises(LifelongCTError, match="1 channels, the stream of 2"):
            NnunetModel(plans, channels=2)
        with pytest.raises(LifelongCTError, match="orientation='RAL'"):
            NnunetModel(plans, orientation="RAL")
        (tmp_path / "list.json").write_text("[]")
        with pytest.raises(LifelongCTError, match="no configurations"):
            NnunetModel(tmp_path / "list.json")
        with pytest.raises(LifelongCTError, match="cannot be read"):
            NnunetModel(tmp_path / "none.json")
        (tmp_path / "short.json").write_text(json.dumps(planned.plans(lambda own: own.pop("spacing"))))
        with pytest.raises(LifelongCTError, match="no valid 'spacing'"):
            NnunetModel(tmp_path / "short.json")

    @pytest.mark.parametrize("spacing", [None, "auto", [1.5, 3.0, 2.0]])
    def test_weights_on_another_spacing(self, tmp_path: Path, spacing: Any) -> None:
        plans, weights, _ = planned.write(tmp_path)
        with pytest.raises(LifelongCTError) as error:
            NnunetModel(plans, weights=weights, spacing=spacing)
        assert "stream.spacing=[2.0,1.5,3.0] stream.patch=[16,24,32]" in error.value.fix

    def test_a_window_that_cuts_off_what_the_network_sees(self, tmp_path: Path) -> None:
        plans = planned.write(tmp_path)[0]
        assert NnunetModel(plans, window=[-100.5, 240.0]).plan
        with pytest.raises(LifelongCTError, match=r"cuts off what the plans clip to, \[-100.5, 240.0\]"):
            NnunetModel(plans, window=[-100, 250])

    def test_the_package_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plans = planned.write(tmp_path)[0]
        monkeypatch.setitem(
            __import__("sys").modules, "dynamic_network_architectures.architectures.unet", None
        )
        with pytest.raises(LifelongCTError, match="is not installed") as error:
            NnunetModel(plans)
        assert 'pip install "lifelong-ct[nnunet]"' in error.value.fix


class TestNormaliseCT:
    def test_channels_have_their_own_numbers(self) -> None:
        normalise = NormaliseCT([(-100.0, 100.0, 10.0, 20.0), None])
        x = torch.tensor([-500, 50], dtype=torch.int16).reshape(1, 1, 1, 1, 2).repeat(1, 2, 1, 1, 1)
        expected = torch.tensor([[-5.5, 2.0], [-500.0, 50.0]]).reshape(1, 2, 1, 1, 2)
        assert torch.equal(normalise(x), expected)
        assert not normalise.state_dict()

    def test_one_number_everywhere_is_no_division_by_zero(self) -> None:
        assert NormaliseCT([(5.0, 5.0, 5.0, 0.0)])(torch.ones(1, 1, 1, 1, 1)).item() == 0


def test_it_is_a_module_that_can_be_copied(tmp_path: Path) -> None:
    plans, weights, _ = planned.write(tmp_path)
    first = NnunetModel(plans, weights=weights, spacing=SPACING)
    first.know(["liver"])
    second = NnunetModel(plans)
    second.grow(2)
    second.load_state_dict(first.state_dict())
    assert isinstance(second, nn.Module)
    with torch.no_grad():
        assert torch.equal(first(scan()), second(scan()))
