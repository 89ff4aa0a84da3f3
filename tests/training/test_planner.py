"""What a run will hold at least, by hand; and the refusal before anything is trained."""

import gzip
import math
import re
import struct
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import trimesh
from hospitals import Heard, options, stream
from monai.networks.nets import UNet
from tiny import model

from lifelong_ct.avalanche_bridge.plugin import StrategyPlugin
from lifelong_ct.cli.main import main
from lifelong_ct.core.errors import LifelongCTError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import Case
from lifelong_ct.data.bricks import BRICK
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.memory.selection.reservoir import Reservoir
from lifelong_ct.models.segmentation import SegmentationModel
from lifelong_ct.strategies.replay import Replay
from lifelong_ct.training import planner
from lifelong_ct.training.options import CheckpointOptions, DataOptions, Requires
from lifelong_ct.training.planner import Demand
from lifelong_ct.training.run import Run

MIB = 1 << 20
WEIGHTS = 4 * ((27 * 4 + 4) + 8 + (16 + 4) + 3 * (4 + 1))
"""Convolution, norm, convolution, head of background and two organs; float32."""


class Greedy(StrategyPlugin):
    """Declares what it is told to."""

    def __init__(self, **kinds):
        super().__init__()
        self.kinds = kinds

    def declared_bytes(self, parameter_bytes):
        assert parameter_bytes == WEIGHTS
        return self.kinds


def image(path: Path, shape=(4, 5, 6), affine=None) -> Case:
    nib.save(
        nib.Nifti1Image(np.zeros(shape, np.int16), np.diag([2, 1, 3, 1.0]) if affine is None else affine),
        path,
    )
    return Case("h", "i", "p", "train", ("liver",), images=(path,))


def rows(demands):
    return {(row.kind, row.owner): row.nbytes for row in demands}


def test_every_demand_by_hand(tmp_path):
    made = stream({"name": "a", "train": [16, 20], "test": [9, 17, 8]}, {"name": "b", "train": [30]})
    opts = options(made, tmp_path, data=DataOptions(read_ahead=5, workers=3))
    opts = replace(opts, trainer=replace(opts.trainer, batch_size=4, keep_checkpoints=1))
    plugins = [Greedy(gpu=100, exemplars=200), Greedy(ram=300)]
    found = planner.demands(opts, [[h] for h in made.hospitals], plugins)
    assert rows(found) == {
        ("ram", "brick cache"): 4 * MIB,
        ("ram", "read-ahead queue"): 4 * 8**3 * 3 * (5 + 3 + 1),
        ("ram", "decoding"): 3 * ((4 << 20) + math.prod(BRICK) * 6),
        # int16 and labels on either grid, logits of three channels of the whole volume, which no window of 16 leaves
        # behind; and a window with its logits
        ("ram", "evaluation of a case"): 17**3 * (2 * (2 + 1) + 4 * 3) + 16**3 * 4 * (1 + 3),
        ("disk", "checkpoints"): 2 * (3 * WEIGHTS + 300 + MIB),
        ("disk", "volume store"): int(30**3 * 3 * 0.1),
        ("gpu", "weights, gradients, optimizer"): 4 * WEIGHTS,
        ("gpu", "Greedy"): 100,
        ("exemplars", "Greedy"): 200,
        ("ram", "Greedy"): 300,
    }
    assert planner.parameter_bytes(model()) == WEIGHTS - 4 * 2 * 5
    opts = replace(opts, checkpoint=CheckpointOptions(every_steps=7))
    found = planner.demands(opts, [[h] for h in made.hospitals], plugins)
    assert rows(found)["disk", "checkpoints"] == 4 * (
        3 * WEIGHTS + 300 + MIB
    )  # two of them within an experience


def test_exemplars_on_disk_are_named_by_checkpoints_and_not_held(tmp_path):
    made = stream({"name": "a", "train": [16]})
    opts = options(made, tmp_path, exemplar_tier="disk", limits={"exemplars": 6400})
    opts = replace(
        opts, trainer=replace(opts.trainer, keep_checkpoints=2), new_plugins=lambda: [Replay(Reservoir())]
    )
    found = rows(Run(opts, Heard()).demands())
    assert {kind: found[kind, "Replay"] for kind in ("exemplars", "ram", "disk")} == {
        "exemplars": 6400,
        "ram": 100,
        "disk": 3 * 6400,
    }
    assert found["disk", "checkpoints"] == 3 * (3 * WEIGHTS + 100 + MIB)
    in_memory = rows(Run(replace(opts, exemplar_tier="ram"), Heard()).demands())
    assert ("disk", "Replay") not in in_memory
    assert in_memory["ram", "Replay"] == 6400
    assert in_memory["disk", "checkpoints"] == 3 * (3 * WEIGHTS + 6400 + MIB)


def test_reader_processes_have_slots_and_caches_of_their_own(tmp_path):
    made = stream({"name": "a"})
    found = {}
    for kind in ("thread", "process"):
        opts = options(made, tmp_path, data=DataOptions(read_ahead=5, workers=3, worker_kind=kind))
        found[kind] = rows(planner.demands(opts, [made.hospitals], []))
    batch = 2 * 8**3 * 3
    assert found["process"]["ram", "read-ahead queue"] - found["thread"]["ram", "read-ahead queue"] == batch
    assert found["process"]["ram", "worker caches"] == 4 * MIB
    assert ("ram", "worker caches") not in found["thread"]


@pytest.mark.parametrize(
    ("keep", "requires", "together"),
    [
        ("current", Requires(), [30]),
        ("all", Requires(), [30, 20, 20]),
        ("current", Requires(past_data=True), [30, 20, 20]),
        ("all", Requires(past_data=True, reinitialise=True), [30, 20, 20]),
    ],
)
def test_what_must_be_there_at_once_is_asked_for(tmp_path, keep, requires, together):
    made = stream({"name": "a", "train": [30]}, {"name": "b", "train": [20, 20]})
    run = Run(options(made, tmp_path, data=DataOptions(keep=keep), requires=requires), Heard())
    volumes = int(sum(n**3 for n in together) * 3 * 0.1)
    assert rows(run.demands())["disk", "volume store"] == volumes


def test_the_least_is_below_what_is_stored(tmp_path):
    made = stream({"name": "a", "train": [30, 20]})
    run = Run(options(made, tmp_path), Heard())
    least = {owner: n for (kind, owner), n in rows(run.demands()).items() if kind == "disk"}
    run.execute()
    assert least["volume store"] <= run.store.nbytes
    kept = sum(p.stat().st_size for p in tmp_path.rglob("after_*/*"))
    assert kept <= least["checkpoints"]


# --- headers --------------------------------------------------------------------------------------------


def test_voxels_of_a_drawn_case_are_its_shape():
    case = Case("h", "i", "p", "train", ("liver",), params={"shape": [3, 4, 5]})
    assert planner.grid_voxels(case, None) == 60


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_of_a_file_are_counted_on_the_streams_spacing(tmp_path, name):
    case = image(tmp_path / name)
    assert planner.grid_voxels(case, None) == 120
    assert planner.grid_voxels(case, (1.0, 1.0, 1.5)) == pytest.approx(120 * 2 * 1 * 2)
    turned = image(
        tmp_path / name, (4, 5, 6, 1), np.array([[0, 0, -3.0, 0], [2, 0, 0, 0], [0, 1, 0, 9], [0, 0, 0, 1]])
    )
    assert planner.grid_voxels(turned, (1, 1, 1)) == pytest.approx(720)


def test_an_oblique_test_case_is_planned_as_it_is_scored(tmp_path):
    """4 × 6 voxels of 2 mm, turned by 45°: (4 + 6) / √2 = 7.07 along either axis. Training does not turn it."""
    c = 2 / math.sqrt(2)
    matrix = np.array([[c, -c, 0, 0], [c, c, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1.0]])
    case = image(tmp_path / "a.nii", (4, 6, 5), matrix)
    assert planner.seen_shape(case, None) == (8, 8, 5)
    assert planner.seen_shape(case, (2, 2, 1.5)) == (8, 8, 10)
    assert planner.grid_voxels(case, None) == 120
    made = stream({"name": "a"})
    made.hospitals = [replace(made.hospitals[0], test=(case,))]
    opts = options(made, tmp_path)
    need = planner.evaluation_bytes((8, 8, 5), (4, 6, 5), 1, 3, opts.evaluation)
    assert planner.largest_evaluation(opts, None) == need


def test_a_case_that_is_made_coarser_is_planned_with_what_resampling_holds(tmp_path):
    """A thousandth of its slices stays: float32 of 2000 × 10 × 10 lie in between."""
    opts = options(stream({"name": "a"}), tmp_path)
    need = planner.evaluation_bytes((2, 10, 10), (2000, 10, 10), 1, 3, opts.evaluation)
    assert need == 4 * 2000 * 10 * 10 + 2 * 200 + 3 * 200_000


def broken(path: Path, how: str) -> None:
    data = path.read_bytes()
    whole = bytearray(gzip.decompress(data))
    if how == "cut":
        path.write_bytes(data[:40])
    elif how == "deflate":
        path.write_bytes(data[:15] + b"\xff" * 15 + data[30:])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_bytes(gzip.compress(b"no image " * 100))
    elif how == "offset":
        whole[108:112] = b"\xff\xff\xff\xff"  # no number
        path.write_bytes(gzip.compress(bytes(whole)))
    elif how == "type":
        whole[70:72] = struct.pack("<h", 9999)
        path.write_bytes(gzip.compress(whole))
    elif how == "NaN":
        whole[280:284] = struct.pack("<f", float("nan"))
        path.write_bytes(gzip.compress(whole))
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "deflate", "empty", "text", "type", "offset", "NaN", "missing"])
def test_a_header_that_cannot_be_read_counts_nothing(tmp_path, how):
    case = image(tmp_path / "a.nii.gz")
    broken(case.images[0], how)
    assert planner.grid_voxels(case, (1.0, 1.0, 1.0)) == 0


# --- refusal --------------------------------------------------------------------------------------------


def test_everybodys_need_and_the_key_to_raise_are_named():
    wanted = [Demand("ram", "a", 3 * MIB, ""), Demand("ram", "b", 2 * MIB, ""), Demand("disk", "c", 9, "")]
    planner.check(Ledger({"ram": 5 * MIB, "disk": 9}), wanted)
    planner.check(Ledger(), wanted)
    with pytest.raises(LimitExceeded) as error:
        planner.check(Ledger({"ram": 5 * MIB - 1, "disk": 9}), wanted)
    assert "at least 5.0 MiB (5242880 bytes) of ram" in error.value.what
    assert error.value.where == "memory.ram; needed: a 3.0 MiB, b 2.0 MiB"
    assert error.value.fix.startswith("raise memory.ram to at least 5242880")
    with pytest.raises(LimitExceeded, match="9 bytes\\) of disk"):
        planner.check(Ledger({"disk": 8}), wanted)


@pytest.mark.parametrize(
    ("kind", "owner"), [("ram", "brick cache"), ("disk", "volume store"), ("gpu", "weights")]
)
def test_a_run_that_cannot_fit_reads_nothing(tmp_path, kind, owner):
    made = stream({"name": "a"}, {"name": "b"})
    heard = Heard()
    with pytest.raises(LimitExceeded, match=owner):
        Run(options(made, tmp_path, limits={kind: 100}), heard).execute()
    assert not any(h.layout.loads for h in made.hospitals)
    assert not (tmp_path / "store").exists()
    assert [data["status"] for data in heard.named("run_ended")] == ["failed"]


def places(folder: Path) -> list[str]:
    return [f"paths.{key}={folder / key}" for key in ("data", "runs", "state", "store")]


def test_an_impossible_limit_ends_the_command_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(PhantomLayout, "load", lambda *args: pytest.fail("data were read"))
    args = ["debug=tiny", "reporter=quiet", *places(tmp_path)]
    assert main([*args, "memory.ram=1MiB"]) == 2
    told = capsys.readouterr().err
    for word in ("brick cache 4.0 MiB", "read-ahead queue", "where:", "raise memory.ram to at least"):
        assert word in told
    assert not list(tmp_path.rglob("*.lctvol"))
    assert not list(tmp_path.rglob("checkpoints"))
    enough = int(re.search(r"raise memory.ram to at least (\d+)", told)[1])
    assert main(["plan", *args, f"memory.ram={enough}"]) == 0
    assert main(["plan", *args, f"memory.ram={enough - 1}"]) == 2


def test_plan_shows_the_need_without_reading_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(PhantomLayout, "load", lambda *args: pytest.fail("data were read"))
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["plan", "debug=tiny", "strategy=replay", "memory.exemplars=1MiB", *places(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for word in (
        "brick cache",
        "read-ahead queue",
        "checkpoints",
        "volume store",
        "Replay",
        "4.0 MiB",
        "4.0 GiB",
    ):
        assert word in shown
    assert "2 experiences, 6 optimizer steps" in shown
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "runs").exists()


def test_a_size_that_the_network_cannot_take_is_found_and_one_that_it_can_is_named() -> None:
    net = SegmentationModel(UNet(3, 1, 4, channels=(4, 4, 4, 4), strides=(2, 2, 2)), features=4)
    planner.check_size(net, (24, 24, 32), "stream.patch")
    with pytest.raises(LifelongCTError) as caught:
        planner.check_size(net, (20, 24, 30), "stream.patch")
    assert caught.value.where == "stream.patch"
    assert "stream.patch=[24,24,32]" in caught.value.fix
    assert net.training, "its mode is left alone"


def test_several_channels_are_counted_and_must_be_those_of_the_network(tmp_path) -> None:
    one, two = (stream({"name": "a", "train": [30], "channels": c}, channels=c) for c in (1, 2))
    needs = []
    for made in (one, two):
        found = rows(planner.demands(options(made, tmp_path), [made.hospitals], []))
        needs.append((found["ram", "read-ahead queue"], found["disk", "volume store"]))
    assert needs[0] == (2 * 8**3 * 3 * 4, int(30**3 * 3 * 0.1))
    assert needs[1] == (2 * 8**3 * 5 * 4, int(30**3 * 5 * 0.1))
    net = SegmentationModel(UNet(3, 2, 4, channels=(4, 4), strides=(2,)), features=4)
    planner.check_size(net, (8, 8, 8), "stream.patch", 2)
    with pytest.raises(LifelongCTError, match="takes 2 channels, the scans of the stream have 3"):
        planner.check_size(net, (8, 8, 8), "stream.patch", 3)
    with pytest.raises(LifelongCTError, match=r"cannot take patches of \[9, 9, 9\]"):
        planner.check_size(net, (9, 9, 9), "stream.patch", 2)


def test_voxels_of_a_mesh_are_those_of_the_stated_size(tmp_path) -> None:
    path = tmp_path / "a.stl"
    trimesh.creation.box((20, 10, 5)).export(path)
    shapes = {"voxel": 2.5, "margin": 5}
    case = Case("h", "i", "p", "train", ("liver",), images=(path,), params={"shapes": shapes})
    assert planner.grid_voxels(case, None) == 12 * 8 * 6
    assert planner.grid_voxels(replace(case, params={}), None) == 0  # ingest will say why
