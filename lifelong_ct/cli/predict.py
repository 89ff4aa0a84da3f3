"""The verb `predict`: scans in; segmentation in the same geometry, organ volumes, pictures and a flag out."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from lifelong_ct.cli import arguments, compose
from lifelong_ct.cli.arguments import need, newest_checkpoint, take
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.cli.instantiate import build
from lifelong_ct.cli.telling import told
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.files import unwritable, write_json, write_text
from lifelong_ct.core.ledger import KINDS, Ledger
from lifelong_ct.data.images import read_image
from lifelong_ct.data.scales import MODALITIES
from lifelong_ct.data.segmentation_file import write_labels
from lifelong_ct.evaluation.certainty import CHECK_BELOW
from lifelong_ct.reporting import style
from lifelong_ct.reporting.preview import preview
from lifelong_ct.reporting.text import shown_path
from lifelong_ct.training.distributed import place
from lifelong_ct.training.options import EvaluationOptions
from lifelong_ct.training.scoring import mirroring_of
from lifelong_ct.training.segmenting import Segmentation, segment
from lifelong_ct.training.serving import PREDICTING, WINDOWS, Served, load_model

SUFFIXES = (".nii", ".nii.gz")
Scan = list[Path]
"""A file per channel."""


def main(args: Sequence[str]) -> int:
    """`from=RUN in=SCAN_OR_FOLDER out=FOLDER [modality=MR]`; a scan is a file, a folder of DICOM, or one of these
    per channel with commas between. A scan that cannot be used is told at the end, and the exit code is 2 then. Windows
    and autocast are those of the run, unless the command names them (`evaluation.roi`, `overlap`, `precision`, `mirror`,
    `trainer.amp`)."""
    rest = list(args)
    source, given = need(rest, "from", "RUN_FOLDER"), need(rest, "in", "SCAN.nii.gz").split(",")
    out, modality = Path(need(rest, "out", "FOLDER")), take(rest, "modality")
    request = compose.parse(rest)
    blueprint = Blueprint(compose.compose(request), request.overrides)
    for path in map(Path, given):
        blueprint.redact.hide_root(path.parent if path.suffix else path, "in")
        blueprint.redact.hide_path(path, "in", "in")
    blueprint.redact.hide_root(out, "out")
    with blueprint.discreet():
        scans = _scans([Path(path) for path in given], out)
        named = arguments.named(request.overrides, PREDICTING)
        predictor = Predictor.of(blueprint.values, source, out, modality, named)
        failed: dict[int, Exception] = {}
        for number, (name, scan) in enumerate(track(scans.items(), "predicting"), start=1):
            try:
                predictor.predict(name, scan)
            except Exception as error:
                if len(scans) == 1:
                    raise
                failed[number] = error
        return _told(predictor, len(scans), failed, blueprint)


@dataclass
class Predictor:
    """Predicts scans one by one into a folder; its tables are whole after each of them.

    Attributes:
        served: the model.
        options: window, overlap, precision and mirroring.
        device: of the model.
        amp: autocast type.
        ledger: asked for the memory of each scan.
        modality: of the scans.
        out: the folder.
    """

    served: Served
    options: EvaluationOptions
    device: torch.device
    amp: torch.dtype | None
    ledger: Ledger
    modality: str
    out: Path
    _volumes: list[list[Any]] = field(default_factory=list)
    _quality: list[list[Any]] = field(default_factory=list)

    @classmethod
    def of(
        cls, values: dict[str, Any], source: str, out: Path, modality: str | None, named: set[str]
    ) -> Predictor:
        """From a configuration and a checkpoint; makes the folder and says in it which label is which organ."""
        served = load_model(newest_checkpoint(source), lambda: build(values["model"], "model"))
        given = {key: values["evaluation"][key] for key in WINDOWS}
        options = served.options(EvaluationOptions(metrics=(), **given), named)
        mirroring_of(options, served.label_space.channels)  # refused before a scan is read
        ledger = Ledger({kind: values["memory"].get(kind) for kind in KINDS})
        device = place(values["trainer"]["device"], ledger.limits["gpu"])
        amp = served.autocast(values["trainer"]["amp"], named, device)
        served.model.to(device)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(out, error) from error
        names = ["background", *served.label_space.channels]
        write_json(out / "labels.json", {name: i for i, name in enumerate(names)})
        made = cls(served, options, device, amp, ledger, _modality(modality or served.modality), out)
        made._write_tables()  # those of an earlier call would look like this one's
        return made

    def predict(self, name: str, scan: Scan) -> None:
        """Writes what is predicted of a scan; nothing of an earlier call is left where it fails."""
        labels, picture = self.out / f"{name}_seg.nii.gz", self.out / f"{name}_preview.png"
        for path in (labels, picture):
            path.unlink(missing_ok=True)
        if len(scan) != self.served.channels:
            raise LifelongCTError(
                f"the scan has {len(scan)} channels, the model {self.served.channels}",
                str(scan[0]),
                "give one file per channel, with commas between",
            )
        raw = read_image(scan, self.modality)
        found = segment(self.served, raw, self.options, self.device, self.ledger, self.amp)
        write_labels(labels, found.labels, raw, scan[0])
        image = raw.image if raw.image.ndim == 3 else raw.image[0]
        shown = preview(image, found.labels, self.served.label_space.channels, raw.spacing)
        style.save(shown, picture)
        self._tables(name, found)

    def _tables(self, name: str, found: Segmentation) -> None:
        organs, sure = self.served.label_space.channels, found.certainty
        self._volumes.append([name, *(found.volumes[organ] for organ in organs)])
        parts = ("" if value is None else round(value, 4) for value in sure.of_channels())
        flag = "check" if sure.of_scan() < CHECK_BELOW else "ok"
        self._quality.append([name, round(sure.of_scan(), 4), flag, *parts])
        self._write_tables()

    def _write_tables(self) -> None:
        organs = self.served.label_space.channels
        _write(self.out / "volumes.csv", ["scan", *(f"{organ}_ml" for organ in organs)], self._volumes)
        _write(self.out / "quality.csv", ["scan", "certainty", "flag", *organs], self._quality)


def _write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    write_text(path, text.getvalue())


def _told(predictor: Predictor, scans: int, failed: dict[int, Exception], blueprint: Blueprint) -> int:
    """Says what is there and what is not; the exit code. A log shows numbers where a terminal shows names."""
    folder = shown_path(predictor.out, sys.stdout.isatty())
    good = scans - len(failed)
    tables = f"with volumes.csv and quality.csv in {folder}"
    print(
        f"{good} of {scans} scans predicted{f', {tables}' if good else f'; the tables in {folder} are empty'}"
    )
    for number, error in failed.items():
        real = isinstance(error, LifelongCTError) and sys.stderr.isatty()
        shown = error if real else told(error, blueprint.redact, f"scan {number}", hint="")
        print(f"not predicted, scan {number} of {scans} by name: {shown}", file=sys.stderr)
    return 2 if failed else 0


def _modality(name: str | None) -> str:
    if name is None:
        what = "the model was trained on several modalities"
        raise LifelongCTError(
            what, "modality", f"say which this is: modality= one of {', '.join(MODALITIES)}"
        )
    return name


def _scans(paths: list[Path], out: Path) -> dict[str, Scan]:
    """Name → files of each scan: one path is a scan, a folder of NIfTI scans with a single channel each, or a folder of
    folders of DICOM."""
    for path in paths:
        if not path.exists():
            fix = "give a .nii or .nii.gz file, a folder of them, or a folder of DICOM slices"
            raise LifelongCTError("there is no scan", str(path), fix)
    inside = sorted(_inside(paths[0])) if len(paths) == 1 and paths[0].is_dir() else []
    if inside and paths[0].resolve() == out.resolve():
        what = "the results would lie among the scans, and be taken for scans the next time"
        raise LifelongCTError(what, "out", "give another folder")
    scans: dict[str, Scan] = {}
    for scan in [[path] for path in inside] or [paths]:
        name = scan[0].resolve().name.removesuffix(".gz").removesuffix(".nii")
        if name in scans:
            raise LifelongCTError("two scans have the same name", str(scan[0]), "rename one of them")
        scans[name] = scan
    return scans


def _inside(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    scans = [path for path in files if path.name.endswith(SUFFIXES)]
    return scans or (files if all(path.is_dir() for path in files) else [])
