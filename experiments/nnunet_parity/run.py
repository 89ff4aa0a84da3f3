"""`naive` on one hospital against nnU-Net v2 from its own package, on the CPU: the same plan, first weights, patches, steps
and seeds.

pip install nnunetv2
python experiments/nnunet_parity/run.py --seeds 0,1,2 --out experiments/nnunet_parity
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import yaml
from torch import Tensor

from lifelong_ct.cli import compose
from lifelong_ct.cli.build import Blueprint
from lifelong_ct.core.protocols import Batch
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.evaluation.cases import score_case
from lifelong_ct.evaluation.dice import Dice
from lifelong_ct.training.group import Silent
from lifelong_ct.training.run import Run

NAME = "Dataset001_Usual"
TRAIN, TEST = 16, 8
PATCH = [32, 32, 32]
FEATURES = [8, 16, 32, 64]
PER_EPOCH = 100
"""Steps of what nnU-Net calls an epoch."""
Score = tuple[str, str, float]
"""Case, organ, Dice."""
COLUMNS = ("arm", "seed", "patient", "organ", "dice", "steps", "seconds")
HOSPITAL: dict[str, Any] = {
    "train": TRAIN, "test": TEST, "shape": (48, 48, 48),
    "scanner": {"spacing": [7.0, 7.0, 6.0], "kernel": 2.0, "noise": 10.0},
    "enhancement": {"liver": 115.0, "spleen": 60.0, "kidney": 200.0, "aorta": 160.0, "postcava": 130.0,
                    "pancreas": 85.0, "stomach": 20.0, "gall_bladder": 0.0},
    "organs": ["liver", "spleen", "kidney_left", "kidney_right"],
}  # fmt: skip
"""As the first hospital of stream=phantom_stress: strong contrast, so that a few hundred steps are enough."""


class Files:
    """The hospital as a raw dataset of nnU-Net, planned and preprocessed by nnU-Net."""

    def __init__(self, work: Path) -> None:
        self.work = work
        for key in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{key}"] = str(work / key)
            (work / key).mkdir(parents=True, exist_ok=True)
        os.environ |= {"nnUNet_def_n_proc": "1"}
        layout = PhantomLayout("usual", **HOSPITAL)
        self.organs = layout.organs
        self.cases = [(case, layout.load(case)) for case in layout.cases()]
        self.root, self.plans = work / "raw" / NAME, work / "preprocessed" / NAME / "nnUNetPlans.json"

    def write(self) -> None:
        """imagesTr, labelsTr, imagesTs, labelsTs, dataset.json."""
        for case, raw in self.cases:
            part = "Tr" if case.split == "train" else "Ts"
            _save(raw.image, raw.affine, self.root / f"images{part}" / f"{case.id}_0000.nii.gz")
            _save(raw.label, raw.affine, self.root / f"labels{part}" / f"{case.id}.nii.gz")
        labels = {"background": 0, **{organ: i for i, organ in enumerate(self.organs, start=1)}}
        content = {
            "channel_names": {"0": "CT"},
            "labels": labels,
            "numTraining": TRAIN,
            "file_ending": ".nii.gz",
        }
        (self.root / "dataset.json").write_text(json.dumps(content))

    def plan(self) -> None:
        """nnU-Net's own plan, with a network and a patch for a CPU, and preprocessing by it."""
        from nnunetv2.experiment_planning.plan_and_preprocess_api import (
            extract_fingerprints,
            plan_experiments,
            preprocess,
        )

        os.environ |= {"nnUNet_n_proc_DA": "1"}  # the planner wants a thread
        extract_fingerprints([1], num_processes=1, show_progress_bar=False)
        plan_experiments([1])
        plans = json.loads(self.plans.read_text())
        own = plans["configurations"]["3d_fullres"]
        stages = len(FEATURES)
        own.update(patch_size=PATCH, batch_size=2, batch_dice=False)
        own["architecture"]["arch_kwargs"].update(
            n_stages=stages, features_per_stage=FEATURES, kernel_sizes=[[3, 3, 3]] * stages,
            strides=[[1, 1, 1], *[[2, 2, 2]] * (stages - 1)], n_conv_per_stage=[2] * stages,
            n_conv_per_stage_decoder=[2] * (stages - 1),
        )  # fmt: skip
        self.plans.write_text(json.dumps(plans, indent=1))
        preprocess([1], configurations=("3d_fullres",), num_processes=(1,), show_progress_bar=False)


def _save(voxels: Any, affine: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


class Recorded(Run):
    """A run that keeps what its network began with and what it was shown."""

    def _build(self) -> None:
        super()._build()
        made = self.builder.source

        def kept(*given: Any) -> Any:
            self.learner.model.grow(self.space.width)
            self.first = {name: value.clone() for name, value in self.learner.model.state_dict().items()}
            self.shown = Shown(made(*given))
            return self.shown

        self.builder.source = kept  # type: ignore[assignment,method-assign]


class Shown:
    """A patch source that keeps its batches.

    Args:
        source: of the patches.
    """

    def __init__(self, source: Any) -> None:
        self.source, self.kept = source, list[tuple[Tensor, Tensor]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Those of the source."""
        for batch in self.source.batches(start, stop):
            self.kept.append((batch.x.clone(), batch.y.clone()))
            yield batch


def ours(files: Files, seed: int, steps: int) -> tuple[Recorded, list[Score]]:
    """`strategy=naive`, and the scores that it leaves."""
    conf = files.work / "conf"
    hospital = {"name": "usual", "layout": "nnunet", "root": str(files.root), "sharing": "patches"}
    stream = {
        "_target_": "lifelong_ct.streams.domain_incremental.DomainIncremental", "name": "parity",
        "synthetic": True, "organs": list(files.organs), "spacing": HOSPITAL["scanner"]["spacing"],
        "patch": PATCH, "steps": steps, "exemplars": 0, "hospitals": [hospital], "unseen": [], "order": None,
        "first": None, "limit": None,
    }  # fmt: skip
    (conf / "stream").mkdir(parents=True, exist_ok=True)
    (conf / "stream" / "parity.yaml").write_text(yaml.safe_dump(stream))
    overrides = [
        "model=nnunet", f"model.plans={files.plans}", "stream=parity", "--config-dir", str(conf),
        "strategy=naive", f"seed={seed}", "trainer.batch_size=2", "trainer.clip=12", "augment=none",
        "trainer.schedule=poly", "trainer.optimizer.weight_decay=3e-5", "+trainer.optimizer.amsgrad=true",
        "data.schedule=with_replacement", "data.foreground=0.5", "evaluation.overlap=0.5",
        "evaluation.schedule=final", f"paths.state={files.work / 'state'}", f"paths.store={files.work / 'store'}",
        f"paths.run={files.work / 'runs' / f'naive-s{seed}-{steps}'}",
    ]  # fmt: skip
    request = compose.parse(overrides)
    run = Recorded(Blueprint(compose.compose(request), request.overrides).options(), Silent())
    run.execute()
    matrix = run.results.matrix
    return run, [
        (row.case, row.organ, row.value)
        for row in matrix.rows()
        if row.after == matrix.last and row.metric == "dice" and row.value is not None
    ]


def theirs(files: Files, seed: int, steps: int, run: Recorded) -> Iterator[Score]:
    """nnU-Net's trainer with AdamW, without deep supervision, from the first weights of `run` and on its patches; and
    nnU-Net's predictor."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam

    model: Any = run.learner.model

    class Trainer(nnUNetTrainerAdam):
        made = 0

        def get_dataloaders(self) -> Any:
            batches = [
                {
                    "data": model.backbone.there(model.normalise(x)),
                    "target": model.backbone.there(y).long(),
                }
                for x, y in run.shown.kept
            ]
            return iter(batches), cycle(batches)

        def train_step(self, batch: dict[str, Any]) -> Any:
            for (
                group
            ) in self.optimizer.param_groups:  # with every step, as ours; nnU-Net does with every epoch
                group["lr"] = self.initial_lr * (1 - self.made / steps) ** 0.9
            self.made += 1
            return super().train_step(batch)

        def on_train_end(self) -> None:
            """Nothing is saved."""

    np.random.seed(seed)  # noqa: NPY002 - nnU-Net draws from numpy's global generator
    torch.manual_seed(seed)
    plans = json.loads(files.plans.read_text()) | {"continue_training": False}
    dataset = json.loads((files.root / "dataset.json").read_text())
    trainer = Trainer(plans, "3d_fullres", "all", dataset, torch.device("cpu"))
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = PER_EPOCH, 1
    trainer.num_epochs, trainer.enable_deep_supervision = steps // PER_EPOCH, False
    trainer.initialize()
    trainer.network.load_state_dict(_named_as_theirs(run.first, trainer.network))
    trainer.run_training()
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_gaussian=True, use_mirroring=False, device=torch.device("cpu"),
        perform_everything_on_device=False, allow_tqdm=False,
    )  # fmt: skip
    weights = [trainer.network.state_dict()]
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, weights, dataset, "", None
    )
    ids = {organ: i for i, organ in enumerate(files.organs, start=1)}
    for case, raw in files.cases:
        if case.split != "test":
            continue
        scan = [str(files.root / "imagesTs" / f"{case.id}_0000.nii.gz")]
        reader = trainer.plans_manager.image_reader_writer_class()
        image, properties = reader.read_images(scan)
        labels = predictor.predict_single_npy_array(image, properties, None, None, False)
        for organ, _, dice in score_case(labels.transpose(2, 1, 0), raw, ids, raw.spacing, [Dice()]):
            if dice is not None:  # labels are [z, y, x]
                yield case.id, organ, dice


def _named_as_theirs(own: Mapping[str, Tensor], network: Any) -> dict[str, Tensor]:
    """Weights of our model under the names of nnU-Net's network, which has most of them under several."""
    last = len(network.decoder.seg_layers) - 1
    head = {f"decoder.seg_layers.{last}.{part}": own[f"head.{part}"] for part in ("weight", "bias")}
    ours = {name.removeprefix("backbone.network."): value for name, value in own.items()}
    same = {
        id(value): ours[name] for name, value in network.state_dict(keep_vars=True).items() if name in ours
    }
    found = network.state_dict(keep_vars=True)
    return {name: head.get(name, same.get(id(value), value.detach())) for name, value in found.items()}


ARMS = ("nnU-Net", "lifelong_ct")


def rows(files: Files, seed: int, steps: int) -> Iterator[tuple[Any, ...]]:
    """Dice of every organ of every test patient, by one function for both."""
    start = time.monotonic()
    run, found = ours(files, seed, steps)
    yield from _told("lifelong_ct", seed, steps, found, start)
    start = time.monotonic()
    yield from _told("nnU-Net", seed, steps, list(theirs(files, seed, steps, run)), start)


def _told(arm: str, seed: int, steps: int, found: list[Score], start: float) -> Iterator[tuple[Any, ...]]:
    seconds = round(time.monotonic() - start)
    patients = sorted({case for case, _, _ in found})
    for case, organ, dice in found:
        yield arm, seed, patients.index(case), organ, round(dice, 5), steps, seconds


def table(path: Path) -> str:
    """Mean Dice per arm and seed, and the difference of the means."""
    with open(path, newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    seeds = sorted({row["seed"] for row in read})
    means = {
        arm: [float(np.mean([float(r["dice"]) for r in read if (r["arm"], r["seed"]) == (arm, s)])) for s in seeds]
        for arm in ARMS
    }  # fmt: skip
    lines = [f"| arm | {' | '.join(f'seed {s}' for s in seeds)} | mean |", "|---" * (len(seeds) + 2) + "|"]
    lines += [
        f"| {arm} | {' | '.join(f'{v:.3f}' for v in of)} | {np.mean(of):.3f} |" for arm, of in means.items()
    ]
    difference = 100 * (np.mean(means["lifelong_ct"]) - np.mean(means["nnU-Net"]))
    return "\n".join([*lines, "", f"lifelong_ct - nnU-Net: {difference:+.2f} points of Dice"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--work", type=Path, default=Path("nnunet_parity_work"), help="folder of data and runs"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of results.csv")
    args = parser.parse_args()
    torch.set_num_threads(1)
    files = Files(args.work.resolve())
    if not (files.plans.parent / "nnUNetPlans_3d_fullres").exists():
        files.write()
        files.plan()
    with open(args.out / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for seed in map(int, args.seeds.split(",")):
            writer.writerows(rows(files, seed, args.steps))
            file.flush()
    print(table(args.out / "results.csv"))


if __name__ == "__main__":
    main()
