"""Whole runs on what is no NIfTI of CT: DICOM, MR, several channels, meshes as labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import trimesh
from scans import ORGANS, conf, drawn, entry, save
from slices import write_scan
from whole_runs import only_run, places, results, weights

from lifelong_ct.cli.main import main
from lifelong_ct.data.bricks import read_header
from lifelong_ct.training import checkpoint

TINY = ("debug=tiny", "stream.limit=null", "stream.first=null", "reporter=quiet", "trainer.steps=3")
LABELS = {organ: i for i, organ in enumerate(ORGANS, start=1)}
SPLITS = ("train", "test")


def run(folder: Path, layout: dict[str, Any], *args: str) -> Path:
    """Trains on one hospital; the run folder."""
    folder.mkdir(exist_ok=True)
    assert main([*conf(folder / "conf", north=layout), *TINY, *places(folder), *args]) == 0
    assert results(only_run(folder))["status"] == "finished"
    return only_run(folder)


def manifest(folder: Path, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    (folder / "manifest.json").write_text(json.dumps({"labels": LABELS, "cases": rows}))
    return {"manifest": str(folder / "manifest.json"), **more}


def written(folder: Path, modality: str, *channels: Any) -> list[dict[str, Any]]:
    """Rows of scans, each channel a function of the drawn HU."""
    rows = []
    for split, raw in zip(SPLITS, drawn(), strict=True):
        images = [f"{split}_{k}.nii.gz" for k in range(len(channels))]
        for image, channel in zip(images, channels, strict=True):
            save(channel(raw.image), raw.affine, folder / image)
        save(raw.label, raw.affine, folder / f"{split}_seg.nii.gz")
        rows.append(entry(split, split, image=images, label=f"{split}_seg.nii.gz", modality=modality))
    return rows


def magnitude(hu: np.ndarray) -> np.ndarray:
    """Like MR: positive, and 0 outside the body."""
    return np.where(hu > -300, hu + 301, 0).astype(np.float32)


def test_a_folder_of_dicom_gives_the_result_of_the_phantom_to_the_last_bit(tmp_path: Path) -> None:
    """What `drawn` is made of, once drawn and once read."""
    data = tmp_path / "data"
    for split, raw in zip(SPLITS, drawn(), strict=True):
        write_scan(data / split, raw.image, raw.affine, PatientID=split)
        save(raw.label, raw.affine, data / f"{split}.nii.gz")
    read = {
        "layout": "dicom", "root": str(data), "split": {split: [split] for split in SPLITS},
        "label": "{case}.nii.gz", "labels": LABELS,
    }  # fmt: skip
    phantom = {"layout": "phantom", "train": 1, "test": 1, "shape": [32, 32, 32], "organs": list(ORGANS)}
    first, second = (run(tmp_path / n, x) for n, x in (("phantom", phantom), ("dicom", read)))
    assert weights(first) == weights(second)
    assert results(first)["scores"] == results(second)["scores"]


def test_the_unit_of_mr_does_not_reach_the_model(tmp_path: Path) -> None:
    folders = []
    for factor in (1.0, 8.0):  # a power of two: not a bit is rounded
        (tmp_path / f"{factor}").mkdir()
        rows = written(tmp_path / f"{factor}", "MR", lambda hu, f=factor: magnitude(hu) * f)
        folders.append(run(tmp_path / f"{factor}", manifest(tmp_path / f"{factor}", rows)))
    assert weights(folders[0]) == weights(folders[1])
    headers = [
        sorted(read_header(p)[0].scales for p in folder.parents[1].rglob("*.lctvol")) for folder in folders
    ]
    np.testing.assert_allclose(np.array(headers[1]), 8 * np.array(headers[0]))


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained with replay in bf16 on CT and MR together."""
    folder = tmp_path_factory.mktemp("two") / "hospital"
    folder.mkdir()
    layout = manifest(folder, written(folder, "CT+MR", lambda hu: hu, magnitude))
    run(
        folder, layout, "+stream.channels=2", "strategy=replay", "memory.exemplars=512KiB", "trainer.amp=bf16",
        "stream.patch=[32,32,32]",  # with 16, the last level has 2 voxels: PyTorch's bf16 gradient is garbage there
    )  # fmt: skip
    return folder


def test_two_channels_reach_store_model_and_exemplars(two_channels: Path) -> None:
    state = checkpoint.load(max((only_run(two_channels) / "checkpoints").glob("after_*")))
    first = next(w for w in state["learner"]["model"].values() if w.ndim == 5)
    assert first.shape[1] == 2
    assert first[:, 1].abs().sum() > 0
    assert (state["serving"]["channels"], state["serving"]["modality"]) == (2, "CT+MR")
    shapes = {tuple(row["parts"]["x"][1]) for row in state["strategy"][0]["memory"]["rows"]}
    assert shapes == {(2, 32, 32, 32)}
    for path in two_channels.rglob("*.lctvol"):
        header, _ = read_header(path)
        assert header.shape[0] == 2
        assert header.scales[0] == (1.0, 0.0)
        assert header.scales[1][0] != 1.0


def predict(folder: Path, given: str, *args: str) -> int:
    usual = [
        *conf(folder / "conf", north={"manifest": str(folder / "manifest.json")}),
        *TINY,
        *places(folder),
    ]
    where = [f"from={only_run(folder)}", f"in={given}", f"out={folder / 'out'}"]
    return main(["predict", *where, *usual, *args])


def test_prediction_takes_a_file_per_channel(two_channels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ",".join(str(two_channels / f"test_{k}.nii.gz") for k in range(2))
    assert predict(two_channels, pair, "+stream.channels=2") == 0
    made = nib.load(two_channels / "out" / "test_0_seg.nii.gz")
    assert made.shape == drawn()[1].shape
    (line,) = csv.DictReader((two_channels / "out" / "volumes.csv").open())
    assert set(line) == {"scan", *(f"{organ}_ml" for organ in ORGANS)}
    capsys.readouterr()
    assert predict(two_channels, pair.split(",")[0], "+stream.channels=2") == 2
    assert "has 1 channels, the model 2" in capsys.readouterr().err
    assert predict(two_channels, pair) == 2  # the model of the default stream
    assert "another architecture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["2 channels, the stream 1", "stream.channels: 2"]),
        (["+stream.channels=2", "model.backbone.in_channels=1"], ["takes 1 channels", "have 2"]),
        (["+stream.channels=0"], ["channels=0"]),
    ],
)
def test_another_number_of_channels_ends_the_run_before_it_starts(
    args: list[str], words: list[str], two_channels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = {"manifest": str(two_channels / "manifest.json")}
    assert main([*conf(tmp_path / "conf", north=layout), *TINY, *places(tmp_path), *args]) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words)
    assert not list(tmp_path.rglob("*.lctvol"))


def test_meshes_as_labels_are_those_of_their_image(tmp_path: Path) -> None:
    """A ball per organ: the same run from surfaces as from voxels."""
    masks = {}
    for split, raw in zip(SPLITS, drawn(), strict=True):
        save(raw.image, raw.affine, tmp_path / f"{split}.nii.gz")
        ids = np.zeros(raw.shape, np.uint8)
        centre = (raw.affine @ [16, 16, 16, 1])[:3]
        ball = trimesh.creation.icosphere(subdivisions=3, radius=30).apply_translation(centre)
        ball.vertices *= (-1, -1, 1)
        ball.export(tmp_path / f"{split}.stl")
        spots = np.moveaxis(np.indices(raw.shape), 0, -1) @ raw.affine[:3, :3].T + raw.affine[:3, 3] - centre
        ids[np.linalg.norm(spots, axis=-1) < 30] = 1
        masks[split] = int(ids.sum())
    rows = [entry(s, s, image=f"{s}.nii.gz", label=f"{s}.stl", organs=["liver"]) for s in SPLITS]
    folder = run(tmp_path / "run", manifest(tmp_path, rows, shapes={"space": "LPS"}))
    voxel = float(abs(np.linalg.det(drawn()[1].affine[:3, :3]))) / 1000
    (row,) = csv.DictReader((folder / "cases.csv").open())
    assert float(row["reference_ml"]) == pytest.approx(masks["test"] * voxel, rel=0.03)
