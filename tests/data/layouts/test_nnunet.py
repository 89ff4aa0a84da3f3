"""nnU-Net v2 datasets: names, channels, regions, folds."""

import json
from pathlib import Path

import numpy as np
import pytest
from scans import save

from lifelong_ct.core.errors import DataError, LifelongCTError
from lifelong_ct.data.layouts import open_layout

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (6, 4, 4)
LABELS = {"background": 0, "spleen": 1, "liver": 2}


def scan(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def planes(*ids: int) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    for x, number in enumerate(ids):
        label[x] = number
    return label


def write(root: Path, train=("a", "b"), test=(), channels=("CT",), ids=(1, 2), labels=LABELS, **more) -> Path:
    """A dataset whose label maps are planes of `ids` across x."""
    for part, names in (("Tr", train), ("Ts", test)):
        for seed, name in enumerate(names):
            for c in range(len(channels)):
                save(scan(10 * seed + c), AFFINE, root / f"images{part}" / f"{name}_{c:04d}.nii.gz")
            save(planes(*ids), AFFINE, root / f"labels{part}" / f"{name}.nii.gz")
    content = {
        "channel_names": {str(c): name for c, name in enumerate(channels)},
        "labels": labels,
        "numTraining": len(train),
        "file_ending": ".nii.gz",
        **more,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def layout(root: Path, **options):
    return open_layout({"name": "nn", "layout": "nnunet", "root": str(root), **options})


def test_folders_say_what_a_case_is_for(tmp_path):
    found = layout(write(tmp_path, test=["c"], licence="CC0"))
    cases = list(found.cases())
    assert [(case.id, case.split) for case in cases] == [("a", "train"), ("b", "train"), ("c", "test")]
    assert {(case.organs, case.modality, case.licence) for case in cases} == {
        (("liver", "spleen"), "CT", "CC0")
    }
    raw = found.load(cases[2])
    assert (raw.mask("spleen") == (planes(1, 2) == 1)).all()
    assert (raw.mask("liver") == (planes(1, 2) == 2)).all()
    assert (raw.image == scan(0)).all()


def test_without_labels_of_test_cases_somebody_has_to_say_it(tmp_path):
    write(tmp_path)
    save(scan(7), AFFINE, tmp_path / "imagesTs" / "x_0000.nii.gz")
    with pytest.raises(DataError, match="no labelsTs") as caught:
        layout(tmp_path)
    assert "test: [" in caught.value.fix
    cases = {case.id: case for case in layout(tmp_path, test=["b"]).cases()}
    assert {name: case.split for name, case in cases.items()} == {"a": "train", "b": "test", "x": "test"}
    assert (cases["x"].organs, cases["x"].label) == ((), None)


def test_a_fold_of_nnunets_own_splits(tmp_path):
    write(tmp_path, train=["a", "b", "c"], test=["t"])
    folds = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["b", "c"], "val": ["a"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    sides = {case.id: case.split for case in layout(tmp_path, fold=1).cases()}
    assert sides == {"a": "test", "b": "train", "c": "train"}
    elsewhere = tmp_path / "nnUNet_preprocessed" / "splits_final.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text(json.dumps(folds[:1]))
    sides = {case.id: case.split for case in layout(tmp_path, fold=0, splits=str(elsewhere)).cases()}
    assert sides == {"a": "train", "b": "train", "c": "test"}
    for options, words in (
        ({"fold": 2}, "no fold 2"),
        ({"fold": 0, "test": ["a"]}, "beside `test`"),
        ({"fold": 0, "splits": "gone.json"}, "cannot be read"),
        ({"fold": 0, "splits": "dataset.json"}, "expected a list"),
    ):
        with pytest.raises(DataError, match=words):
            layout(tmp_path, **options)
    elsewhere.write_text(json.dumps([{"train": ["a"], "val": ["c", "gone"]}]))
    found = list(layout(tmp_path, fold=0, splits=str(elsewhere)).inspect())
    told = [item.what for item in found if isinstance(item, LifelongCTError)]
    assert told == ["it is in none of the lists", "no case fits this entry"]


def test_channels_are_files(tmp_path):
    found = layout(write(tmp_path, train=["a"], channels=("T1", "T2")), test=[])
    (case,) = found.cases()
    assert ([path.name for path in case.images], case.modality) == (["a_0000.nii.gz", "a_0001.nii.gz"], "MR")
    assert found.load(case).image.shape == (2, *SHAPE)
    (tmp_path / "imagesTr" / "a_0001.nii.gz").rename(tmp_path / "imagesTr" / "a_0003.nii.gz")
    (error,) = layout(tmp_path, test=[]).inspect()
    assert "it has 3 channels, dataset.json 2" in error.what
    (tmp_path / "imagesTr" / "a_0003.nii.gz").unlink()
    (error,) = layout(tmp_path, test=[]).inspect()
    assert (error.code, error.where.endswith("a_0001.nii.gz")) == ("missing", True)


@pytest.mark.parametrize(
    ("channels", "modality"), [(["CT", "CT"], "CT"), (["MRI"], "MR"), (["CT", "T1"], "CT+MR"), (["ct"], "CT")]
)
def test_the_modality_is_that_of_the_channels(channels, modality, tmp_path):
    (case,) = layout(write(tmp_path, train=["a"], channels=channels), test=[]).cases()
    assert case.modality == modality


def test_an_unknown_channel_needs_a_modality(tmp_path):
    write(tmp_path, train=["a"], channels=["zscore"])
    with pytest.raises(DataError, match="zscore") as caught:
        layout(tmp_path, test=[])
    assert "modality" in caught.value.fix
    (case,) = layout(tmp_path, test=[], modality="MR").cases()
    assert case.modality == "MR"


def test_a_region_is_an_organ_with_several_ids(tmp_path):
    labels = {"background": 0, "liver": [1, 2], "liver_tumor": 2}
    write(tmp_path, train=["a"], labels=labels, regions_class_order=[1, 2])
    found = layout(tmp_path, test=[])
    (case,) = found.cases()
    assert case.label_ids == {"liver": (1, 2), "liver_tumor": (2,)}
    raw = found.load(case)
    assert (raw.mask("liver") == (planes(1, 2) > 0)).all()
    assert (raw.mask("liver_tumor") == (planes(1, 2) == 2)).all()


def test_names_that_are_no_organs(tmp_path):
    write(tmp_path, train=["a"], labels={"background": 0, "spleen": 1, "thingamajig": 2})
    with pytest.raises(LifelongCTError, match="thingamajig") as caught:
        layout(tmp_path, test=[])
    assert "labels: {organ: id}" in caught.value.fix
    (case,) = layout(tmp_path, test=[], labels={"spleen": 1, "liver": [2]}).cases()
    assert case.label_ids == {"spleen": (1,), "liver": (2,)}
    found = layout(tmp_path, test=[], organs=["spleen"])
    (case,) = found.cases()
    assert case.organs == ("spleen",)
    assert set(np.unique(found.load(case).label)) == {0, 1}, "declared, and no organ"
    strict = layout(tmp_path, test=[], labels={"spleen": 1})
    (case,) = strict.cases()
    with pytest.raises(DataError, match="not declared"):
        strict.load(case)


@pytest.mark.parametrize("ids", ["one", 1.5, True, [1, 0], [], -1])
def test_ids_that_are_none(ids, tmp_path):
    write(tmp_path, labels={"background": 0, "liver": ids})
    with pytest.raises(DataError, match="the id of 'liver'"):
        layout(tmp_path, test=[])


def test_what_nobody_annotated_is_unknown(tmp_path):
    write(tmp_path, train=["a"], labels={"background": 0, "spleen": 1, "ignore": 2})
    found = layout(tmp_path, test=[])
    (case,) = found.cases()
    raw = found.load(case)
    assert (case.organs, raw.overlaps) == (("spleen",), ((),))
    assert (raw.label == planes(1, 2)).all(), "1 is the spleen, 2 the empty set of organs"


def test_a_map_that_ships_with_the_library_says_what_ids_mean(tmp_path):
    write(tmp_path, train=["a"], labels={"background": 0, "liver": 1, "cancer": 2})
    (case,) = layout(tmp_path, test=[], labels="MSD Liver").cases()
    assert case.label_ids == {"liver": (1,), "liver_tumor": (2,)}
    with pytest.raises(LifelongCTError, match="MSD Livr"):
        layout(tmp_path, test=[], labels="MSD Livr")


def test_cases_may_be_listed_in_the_description(tmp_path):
    write(tmp_path / "elsewhere", train=["a"])
    rows = {"p1": {"images": ["elsewhere/imagesTr/a_0000.nii.gz"], "label": "elsewhere/labelsTr/a.nii.gz"}}
    write(tmp_path, train=(), dataset=rows)
    found = layout(tmp_path, test=[])
    (case,) = found.cases()
    assert (case.id, case.images) == ("p1", (tmp_path / "elsewhere" / "imagesTr" / "a_0000.nii.gz",))
    assert (found.load(case).mask("spleen") == (planes(1, 2) == 1)).all()
    write(tmp_path, train=(), dataset={"p1": {"images": "a.nii.gz"}})
    with pytest.raises(DataError, match="expected"):
        list(layout(tmp_path, test=[]).cases())


def test_files_that_do_not_fit_are_told(tmp_path):
    write(tmp_path, test=["c"])
    (tmp_path / "labelsTr" / "a.nii.gz").unlink()
    save(planes(1), AFFINE, tmp_path / "labelsTr" / "z.nii.gz")
    save(scan(1), AFFINE, tmp_path / "imagesTs" / "b_0000.nii.gz")
    (tmp_path / "imagesTr" / "notes.txt").write_text("x")
    told = [
        item.what if isinstance(item, LifelongCTError) else item.id for item in layout(tmp_path).inspect()
    ]
    assert told == [
        "the file does not exist",
        "b",
        "it is a label without an image",
        "it is in imagesTr and in imagesTs",
        "c",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}}, ["layout: msd", "id"]),
        ({"file_ending": ".nrrd"}, [".nrrd", ".nii.gz"]),
        ({"channel_names": None, "modality": {"0": "CT"}}, ["channel_names", "layout: msd"]),
    ],
)
def test_another_description_is_told_apart(change, words, tmp_path):
    write(tmp_path, **change)
    with pytest.raises(DataError) as caught:
        layout(tmp_path, test=[])
    assert all(word in str(caught.value) for word in words)


def test_another_folder_is_told_what_was_expected_and_what_is_there(tmp_path):
    write(tmp_path / "Dataset001_North")
    with pytest.raises(
        DataError, match=r"expected a dataset with dataset\.json.*found 1 folders and 0 files"
    ):
        layout(tmp_path)
    (tmp_path / "Dataset001_North" / "imagesTr").rename(tmp_path / "Dataset001_North" / "images")
    with pytest.raises(DataError, match="found 2 folders and 1 files"):
        list(layout(tmp_path / "Dataset001_North", test=[]).cases())
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(DataError, match="no JSON object"):
        layout(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        layout(tmp_path)
