"""Scans without labels, from files: they are read, they teach nothing, and nothing is taught against them."""

import json

import numpy as np
import pytest
from hospitals import Heard, options
from scans import save

from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.store import VolumeStore
from lifelong_ct.streams.joint_shift import JointShift
from lifelong_ct.training.run import Run
from lifelong_ct.training.volumes import Volumes


def hospital(root, name, masks):
    """Four training cases and a test case, labelled by one map or by a mask per organ."""
    rng = np.random.default_rng([*name.encode()])
    for i in range(5):
        image = rng.integers(-1000, 1000, (16, 16, 16)).astype(np.int16)
        label = np.zeros((16, 16, 16), np.uint8)
        label[10:14, 2:6, 2:6], label[2:6, 2:6, 2:6] = 1, 2
        save(image, np.eye(4), root / name / f"c{i}" / "ct.nii.gz")
        if masks:
            for value, organ in enumerate(("liver", "spleen"), start=1):
                save(
                    (label == value).astype(np.uint8),
                    np.eye(4),
                    root / name / f"c{i}" / "segmentations" / f"{organ}.nii.gz",
                )
        else:
            save(label, np.eye(4), root / name / f"c{i}" / "combined_labels.nii.gz")
    return root / name


def made(tmp_path, fraction):
    """The organs of a manifest with label maps, and of folders of masks."""
    hospital(tmp_path, "maps", masks=False)
    cases = [
        {
            "id": f"c{i}", "image": f"c{i}/ct.nii.gz", "label": f"c{i}/combined_labels.nii.gz", "patient": f"p{i}",
            "modality": "CT", "split": "test" if i == 4 else "train", "organs": ["liver", "spleen"],
        }
        for i in range(5)
    ]  # fmt: skip
    manifest = tmp_path / "maps" / "manifest.json"
    manifest.write_text(json.dumps({"hospital": "maps", "labels": {"liver": 1, "spleen": 2}, "cases": cases}))
    hospital(tmp_path, "masks", masks=True)
    folders = {
        "layout": "total_segmentator",
        "root": str(tmp_path / "masks"),
        "test": ["c4"],
        "organs": ["liver", "spleen"],
    }
    return JointShift(
        name="s",
        organs=["liver", "spleen"],
        patch=[8, 8, 8],
        steps=2,
        hospitals=[
            {"name": "maps", "layout": "manifest", "manifest": str(manifest)},
            {"name": "masks", **folders},
        ],
        protocols={"maps": ["liver"], "masks": ["spleen"]},
        label_fraction=fraction,
    )


@pytest.mark.parametrize("which", [0, 1])
def test_half_of_the_cases_arrive_as_scans_alone(tmp_path, which):
    stream = made(tmp_path, 0.5)
    volumes = Volumes(stream, VolumeStore(tmp_path / "store", Ledger(), 0), False, lambda *args: None)
    organ = ("liver", "spleen")[which]
    found = volumes.train(stream.experiences[which].hospitals)
    assert sorted(volume.organs for volume in found) == [(), (), (organ,), (organ,)]
    space = stream.label_space
    space.see(space.organs)
    for volume in found:
        _, y = volume.read((0, 0, 0), (16, 16, 16), lut=space.encode_lut(volume.organs, volume.overlaps))
        open_to = space.candidates(3)[y].sum(-1)
        if volume.organs:
            assert (y == space.channel(organ)).sum() == 4**3
            assert set(np.unique(open_to)) == {1, 2}, "the organ itself; background or the other one"
        else:
            assert (open_to == 3).all(), "anything"


def test_without_any_label_nothing_is_learnt_and_everything_is_scored(tmp_path):
    run = Run(options(made(tmp_path, 0), tmp_path), Heard())
    document = run.execute()
    assert document["status"] == "finished"
    assert run.space.width == 1
    assert {s["mean"] for s in document["scores"]} == {0.0}
    assert document["summary"]["acc"] == 0.0
