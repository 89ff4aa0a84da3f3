"""A drawn hospital as ordinary NIfTI files."""

import json

import nibabel as nib
import numpy as np

from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom.writing import write_hospital


def test_files_hold_the_same_voxels_and_the_manifest_names_them(tmp_path):
    layout = PhantomLayout("h", train=2, test=1, shape=(20, 24, 16), organs=["liver", "spleen"])
    manifest = json.loads(write_hospital(layout, tmp_path).read_text())
    assert manifest["labels"] == {"liver": 1, "spleen": 2}
    assert [entry["split"] for entry in manifest["cases"]] == ["train", "train", "test"]
    for case, entry in zip(layout.cases(), manifest["cases"], strict=True):
        raw = layout.load(case)
        image, label = (nib.load(tmp_path / entry[key]) for key in ("image", "label"))
        assert image.get_data_dtype() == np.int16
        assert np.array_equal(np.asarray(image.dataobj), raw.image)
        assert np.array_equal(np.asarray(label.dataobj), raw.label)
        assert np.array_equal(image.affine, raw.affine)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert entry["id"] == case.id
