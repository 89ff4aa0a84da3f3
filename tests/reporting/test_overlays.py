import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.types import RawCase
from lifelong_ct.reporting import overlays
from lifelong_ct.reporting.fanout import Reporters
from lifelong_ct.reporting.html import HtmlReport, write_run_page
from lifelong_ct.reporting.overlays import Overlays, read_overlays
from lifelong_ct.reporting.planes import Shown
from lifelong_ct.reporting.run_folder import RunFolder, read_run
from lifelong_ct.training.scoring import Scored

ORGANS = ("liver", "spleen")


def scored(liver: float | None, spleen: float | None, channels: int = 1) -> Scored:
    """A case with the given Dice; its voxels are made up."""
    label = np.zeros((8, 8, 8), np.uint8)
    label[2:5, 2:5, 2:5], label[5:7, 5:7, 5:7] = 1, 2
    image = np.zeros((8, 8, 8) if channels == 1 else (channels, 8, 8, 8), np.int16)
    raw = RawCase(image, label, np.diag([2.0, 2.0, 2.0, 1.0]), ORGANS)
    scores = [("liver", "dice", liver), ("liver", "hd95", 99.0), ("spleen", "dice", spleen)]
    return Scored(raw, label.copy(), {"liver": 1, "spleen": 2}, scores)


def tell(folder: Path, cases: dict[str, Scored], worst: int = 2) -> None:
    reporter = Overlays(folder, worst)
    for name, one in cases.items():
        reporter.event("scored", hospital="north", case=name, scored=one)
    reporter.event("evaluated", after=1)
    reporter.close("finished")


def test_the_worst_are_kept(tmp_path: Path) -> None:
    cases = {"a": (0.9, 0.7), "b": (0.2, 0.4), "c": (0.5, None), "d": (None, None), "e": (0.9, 0.9)}
    tell(tmp_path, {name: scored(*dice) for name, dice in cases.items()})
    found = read_overlays(tmp_path)
    assert [(each.case, each.organ) for each in found] == [("b", "liver"), ("c", "liver")]
    assert [each.dice for each in found] == pytest.approx(
        [0.3, 0.5]
    )  # (.2 + .4) / 2; an undefined one does not count
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == [
        "b-axial.png", "b-coronal.png", "b-sagittal.png", "c-axial.png", "c-coronal.png", "c-sagittal.png", "index.json",
    ]  # fmt: skip


def test_a_later_evaluation_takes_the_place_of_an_earlier(tmp_path: Path) -> None:
    tell(tmp_path, {"a": scored(0.1, 0.1)})
    tell(tmp_path, {"b": scored(0.9, 0.9)})
    assert {path.name[0] for path in (tmp_path / "overlays").glob("*.png")} == {"b"}
    assert [each.case for each in read_overlays(tmp_path)] == ["b"]


def test_evaluations_that_show_no_case_write_nothing(tmp_path: Path) -> None:
    tell(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
    assert read_overlays(tmp_path) == []


def test_the_first_of_several_channels_is_drawn(tmp_path: Path) -> None:
    tell(tmp_path, {"a": scored(0.1, 0.2, channels=2)})
    assert len(read_overlays(tmp_path)[0].planes) == 3


def test_pictures_that_are_gone_are_done_without(tmp_path: Path) -> None:
    tell(tmp_path, {"a": scored(0.1, 0.2), "b": scored(0.3, 0.4)})
    for gone in ("a-axial", "b-axial", "b-coronal", "b-sagittal"):
        (tmp_path / "overlays" / f"{gone}.png").unlink()
    assert [(each.case, list(each.planes)) for each in read_overlays(tmp_path)] == [
        ("a", ["sagittal", "coronal"])
    ]


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    tell(tmp_path, {"a": scored(0.1, 0.2)})
    (tmp_path / "overlays" / "index.json").write_text('[{"case": "a"}]')
    with pytest.raises(LifelongCTError, match="overlays are damaged"):
        read_overlays(tmp_path)


def test_pictures_take_next_to_no_memory(tmp_path: Path) -> None:
    organs, shape = tuple(f"organ{i}" for i in range(25)), (160, 160, 160)
    label = np.random.default_rng(0).integers(0, 26, shape).astype(np.uint8)  # the box is the whole volume
    raw = RawCase(np.zeros(shape, np.int16), label, np.diag([1.0, 1.0, 1.0, 1.0]), organs)
    case = Scored(raw, label[::-1], {o: i for i, o in enumerate(organs, 1)}, [("organ3", "dice", 0.1)])
    reporter = Overlays(tmp_path)
    tracemalloc.start()
    reporter.event("scored", hospital="north", case="a", scored=case)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * label.size


def test_an_organ_is_drawn_with_what_it_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.zeros((8, 8, 8), np.uint8)
    label[1:4, 2:4, 2:4], label[4:6, 2:4, 2:4], label[6, 6, 6] = 1, 3, 2  # 3: liver and spleen at once
    raw = RawCase(np.zeros(label.shape, np.int16), label, np.diag([9.0, 9.0, 40.0, 1.0]), ORGANS, ((0, 1),))
    seen: list[Shown] = []
    monkeypatch.setattr(overlays, "draw", lambda shown, organ: seen.append(shown) or {})
    tell(tmp_path, {"a": Scored(raw, np.zeros_like(label), {"liver": 1}, [("liver", "dice", 0.0)])})
    for organ in ORGANS:  # margins of 15 mm: two voxels, and none of 40 mm
        assert (np.stack(list(seen[0].reference[organ])) == raw.mask(organ)[:, :, 2:7]).all()
        assert not any(plane.any() for plane in seen[0].predicted[organ])


def test_the_page_shows_them(tmp_path: Path, made_up, parse) -> None:
    reporters = Reporters([RunFolder(tmp_path, str), Overlays(tmp_path), HtmlReport(tmp_path)])
    run = made_up()
    run.start(reporters)
    reporters.event("scored", hospital="b", case="b1", scored=scored(0.2, 0.4))
    run.experience(reporters, 3)
    run.end(reporters)
    assert reporters.failures == {}
    page = parse(tmp_path / "report.html")
    assert "case b1 of b : mean Dice 0.300; cut where liver (0.200) is most wrong." in page.text
    assert sum(address.startswith("data:image/png;base64,iVBOR") for address in page.addresses) == 3
    before = (tmp_path / "report.html").read_bytes()
    assert write_run_page(read_run(tmp_path)).read_bytes() == before
    index = json.loads((tmp_path / "overlays" / "index.json").read_text())
    assert index[0]["planes"] == ["sagittal", "coronal", "axial"]
