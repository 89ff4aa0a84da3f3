"""Memory of cases that are ingested: the estimate is never below what is really allocated, and who fits is let in."""

import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import slices

from lifelong_ct.core.errors import LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.types import Case
from lifelong_ct.data import admission, bricks
from lifelong_ct.data.admission import OWNER, Admission, need
from lifelong_ct.data.file_layout import FileLayout
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.resampling import prepare

SHAPE = (100, 72, 80)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Else they would hide what is too little per voxel of these small scans."""
    monkeypatch.setattr(admission, "_BLOCKS", 1 << 18)


class Files(FileLayout):
    def inspect(self):
        return iter(())


def save(path: Path, voxels, dtype, slope=None, flip=1.0) -> Path:
    image = nib.Nifti1Image(voxels.astype(dtype), np.diag([flip, 1.0, 1.0, 1.0]))
    if slope is not None:
        image.header.set_slope_inter(slope, -1.0)
    nib.save(image, path)
    return path


def scan(
    folder: Path, dtype, label, *, slope=None, flip=1.0, channels=1, suffix=".nii.gz", modality="CT"
) -> Case:
    rng, step = np.random.default_rng(0), 1 if dtype == np.uint8 else 4
    images = tuple(
        save(
            folder / f"ct{i}{suffix}",
            rng.integers(0, 250, SHAPE) * step - 400 * (step > 1),
            dtype,
            slope,
            flip,
        )
        for i in range(channels)
    )
    local = np.zeros(SHAPE, np.uint8)
    local[60:80, 10:40, 10:40], local[10:40, 10:40, 10:40] = 1, 2
    local = local if flip > 0 else local[::-1]
    seg = save(folder / "seg.nii.gz", local, label, None, flip)
    return Case(
        "h",
        "c",
        "p",
        "train",
        ("liver", "spleen"),
        images,
        seg,
        label_ids={"liver": (1,), "spleen": (2,)},
        modality=modality,
    )


def peak(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("label", [np.uint8, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize(
    ("dtype", "more"),
    [
        (np.int16, {}),
        (np.int16, {"flip": -1.0}),
        (np.int16, {"slope": 1.0}),
        (np.int16, {"channels": 2}),
        (np.int16, {"channels": 3, "suffix": ".nii"}),
        (np.int16, {"modality": "MR"}),
        (np.float32, {"modality": "MR"}),
        (np.float64, {"modality": "MR"}),
        (np.int32, {"modality": "MR", "channels": 2}),
        (np.uint8, {"modality": "MR"}),
        (np.int16, {"suffix": ".nii"}),
        (np.int32, {}),
        (np.float32, {}),
        (np.float64, {}),
        (np.dtype(">i2"), {}),
    ],
)
def test_reading_holds_no_more_than_is_asked_for(tmp_path, dtype, label, more):
    case = scan(tmp_path, dtype, label, **more)
    layout = Files("h", tmp_path)
    assert peak(lambda: layout.load(case)) <= need(layout, case, None)


@pytest.mark.parametrize("label", [np.uint8, np.int16, np.float64])
def test_masks_and_sides_hold_no_more_than_is_asked_for(tmp_path, label):
    case = scan(tmp_path, np.int16, label)
    layout = Files("h", tmp_path)
    for i, organ in enumerate(("liver", "spleen")):
        mask = np.zeros(SHAPE)
        mask[60 - 50 * i : 80 - 50 * i, 10:40, 10:40] = 1
        save(tmp_path / f"{organ}.nii.gz", mask, label)
    masks = {organ: f"{organ}.nii.gz" for organ in ("liver", "spleen")}
    masked = replace(case, label=tmp_path, label_ids={}, masks=masks)
    kidneys = ("kidney_left", "kidney_right")
    split = replace(case, organs=kidneys, label_ids=dict.fromkeys(kidneys, (1, 2)), splits=(kidneys,))
    for each in (masked, split):
        assert peak(lambda each=each: layout.load(each)) <= need(layout, each, None)


def test_a_series_holds_no_more_than_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    slices.write(tmp_path / "series", rng.integers(0, 2000, (80, 72, 100)).astype(np.int16))  # less 1024
    layout, case = Files("h", tmp_path), Case("h", "c", "p", "test", (), (tmp_path / "series",))
    found = []
    assert peak(lambda: found.append(layout.load(case))) <= need(layout, case, None)
    assert found[0].image.size == 80 * 72 * 100


@pytest.mark.parametrize("channels", [1, 3])
def test_packing_holds_no_more_than_is_asked_for(tmp_path, channels):
    case = scan(tmp_path, np.int16, np.uint8, channels=channels)
    layout = Files("h", tmp_path)
    raw = layout.load(case)
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, raw.image.shape).astype(np.int16)
    raw = replace(raw, image=noise)  # nothing compresses less
    held = raw.image.nbytes + raw.label.nbytes
    assert held + peak(lambda: bricks.pack(raw)) <= need(layout, case, None)


def test_resampling_asks_for_both_grids_and_what_is_between(tmp_path, monkeypatch):
    monkeypatch.setattr(admission, "_SLAB", 0)
    case = scan(tmp_path, np.int16, np.uint8)
    layout = Files("h", tmp_path)
    raw = layout.load(case)
    fine = (0.5, 0.5, 0.5)
    ready = prepare(raw, fine)
    between = 4 * SHAPE[0] * ready.shape[1] * ready.shape[2]
    held = raw.image.nbytes + raw.label.nbytes + ready.image.nbytes + ready.label.nbytes + between
    assert need(layout, case, fine) >= held
    assert need(layout, case, (4.0, 4.0, 4.0)) < need(layout, case, None) < need(layout, case, fine)


@pytest.mark.parametrize("n", [24, 40, 56])
def test_drawing_holds_no_more_than_is_asked_for(n):
    layout = PhantomLayout("north", train=1, test=0, shape=(n, n, n))
    case = next(layout.cases())
    assert peak(lambda: layout.load(case)) <= need(layout, case, None)


def test_a_header_that_cannot_be_read_asks_for_nothing(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"?")
    assert need(None, Case("h", "c", "p", "train", (), (tmp_path / "a.nii",)), None) == 0


# --- who is let in --------------------------------------------------------------------------------------


def test_what_does_not_fit_alone_is_told_with_its_need():
    gate = Admission(Ledger({"ram": 100}))
    with (
        pytest.raises(LimitExceeded, match=r"case abc needs 101 B \(101 bytes\)") as error,
        gate.room(101, 0, "abc"),
    ):
        pass
    assert "at least 101" in error.value.fix


def test_it_holds_its_bytes_for_the_block():
    ledger = Ledger({"ram": 100})
    gate = Admission(ledger)
    with gate.room(60, 0, "a"):
        assert ledger.holders("ram") == {OWNER: 60}
    assert ledger.holders("ram") == {}
    with pytest.raises(ValueError), gate.room(60, 0, "a"):
        raise ValueError
    assert ledger.holders("ram") == {}


def test_the_limit_holds_and_lower_numbers_go_first():
    """60 are taken; 50 must wait, and 30, which would fit, behind it: a large case does not starve."""
    ledger = Ledger({"ram": 100})
    gate, let_in, release = Admission(ledger), [], threading.Event()

    def enter(order: int, nbytes: int) -> threading.Thread:
        def work():
            with gate.room(nbytes, order, str(order)):
                let_in.append(order)
                release.wait(60)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    with gate.room(60, 0, "0"):
        threads = [enter(1, 50)]
        while gate._waiting != [1]:
            pass
        threads.append(enter(2, 30))
        while sorted(gate._waiting) != [1, 2]:
            pass
        assert not let_in
    while len(let_in) < 2:
        pass
    release.set()
    for thread in threads:
        thread.join()
    assert let_in == [1, 2]
    assert ledger.peak("ram") == 80
    assert ledger.held("ram") == 0


def test_who_is_stopped_waits_no_more():
    gate = Admission(Ledger({"ram": 100}))
    with gate.room(100, 0, "a"), gate.room(100, 1, "b", lambda: True):
        pass
