"""Every labelled scan of the shared collection, ingested on its own grid and on another, against its catalogue."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.ingest import ingest
from lifelong_ct.data.labels import default_vocabulary
from lifelong_ct.data.layouts.manifest import ManifestLayout
from lifelong_ct.data.store import VolumeStore

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CATALOGUE = DATA / "manifest.json"
CANONICAL = {
    "gtv": "any_tumor",
    "vertebra_21": "vertebrae_L2",  # TPTBox counts from the first cervical one
    "vertebra_22": "vertebrae_L3",
    "vertebra_23": "vertebrae_L4",
}


def labelled() -> list[dict[str, Any]]:
    """Cases with a scan and labels."""
    cases = json.loads(CATALOGUE.read_text())["cases"] if CATALOGUE.exists() else []
    return [case for case in cases if "labels" in case and len(case["files"]) == 2]


def known(case: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Canonical organ → what the catalogue says, of the organs that the vocabulary has."""
    found: dict[str, dict[str, Any]] = {}
    for name, facts in case["labels"].items():
        try:
            found[default_vocabulary().canonical(CANONICAL.get(name, name))] = facts
        except LifelongCTError:
            continue
    return found


@pytest.mark.skipif(not CATALOGUE.exists(), reason="no shared data")
def test_the_collection_has_its_labelled_scans():
    assert len(labelled()) == 12


@pytest.mark.parametrize("case", labelled(), ids=lambda case: case["case"])
def test_a_labelled_scan(case, tmp_path):
    organs = known(case)
    if not organs:
        pytest.skip(f"the vocabulary has none of {', '.join(case['labels'])}")
    image, label = (file["path"] for file in case["files"])
    row = {
        "id": case["case"],
        "patient": case["patient"],
        "split": "train",
        "modality": case["modality"],
        "organs": list(organs),
        "image": image,
        "label": label,
    }
    manifest = {"labels": {organ: facts["id"] for organ, facts in organs.items()}, "cases": [row]}
    layout = ManifestLayout("shared", manifest=manifest, root=str(DATA), other_labels="ignore")
    cases = list(layout.cases())
    store = VolumeStore(tmp_path, Ledger({"ram": "512MiB", "disk": "64MiB"}), 0)
    native = ingest(layout, cases, store, None)[0]
    voxels, ids = native.read((0, 0, 0), native.shape)
    raw = layout.load(cases[0])
    np.testing.assert_array_equal(voxels[0], raw.image)
    np.testing.assert_array_equal(ids, raw.label)
    assert sorted(native.shape) == sorted(case["shape"])
    assert sorted(native.spacing) == pytest.approx(sorted(case["spacing_mm"]), abs=0.05)
    for organ, facts in organs.items():
        mask = raw.mask(organ)
        ml = mask.sum() * np.prod(native.spacing) / 1000
        assert ml == pytest.approx(facts["ml"], abs=0.06 + 0.002 * facts["ml"]), organ
        if case["modality"] == "CT" and "hu_median" in facts:
            assert np.median(voxels[0][mask]) == pytest.approx(facts["hu_median"], abs=1), organ
    resampled = ingest(layout, cases, store, (3.0, 3.0, 3.0))[0]
    wanted = np.array(native.shape) * native.spacing / 3.0
    assert np.abs(np.array(resampled.shape) - wanted).max() <= 0.5
    assert len({native.key, resampled.key}) == len(list(tmp_path.rglob("*.lctvol"))) == 2
