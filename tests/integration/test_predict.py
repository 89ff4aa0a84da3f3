"""The verb `predict`, on drawn scans: geometry, millilitres, orientations, bad scans."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from served import geometry, millilitres, network, predict, save, table, turned
from slices import write_scan
from whole_runs import places

from lifelong_ct.cli.main import main

ORGANS = ("kidney_left", "liver", "liver_tumor", "kidney_right")
SPACING = (1.25, 1.5, 2.0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(
        tmp_path_factory.mktemp("served") / "after_001", network(ORGANS), ORGANS, (3, 3, 3), (16, 16, 16)
    )


def scan(seed: int = 0, shape: tuple[int, ...] = (24, 21, 18)) -> nib.Nifti1Image:
    """Blobs of HU, so that every channel wins somewhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 200, [-(-n // 6) for n in shape])
    voxels = coarse.repeat(6, 0).repeat(6, 1).repeat(6, 2)[tuple(map(slice, shape))]
    voxels = voxels + rng.normal(0, 15, shape)
    voxels[:2] -= 700  # something like air: a scan without is refused
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -20, 30.5, 7
    return nib.Nifti1Image(voxels.astype(np.int16), affine)


def test_what_is_written_for_a_scan(served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = scan()
    image.header["descrip"] = b"Zyxwvut Qponmlk"
    nib.save(image, tmp_path / "one.nii.gz")
    assert predict(served, tmp_path / "one.nii.gz", tmp_path / "out") == 0
    assert "1 of 1 scans predicted" in capsys.readouterr().out
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["labels.json", "one_preview.png", "one_seg.nii.gz", "quality.csv", "volumes.csv"]
    made = nib.load(tmp_path / "out" / "one_seg.nii.gz")
    assert made.get_data_dtype() == np.uint8
    assert geometry(made) == geometry(nib.load(tmp_path / "one.nii.gz"))
    assert made.header["descrip"].tobytes().strip(b"\0") == b""
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert labels == {"background": 0, **{organ: i for i, organ in enumerate(ORGANS, start=1)}}
    (row,) = table(tmp_path / "out" / "volumes.csv").values()
    ml = {organ: millilitres(made, i) for organ, i in labels.items()}
    assert len(np.unique(np.asarray(made.dataobj))) >= 4
    assert float(row["kidney_left_ml"]) == pytest.approx(ml["kidney_left"], rel=1e-12)
    assert float(row["liver_tumor_ml"]) == pytest.approx(ml["liver_tumor"], rel=1e-12)
    assert float(row["liver_ml"]) == pytest.approx(
        ml["liver"] + ml["liver_tumor"], rel=1e-12
    )  # it lies in the liver
    (quality,) = table(tmp_path / "out" / "quality.csv").values()
    assert list(quality) == ["certainty", "flag", *ORGANS]
    parts = [float(quality[organ]) for organ in ORGANS if quality[organ]]
    assert float(quality["certainty"]) == pytest.approx(np.mean(parts), abs=1e-4)
    assert (tmp_path / "out" / "one_preview.png").read_bytes()[:4] == b"\x89PNG"


TURNS = [((2, 0, 1), (-1, 1, -1)), ((1, 0, 2), (1, 1, 1)), ((0, 2, 1), (-1, -1, -1)), ((2, 1, 0), (1, -1, 1))]


def test_how_the_axes_of_a_file_run_changes_no_voxel(served: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    nib.save(scan(), scans / "straight.nii.gz")
    for i, turn in enumerate(TURNS):
        nib.save(turned(scan(), *turn), scans / f"turned_{i}.nii")
    assert predict(served, scans, tmp_path / "out") == 0
    made = {
        name: nib.load(tmp_path / "out" / f"{name}_seg.nii.gz")
        for name in table(tmp_path / "out" / "volumes.csv")
    }
    assert len(made) == 1 + len(TURNS)
    first = nib.as_closest_canonical(made["straight"])
    for i in range(len(TURNS)):
        other = made[f"turned_{i}"]
        assert geometry(other) == geometry(nib.load(scans / f"turned_{i}.nii"))
        assert np.array_equal(nib.as_closest_canonical(other).dataobj, first.dataobj)
    lines = [tuple(row.values()) for row in table(tmp_path / "out" / "volumes.csv").values()]
    assert len(set(lines)) == 1


def variants(folder: Path) -> None:
    """Headers that scans come with."""
    image = scan()
    both = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    both.set_qform(image.affine, 1)
    both.set_sform(image.affine, 4)
    only_q = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    only_q.set_qform(image.affine @ np.diag([-1, -1, 1, 1]), 3)
    only_q.set_sform(None, 0)
    oblique = np.eye(4)
    oblique[:3, :3] = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.diag(SPACING)
    units = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    units.header.set_xyzt_units("mm", "sec")
    big = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, nib.Nifti1Header(endianness=">"))
    for name, each in {
        "both": both,
        "only_q": only_q,
        "oblique": nib.Nifti1Image(np.asarray(image.dataobj), oblique),
        "two": nib.Nifti2Image(np.asarray(image.dataobj), image.affine),
        "fourth_axis": nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine),
        "units": units,
        "big_endian": big,
    }.items():
        nib.save(each, folder / f"{name}.nii.gz")


def test_every_kind_of_header_comes_back(served: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    variants(tmp_path / "scans")
    assert predict(served, tmp_path / "scans", tmp_path / "out") == 0
    for path in sorted((tmp_path / "scans").iterdir()):
        made = nib.load(tmp_path / "out" / path.name.replace(".nii.gz", "_seg.nii.gz"))
        assert geometry(made) == geometry(nib.load(path)), path.name
        assert made.get_data_dtype() == np.uint8


def test_dicom_comes_back_in_the_geometry_of_its_slices(served: Path, tmp_path: Path) -> None:
    image = scan()
    for name in ("first", "second"):
        write_scan(tmp_path / "scans" / name, np.asarray(image.dataobj), image.affine, PatientID="Zyxwvut")
    assert predict(served, tmp_path / "scans", tmp_path / "out") == 0
    made = nib.load(tmp_path / "out" / "second_seg.nii.gz")
    assert made.shape == (24, 21, 18)
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(made.get_qform(), made.affine, atol=1e-4)
    canonical = nib.as_closest_canonical(made).affine
    np.testing.assert_allclose(canonical, image.affine, atol=1e-3)
    assert b"Zyxwvut" not in b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())


def test_one_bad_scan_does_not_lose_the_others(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a", "c"):
        nib.save(scan(), scans / f"{name}.nii.gz")
    (scans / "bzyxwvut.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:-300])
    assert predict(served, scans, tmp_path / "out") == 2
    told = capsys.readouterr()
    assert "2 of 3 scans predicted" in told.out
    assert "not predicted, scan 2 of 3" in told.err
    assert "bzyxwvut" not in told.err  # nobody watches: this may be a log
    assert "Traceback" not in told.err
    assert list(table(tmp_path / "out" / "volumes.csv")) == ["a", "c"]
    assert list(table(tmp_path / "out" / "quality.csv")) == ["a", "c"]
    assert (tmp_path / "out" / "c_seg.nii.gz").exists()


def test_nothing_of_an_earlier_call_looks_current(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for name in ("a", "b"):
        nib.save(scan(), scans / f"{name}.nii.gz")
    assert predict(served, scans, out) == 0
    assert "2 of 2 scans predicted, with volumes.csv and quality.csv in" in capsys.readouterr().out
    for file in scans.iterdir():
        file.write_bytes(file.read_bytes()[:-300])
    assert predict(served, scans, out) == 2
    assert "0 of 2 scans predicted; the tables in" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["labels.json", "quality.csv", "volumes.csv"]
    for name in ("volumes.csv", "quality.csv"):
        assert (out / name).read_text().startswith("scan,")
        assert table(out / name) == {}


def test_mirroring_is_refused_before_anything_is_read_where_a_side_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    organs = ("kidney_left", "liver")
    lonely = save(tmp_path / "after_001", network(organs), organs, None, (16, 16, 16))
    nib.save(scan(), tmp_path / "one.nii.gz")
    assert predict(lonely, tmp_path / "one.nii.gz", tmp_path / "out", "evaluation.mirror=[0]") == 2
    assert "kidney_right, has no channel" in capsys.readouterr().err


def test_a_run_that_could_not_be_mirrored_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["stream=phantom", "stream.organs=[kidney_left,liver]", "evaluation.mirror=[0]"]
    assert main(["debug=tiny", *args, *places(tmp_path)]) == 2
    assert "kidney_right, has no channel" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.lctvol"))


def test_half_precision_and_mirroring_by_configuration(served: Path, tmp_path: Path) -> None:
    nib.save(scan(), tmp_path / "one.nii.gz")
    found = []
    for name, more in {
        "full": [],
        "half": ["evaluation.precision=fp16"],
        "mirrored": ["evaluation.mirror=[0,1,2]"],
    }.items():
        assert predict(served, tmp_path / "one.nii.gz", tmp_path / name, *more) == 0
        found.append(np.asarray(nib.load(tmp_path / name / "one_seg.nii.gz").dataobj))
    assert (found[0] == found[1]).mean() >= 0.999
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize(
    ("names", "out", "words"),
    [(["a.nii", "a.nii.gz"], "out", "the same name"), (["a.nii.gz"], "scans", "among the scans")],
)
def test_results_that_would_replace_one_another_or_the_scans(
    names: list[str], out: str, words: str, served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    for name in names:
        nib.save(scan(), tmp_path / "scans" / name)
    assert predict(served, tmp_path / "scans", tmp_path / out) == 2
    assert words in capsys.readouterr().err
