"""A phantom hospital as the files of each convention, and the entry of a stream that reads them again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scans import save

from lifelong_ct.core.types import Case
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom.writing import write_hospital
from lifelong_ct.data.types import RawCase

Drawn = list[tuple[Case, RawCase]]
Entry = dict[str, Any]
SYNTHETIC = {"label_kind": "synthetic", "licence": "CC0-1.0"}


def drawn(hospital: PhantomLayout) -> Drawn:
    return [(case, hospital.load(case)) for case in hospital.cases()]


def masks(raw: RawCase, folder: Path, names: dict[str, str] | None = None) -> None:
    for i, organ in enumerate(raw.organs, start=1):
        save(
            (raw.label == i).astype("uint8"), raw.affine, folder / f"{(names or {}).get(organ, organ)}.nii.gz"
        )


def abdomen_atlas(cases: Drawn, root: Path) -> Entry:
    """Folders named as in the release; the organs are those of the phantom."""
    test = []
    for number, (case, raw) in enumerate(cases, start=1):
        name = f"BDMAP_{number:08d}"
        test += [name] if case.split == "test" else []
        save(raw.image, raw.affine, root / name / "ct.nii.gz")
        masks(raw, root / name / "segmentations")
    organs = list(cases[0][1].organs)
    return {"layout": "abdomen_atlas", "root": str(root), "version": "1.0", "test": test, "organs": organs}


def abdomen_atlas_combined(cases: Drawn, root: Path) -> Entry:
    """The Mini release's label maps: its ids, whichever organs a case has."""
    from lifelong_ct.data.phantom import ORGANS

    entry = abdomen_atlas(cases, root)
    for number, (_, raw) in enumerate(cases, start=1):
        ids = [0, *(1 + ORGANS.index(organ) for organ in raw.organs)]
        map_of_all = raw.label * 0
        for local, native in enumerate(ids):
            map_of_all[raw.label == local] = native
        save(map_of_all, raw.affine, root / f"BDMAP_{number:08d}" / "combined_labels.nii.gz")
    return {**entry, "version": "1.0Mini", "combined": True}


def nnunet(cases: Drawn, root: Path) -> Entry:
    """Ids in the reverse order of the organs."""
    organs = cases[0][1].organs
    for case, raw in cases:
        part = "Tr" if case.split == "train" else "Ts"
        turned = raw.label * 0
        for i in range(1, len(organs) + 1):
            turned[raw.label == i] = len(organs) + 1 - i
        save(raw.image, raw.affine, root / f"images{part}" / f"{case.id}_0000.nii.gz")
        save(turned, raw.affine, root / f"labels{part}" / f"{case.id}.nii.gz")
    content = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{o: len(organs) - i for i, o in enumerate(organs)}},
        "numTraining": sum(case.split == "train" for case, _ in cases),
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return {"layout": "nnunet", "root": str(root)}


def msd(cases: Drawn, root: Path) -> Entry:
    organs = cases[0][1].organs
    rows = []
    for case, raw in cases:
        save(raw.image, raw.affine, root / "imagesTr" / f"{case.id}.nii.gz")
        save(raw.label, raw.affine, root / "labelsTr" / f"{case.id}.nii.gz")
        rows.append({"image": f"./imagesTr/{case.id}.nii.gz", "label": f"./labelsTr/{case.id}.nii.gz"})
    save(cases[0][1].image, cases[0][1].affine, root / "imagesTs" / "kept_back.nii.gz")
    content = {
        "name": "Phantom",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(i): organ for i, organ in enumerate(organs, start=1)}},
        "numTraining": len(rows),
        "numTest": 1,
        "training": rows,
        "test": ["./imagesTs/kept_back.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return {"layout": "msd", "root": str(root), "test": [c.id for c, _ in cases if c.split == "test"]}


def total_segmentator(cases: Drawn, root: Path) -> Entry:
    """TotalSegmentator's names of two organs."""
    names = {"gall_bladder": "gallbladder", "postcava": "inferior_vena_cava"}
    lines = ["image_id;age;gender;institute;study_type;split"]
    for number, (case, raw) in enumerate(cases):
        save(raw.image, raw.affine, root / f"s{number:04d}" / "ct.nii.gz")
        masks(raw, root / f"s{number:04d}" / "segmentations", names)
        lines.append(f"s{number:04d};54;m;A;ct abdomen;{case.split}")
    (root / "meta.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    return {"layout": "total_segmentator", "root": str(root)}


def manifest(cases: Drawn, root: Path, hospital: PhantomLayout) -> Entry:
    return {"layout": "manifest", "manifest": str(write_hospital(hospital, root))}


def manifest_csv(cases: Drawn, root: Path, hospital: PhantomLayout) -> Entry:
    content = json.loads(write_hospital(hospital, root).read_text())
    labels = ";".join(f"{organ}={i}" for organ, i in content["labels"].items())
    rows = [{**row, "organs": ";".join(row["organs"]), "labels": labels} for row in content["cases"]]
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (root / "manifest.json").unlink()
    return {"layout": "manifest", "manifest": str(root / "manifest.csv")}


FOLDERS: dict[str, Callable[[Drawn, Path], Entry]] = {
    each.__name__: each for each in (abdomen_atlas, abdomen_atlas_combined, nnunet, msd, total_segmentator)
}
MANIFESTS: dict[str, Callable[[Drawn, Path, PhantomLayout], Entry]] = {
    each.__name__: each for each in (manifest, manifest_csv)
}
KINDS = (*FOLDERS, *MANIFESTS)


def write(kind: str, hospital: PhantomLayout, root: Path) -> Entry:
    """Files of one convention below `root`; what a stream says to read them."""
    if kind in MANIFESTS:
        return MANIFESTS[kind](drawn(hospital), root, hospital)
    return {**FOLDERS[kind](drawn(hospital), root), **SYNTHETIC}
