"""MR of drawn patients: the signal equation, coils, noise, and the same anatomy as CT."""

import numpy as np
import pytest

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom import ORGANS, Scanner
from lifelong_ct.data.phantom.magnetic import TISSUES, patient_signals, scan, spin_echo
from lifelong_ct.data.phantom.real_anatomy import OTHERS
from lifelong_ct.data.phantom.tissue import mean_attenuation
from lifelong_ct.data.scales import HIGH, LOW


@pytest.mark.parametrize(
    ("sequence", "tissue", "signal"),
    [  # with a pocket calculator: 1000 PD (1 - e^(-TR/T1)) e^(-TE/T2)
        ("t1", "liver", 900 * (1 - 0.5390) * 0.7452),
        ("t1", "fat", 900 * (1 - 0.2701) * 0.8633),
        ("t2", "spleen", 900 * (1 - 0.0492) * 0.2287),
        ("t2", "muscle", 900 * (1 - 0.0116) * 0.0449),
        ("t1", "air", 0.0),
    ],
)
def test_the_signal_of_a_spin_echo(sequence, tissue, signal):
    assert spin_echo(sequence, *TISSUES[tissue]) == pytest.approx(signal, abs=0.2)


def test_every_tissue_that_is_painted_has_a_signal():
    painted = patient_signals("t1", np.random.default_rng(0))
    assert set(mean_attenuation("portal_venous")) | set(OTHERS) <= set(painted)
    assert {f"content_{i}" for i in range(8)} | {"stomach_content"} <= set(painted)


def test_noise_of_air_is_rayleigh_and_coils_shade():
    """A Rician of signal 0 is a Rayleigh: mean σ √(π/2), standard deviation σ √(2 - π/2)."""
    ideal = np.zeros((40, 40, 40))
    ideal[20:] = 1000.0
    shading = np.zeros_like(ideal)
    shading[:, 20:] = 1.0
    scanner = Scanner(noise=20.0, kernel=0.0, thickness=0.0)
    image, (slope, offset) = scan(scanner, ideal, shading, np.random.default_rng(1))
    signal = image * slope + offset
    assert signal[:20].mean() == pytest.approx(20 * np.sqrt(np.pi / 2), rel=0.02)
    assert signal[:20].std() == pytest.approx(20 * np.sqrt(2 - np.pi / 2), rel=0.05)
    assert signal[20:, 20:].mean() / signal[20:, :20].mean() == pytest.approx(np.exp(0.2), rel=0.01)


@pytest.fixture(scope="module")
def scans():
    made = {name: PhantomLayout("same", train=1, test=0, sequence=name) for name in (None, "t1", "t2")}
    cases = {name: next(layout.cases()) for name, layout in made.items()}
    return {name: (cases[name], made[name].load(cases[name])) for name in made}


def test_the_same_patient_lies_in_every_scanner(scans):
    _, ct = scans[None]
    assert scans[None][0].modality == "CT"
    for name in ("t1", "t2"):
        case, raw = scans[name]
        assert case.modality == "MR"
        assert np.array_equal(raw.label, ct.label)
        assert np.array_equal(raw.affine, ct.affine)
        assert raw.organs == ORGANS
    ids = {name: case.params["recipe"] for name, (case, _) in scans.items()}
    assert "sequence" not in ids[None]
    assert len(set(ids.values())) == 3


def test_what_the_models_see_is_in_their_window(scans):
    for name in ("t1", "t2"):
        image = scans[name][1].image
        assert np.percentile(image, 0.5) == pytest.approx(LOW, abs=2)
        assert np.percentile(image, 99.5) == pytest.approx(HIGH, abs=2)


def test_contrast_is_that_of_the_textbook(scans):
    """Fluid and spleen are brighter than the liver on T2; the liver than the spleen on T1."""
    mean = {name: {o: raw.image[raw.mask(o)].mean() for o in ORGANS} for name, (_, raw) in scans.items()}
    assert mean["t2"]["gall_bladder"] > mean["t2"]["spleen"] > mean["t2"]["liver"] + 20
    assert mean["t1"]["liver"] > mean["t1"]["spleen"] + 20
    assert mean[None]["liver"] == pytest.approx(116, abs=30)


@pytest.mark.parametrize(
    ("more", "word"), [({"sequence": "flair"}, "flair"), ({"sequence": "t1", "invert": 10.0}, "are of CT")]
)
def test_mistakes(more, word):
    with pytest.raises(LifelongCTError, match=word):
        PhantomLayout("h", **more)
