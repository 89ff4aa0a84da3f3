"""A run that starts from the weights of nnU-Net."""

from pathlib import Path

import planned
import pytest
import torch
from whole_runs import only_run, results, run

from lifelong_ct.data.layouts.phantom import PhantomLayout

pytest.importorskip("dynamic_network_architectures", reason="the extra nnunet is not installed")
SMALL = ("stream.common.shape=[32,32,32]", "strategy=naive", "reporter=quiet", "trainer.stop_after=1")
SPACING = "stream.spacing=[5.5,5.5,4.5]"
"""Of the scans themselves."""


def all_liver(folder: Path) -> list[str]:
    """A model of nnU-Net that calls every voxel liver, whatever it sees."""
    content = planned.plans(lambda own: own.update(spacing=[5.5, 4.5, 5.5]))  # y, z, x
    plans, weights, network = planned.write(folder / "trained", content)
    with torch.no_grad():
        network.decoder.seg_layers[-1].bias[planned.LABELS["liver"]] = 1e4
    torch.save(planned.checkpoint(network, planned.LABELS, content), weights)
    return ["model=nnunet", f"model.plans={plans}", f"model.weights={weights}"]


@pytest.mark.parametrize("hospitals", [1, 2])
def test_the_weights_are_scored_as_experience_0(tmp_path: Path, hospitals: int) -> None:
    model = all_liver(tmp_path)
    assert run(tmp_path, *model, *SMALL, SPACING, f"stream.first={hospitals}") == 0
    found = {
        (row["hospital"], row["organ"]): row["mean"]
        for row in results(only_run(tmp_path))["scores"]
        if row["after"] == 0 and row["metric"] == "dice"
    }
    drawn = PhantomLayout(
        "usual",
        train=1,
        test=4,
        shape=(32, 32, 32),
        organs=["liver", "spleen", "kidney_left", "kidney_right"],
        scanner={"spacing": [5.5, 5.5, 4.5], "kernel": 2.0, "noise": 10.0},
    )
    raw = next(drawn.load(case) for case in drawn.cases() if case.split == "test")
    voxels = float((raw.label == 1 + raw.organs.index("liver")).sum())
    assert found["usual", "liver"] == pytest.approx(2 * voxels / (32**3 + voxels), abs=1e-6)
    assert found["usual", "spleen"] == 0
    assert {hospital for hospital, _ in found} == ({"usual"} if hospitals == 1 else {"usual", "permuted"})
    log = (only_run(tmp_path) / "log.txt").read_text()
    assert "known before the first hospital: liver, spleen" in log
    shown = "\n".join(path.read_text() for path in only_run(tmp_path).glob("*.yaml"))
    assert "<model>" in shown
    assert "trained" not in shown


def test_weights_on_another_spacing_end_the_run_before_it_starts(tmp_path: Path, capsys) -> None:
    assert run(tmp_path, *all_liver(tmp_path), *SMALL) == 2
    assert "stream.spacing=[5.5,5.5,4.5] stream.patch=[16,24,32]" in capsys.readouterr().err
