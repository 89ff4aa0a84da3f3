"""Runs over a store that is damaged, shared, cleared or fed with sources that change: the result does not."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scans
from whole_runs import only_run, places, results, run, weights

from lifelong_ct.cli.main import main
from lifelong_ct.training import checkpoint

QUIET = ("reporter=quiet", "reporter.html=false")
SMALL = ("stream.common.shape=[32,32,32]", *QUIET)


def outcome(folder: Path) -> tuple[object, ...]:
    found = only_run(folder)
    document = results(found)
    assert document["status"] == "finished"
    return document["scores"], weights(found)


def log(folder: Path) -> str:
    return (only_run(folder) / "log.txt").read_text()


def volumes(folder: Path) -> list[Path]:
    return sorted((folder / "store").rglob("*.lctvol"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, *SMALL) == 0
    return folder


def test_damage_between_two_sessions_is_mended_and_said(whole: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "trainer.stop_after=1", *SMALL) == 0
    before = [path.read_bytes() for path in volumes(tmp_path)]
    for turn, path in enumerate(volumes(tmp_path)):
        flip(path, [3, 12, 40, -1][turn % 4])
    assert run(tmp_path, *SMALL) == 0
    assert outcome(tmp_path) == outcome(whole)
    assert "its stored volume was damaged" in log(tmp_path)
    still = set(before) - {path.read_bytes() for path in volumes(tmp_path)}
    assert len(still) <= 1  # of the first hospital's training, which the run needs no more


def test_a_store_that_vanishes_costs_time_only(whole: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "trainer.stop_after=1", *SMALL) == 0
    shutil.rmtree(tmp_path / "store")
    assert run(tmp_path, *SMALL) == 0
    assert outcome(tmp_path) == outcome(whole)


def test_automatic_spacing_is_in_the_checkpoint_and_the_same_after_a_resume(tmp_path: Path) -> None:
    """The hospitals of the stream have 5.5, 5.5, 4.5 mm; the second one gets another spacing here."""
    more = ("+stream.hospitals.1.scanner={spacing:[7.0,7.0,6.0],kernel:2.0,noise:10.0}", *SMALL)
    stated = (*more, "stream.spacing=[5.5,5.5,4.5]")
    auto = (*more, "stream.spacing=auto")
    assert run(tmp_path / "stated", *stated) == 0
    assert run(tmp_path / "auto", *auto) == 0
    assert outcome(tmp_path / "auto") == outcome(tmp_path / "stated")
    assert run(tmp_path / "resumed", "trainer.stop_after=1", *auto) == 0
    newest = max((only_run(tmp_path / "resumed") / "checkpoints").glob("after_*"))
    assert checkpoint.load(newest)["serving"]["spacing"] == [5.5, 5.5, 4.5]
    assert run(tmp_path / "resumed", *auto) == 0
    assert outcome(tmp_path / "resumed") == outcome(tmp_path / "stated")


# --- files ----------------------------------------------------------------------------------------------


def two(root: Path) -> list[str]:
    """A stream of two hospitals of files."""
    for name in ("north", "south"):
        scans.hospital(root / name)
    entries = {name: {"root": str(root / name), "manifest": "manifest.json"} for name in ("north", "south")}
    return [*scans.conf(root / "conf", **entries), "debug=tiny", *places(root), *QUIET]


def change(path: Path) -> None:
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, 0] += 1
    nib.save(nib.Nifti1Image(voxels, image.affine), path)


def test_a_moved_and_renamed_hospital_finds_its_volumes(tmp_path: Path, capsys) -> None:
    assert main(["ingest", *two(tmp_path)]) == 0
    before = {path: path.stat().st_ino for path in volumes(tmp_path)}
    (tmp_path / "north").rename(tmp_path / "elsewhere")
    entry = {"root": str(tmp_path / "elsewhere"), "manifest": "manifest.json"}
    stream = scans.conf(tmp_path / "conf2", east=entry)
    capsys.readouterr()
    assert main(["ingest", *stream, "debug=tiny", *places(tmp_path), *QUIET]) == 0
    assert "east: 1 train cases" in (told := capsys.readouterr().out)
    assert "0 B written" in told
    assert {path: path.stat().st_ino for path in volumes(tmp_path)} == before


def test_a_source_that_changed_is_said_in_the_log_and_on_the_terminal(tmp_path: Path, capsys) -> None:
    args = two(tmp_path)
    assert main(["ingest", *args]) == 0
    change(tmp_path / "north" / "train-case" / "ct.nii.gz")
    assert main([*args, "trainer.stop_after=1"]) == 0
    assert log(tmp_path).count("its source has changed; it is ingested as it is now") == 1
    assert "train-case" not in log(tmp_path)
    change(tmp_path / "south" / "train-case" / "ct.nii.gz")
    capsys.readouterr()
    assert main(["ingest", *args]) == 0
    assert capsys.readouterr().out.count("its source has changed") == 1


def test_a_source_that_is_gone_is_an_error_before_anything_is_trained(tmp_path: Path, capsys) -> None:
    args = two(tmp_path)
    assert main([*args, "trainer.stop_after=1"]) == 0
    (tmp_path / "south" / "train-case" / "ct.nii.gz").unlink()
    capsys.readouterr()
    assert main(args) == 2
    assert "does not exist" in capsys.readouterr().err
    assert results(only_run(tmp_path))["status"] == "failed"


def test_rehash_looks_at_everything(tmp_path: Path, capsys) -> None:
    args = two(tmp_path)
    assert main(["ingest", *args]) == 0
    for path in volumes(tmp_path):
        flip(path, -1)
    capsys.readouterr()
    assert main(["ingest", *args]) == 0
    assert "damaged" not in capsys.readouterr().out
    assert main(["ingest", "--rehash", *args]) == 0
    assert capsys.readouterr().out.count("damaged") == len(volumes(tmp_path))
    assert main(["train", "--rehash", *args]) == 2


def test_ingest_tells_what_it_did_and_needs_no_more_than_it_may(tmp_path: Path, capsys) -> None:
    args = two(tmp_path)
    assert main(["ingest", *args]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, split in (("north", "train"), ("south", "train"), ("north", "test"), ("south", "test")):
        (line,) = [line for line in lines if line.startswith(f"{name}: 1 {split} cases in ")]
        assert "cases/min" in line
    held = sum(path.stat().st_size for path in volumes(tmp_path))
    told = {line.split(":")[0]: int(line.split()[1]) for line in lines[-2:]}
    assert sum(told.values()) == held
    # both hospitals are the same patients: training volumes first, then what fits
    shutil.rmtree(tmp_path / "store")
    assert main(["ingest", *args, f"memory.disk={told['train'] + 10}"]) == 0
    text = capsys.readouterr().out
    assert "1 of 1 test cases do not fit into memory.disk; a run reads them from their source" in text
    assert main(["ingest", *args, "memory.disk=1000"]) == 2
    assert "raise memory.disk" in capsys.readouterr().err
    assert main(["ingest", *args, "memory.ram=1000", f"paths.store={tmp_path / 'other'}"]) == 2
    error = capsys.readouterr().err
    assert "of ram to be ingested" in error
    assert "train-case" not in error


def test_a_newer_store_is_refused_with_its_version(tmp_path: Path, capsys) -> None:
    from lifelong_ct.data.store_format import _checksum

    marker = {"format": 99, "by": "7.7.7"}
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "format.json").write_text(json.dumps({**marker, "checksum": _checksum(marker)}))
    assert run(tmp_path, *QUIET) == 2
    error = capsys.readouterr().err
    assert "7.7.7 in format 99" in error
    assert "paths.store" in error
