"""Drawn patients: the right organs at the right place, and the same bytes whoever asks."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xxhash

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom import ORGANS, Population
from lifelong_ct.data.phantom.recipe import Recipe


def digest(layout, index):
    case = list(layout.cases())[index]
    raw = layout.load(case)
    return xxhash.xxh3_128_hexdigest(raw.image.tobytes() + raw.label.tobytes())


@pytest.fixture(scope="module")
def patients():
    layout = PhantomLayout("reference", train=10, test=0, scanner={"noise": 0.0})
    return [layout.load(case) for case in layout.cases()]


def middle_of(raw, organ):
    index = np.argwhere(raw.label == 1 + raw.organs.index(organ)).mean(0)
    return raw.affine[:3, :3] @ index + raw.affine[:3, 3]


def test_orientation_is_ras_and_organs_lie_where_they_belong(patients):
    for raw in patients:
        assert np.all(np.diag(raw.affine)[:3] > 0)
        at = {organ: middle_of(raw, organ) for organ in ORGANS}
        right, front, up = 0, 1, 2
        assert at["liver"][right] > 20 > -20 > at["spleen"][right]
        assert at["kidney_right"][right] > 0 > at["kidney_left"][right]
        assert at["postcava"][right] > at["aorta"][right]
        assert at["stomach"][front] > at["kidney_left"][front]
        assert at["gall_bladder"][front] > at["kidney_right"][front]
        assert at["liver"][up] > at["kidney_right"][up]
        assert at["spleen"][up] > at["kidney_left"][up]


@pytest.mark.parametrize(
    ("organ", "low", "high"),
    [  # mL; Geraghty et al. 2004: women's to men's means, 15 % to each side; the others: textbook ranges
        ("liver", 1200, 1970),
        ("spleen", 153, 274),
        ("kidney_left", 133, 222),
        ("kidney_right", 133, 222),
        ("pancreas", 55, 100),
        ("gall_bladder", 25, 60),
        ("stomach", 150, 600),
    ],
)
def test_mean_volumes_are_those_of_adults(patients, organ, low, high):
    voxel = np.prod(patients[0].spacing) / 1000
    volumes = [(raw.label == 1 + raw.organs.index(organ)).sum() * voxel for raw in patients]
    assert low < np.mean(volumes) < high
    assert np.std(volumes) / np.mean(volumes) > 0.08


@pytest.mark.parametrize(
    ("organ", "hu", "within"),
    [
        ("liver", 116, 15),
        ("spleen", 110, 15),
        ("kidney_left", 182, 25),
        ("aorta", 140, 22),
        ("gall_bladder", 12, 20),
    ],
)
def test_organs_have_the_hu_of_their_phase(patients, organ, hu, within):
    medians = [np.median(raw.image[raw.label == 1 + raw.organs.index(organ)]) for raw in patients]
    assert abs(np.mean(medians) - hu) < within


def test_bytes_do_not_depend_on_order_threads_or_process():
    layout = PhantomLayout("h", train=3, test=1, shape=(32, 32, 32))
    forwards = [digest(layout, i) for i in range(4)]
    assert [digest(layout, i) for i in reversed(range(4))][::-1] == forwards
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: digest(layout, i), range(4))) == forwards
    code = (
        "import xxhash; from lifelong_ct.data.layouts.phantom import PhantomLayout as P;"
        "l = P('h', train=3, test=1, shape=(32, 32, 32)); r = l.load(list(l.cases())[3]);"
        "print(xxhash.xxh3_128_hexdigest(r.image.tobytes() + r.label.tobytes()))"
    )
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == forwards[3]


def test_more_cases_do_not_change_earlier_ones():
    few, many = (PhantomLayout("h", train=n, test=1, shape=(16, 16, 16)) for n in (2, 5))
    assert digest(few, 0) == digest(many, 0)
    assert digest(few, 2) == digest(many, 5)  # the test case


def test_seed_hospital_and_case_choose_the_patient():
    layouts = [
        PhantomLayout(name, shape=(16,) * 3, seed=seed) for name, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    assert len({digest(layout, i) for layout in layouts for i in (0, 1, 8)}) == 9


def test_labels_follow_the_annotated_organs_and_the_picture_does_not():
    everything = PhantomLayout("h", train=1, test=0)
    some = PhantomLayout("h", train=1, test=0, organs=["spleen", "liver"])
    whole, part = (layout.load(next(layout.cases())) for layout in (everything, some))
    assert part.organs == ("liver", "spleen")
    assert np.array_equal(whole.image, part.image)
    assert np.array_equal(part.label == 1, whole.label == 1 + ORGANS.index("liver"))
    assert np.array_equal(part.label == 2, whole.label == 1 + ORGANS.index("spleen"))
    assert part.label.max() == 2


def test_larger_patients_are_larger():
    small, large = (
        PhantomLayout("h", train=1, test=0, population={"body": body, "fat": 10.0}) for body in (0.85, 1.1)
    )
    body = [(layout.load(next(layout.cases())).image > -300).sum() for layout in (small, large)]
    assert body[1] > 1.2 * body[0]


def test_a_recipe_survives_json():
    layout = PhantomLayout(
        "h", scanner={"spacing": [5, 5, 4]}, population={"volumes": {"liver": 1.2}}, invert=37.5
    )
    assert Recipe.from_json(layout.recipe.to_json()) == layout.recipe


def test_inverted_contrast_is_mirrored():
    plain, inverted = (
        PhantomLayout("h", train=1, test=0, scanner={"noise": 0.0}, invert=value) for value in (None, 37.5)
    )
    a, b = (layout.load(next(layout.cases())).image.astype(int) for layout in (plain, inverted))
    inside = (a > -200) & (a < 300)
    assert np.abs(a + b - 75)[inside].max() <= 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"phase": "lunar"}, "unenhanced"),
        ({"organs": ["lever"]}, "liver"),
        ({"organs": ["colon"]}, "stomach"),
        ({"scanner": {"dose": 3}}, "thickness"),
        ({"population": {"volumes": {"colon": 2}}}, "spleen"),
        ({"enhancement": {"brain": 2}}, "kidney"),
        ({"anatomy": "/nowhere"}, "anatomy: null"),
    ],
)
def test_wrong_options_are_told_with_what_there_is(options, told):
    with pytest.raises(LifelongCTError, match=told):
        PhantomLayout("h", **options)


def test_a_population_outside_human_sizes_is_refused():
    with pytest.raises(LifelongCTError, match="reference adult"):
        Population(body=3.0)
