"""`train` on a folder in each layout gives what the phantom gives, to the last bit."""

import shutil
from pathlib import Path

import pytest
import yaml
from whole_runs import only_run, places, results, weights
from written import KINDS, write

from lifelong_ct.cli.main import main
from lifelong_ct.data.layouts.phantom import PhantomLayout

ORGANS = (
    "aorta",
    "gall_bladder",
    "kidney_left",
    "kidney_right",
    "liver",
    "pancreas",
    "postcava",
    "spleen",
    "stomach",
)
HOSPITALS = {
    "harbour": {"train": 2, "test": 1, "shape": [32, 32, 32]},
    "clinic": {
        "train": 1,
        "test": 2,
        "shape": [32, 32, 32],
        "phase": "arterial",
        "organs": ["spleen", "liver"],
    },
}


def trained(folder: Path, hospitals: list[dict]) -> Path:
    """The run folder of a stream of these entries."""
    stream = {
        "_target_": "lifelong_ct.streams.domain_incremental.DomainIncremental",
        "name": "mine",
        "organs": list(ORGANS),
        "spacing": None,
        "patch": [16, 16, 16],
        "steps": 4,
        "hospitals": hospitals,
        "unseen": [],
        "order": None,
        "first": None,
        "limit": None,
    }
    conf = folder / "conf" / "stream" / "mine.yaml"
    conf.parent.mkdir(parents=True)
    conf.write_text(yaml.safe_dump(stream))
    quick = ["evaluation.overlap=0.0", "evaluation.roi=[32,32,32]", "reporter=quiet", "reporter.html=false"]
    arguments = ["--config-dir", str(folder / "conf"), "stream=mine", "strategy=replay", *quick]
    assert main([*arguments, "memory.exemplars=256KiB", *places(folder)]) == 0
    return only_run(folder)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    entries = [{"name": name, "layout": "phantom", **options} for name, options in HOSPITALS.items()]
    return trained(tmp_path_factory.mktemp("layouts") / "phantom", entries)


@pytest.mark.parametrize(
    "kind", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])]
)
def test_a_run_is_the_phantoms_to_the_last_bit(kind, drawn, tmp_path):
    entries = []
    for name, options in HOSPITALS.items():
        hospital = PhantomLayout(name, **{**options, "shape": tuple(options["shape"])})
        entries.append({"name": name, **write(kind, hospital, tmp_path / "data" / name)})
    run = trained(tmp_path, entries)
    assert results(run)["scores"] == results(drawn)["scores"]
    assert results(run)["summary"] == results(drawn)["summary"]
    assert any(score["mean"] for score in results(run)["scores"])
    assert weights(run) == weights(drawn)


@pytest.mark.slow
def test_a_run_from_archives_is_the_phantoms_to_the_last_bit(drawn, tmp_path):
    entries = []
    for name, options in HOSPITALS.items():
        hospital = PhantomLayout(name, **{**options, "shape": tuple(options["shape"])})
        entry = write("nnunet", hospital, tmp_path / "data" / name)
        archive = shutil.make_archive(str(tmp_path / name), "zip", tmp_path / "data" / name)
        entries.append({"name": name, **entry, "root": f"zip://::{archive}"})
    shutil.rmtree(tmp_path / "data")
    run = trained(tmp_path, entries)
    assert results(run)["scores"] == results(drawn)["scores"]
    assert weights(run) == weights(drawn)
    assert str(tmp_path).encode() not in (run / "config.yaml").read_bytes()
