"""Which runs of a sweep are the references of which, and what the comparison says of it."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from lifelong_ct.reporting.axes import axes_csv, axes_of, axes_table
from lifelong_ct.reporting.comparison import compare
from lifelong_ct.reporting.references import alone, together
from lifelong_ct.reporting.run_folder import Run, RunFolder, read_run

# as DICE of conftest: when learnt .8, .8, .9. A model per hospital reaches .9, .7 and 1; all so far .9, .85 and .95
ALONE = [[0.1] * 4, [0.9, 0.4, 0.3, 0.3], [0.6, 0.7, 0.4, 0.4], [0.5, 0.7, 0.94, 0.5]]
SO_FAR = [[0.1] * 4, [0.9, 0.4, 0.3, 0.3], [0.6, 0.85, 0.4, 0.4], [0.5, 0.7, 0.92, 0.5]]
TOGETHER = {"past_data": True, "reinitialise": False}


@pytest.fixture
def played(tmp_path: Path, made_up) -> Any:
    def play(strategy: str, seed: int = 0, dice: Any = None, requires: Any = None, **config: Any) -> Run:
        run = made_up(
            name=f"toy-{strategy}-s{seed}-{len(list(tmp_path.iterdir()))}", strategy=strategy, seed=seed
        )
        run.dice = dice or run.dice
        run.config = {"strategy": {"name": strategy, "requires": requires or {}}, "seed": seed, **config}
        run.play(RunFolder(tmp_path / run.name, str))
        return read_run(tmp_path / run.name)

    return play


def test_by_hand(played) -> None:
    naive = played("naive")
    runs = [naive, played("independent", dice=ALONE), played("cumulative", dice=SO_FAR, requires=TOGETHER)]
    values, labels = axes_of(naive, runs)
    assert labels == {"plasticity": "independent", "intransigence": "cumulative"}
    assert values["plasticity"] == pytest.approx(((0.8 - 0.7) + (0.9 - 0.94)) / 2)
    assert values["plasticity_ratio"] == pytest.approx((0.8 / 0.7 + 0.9 / 0.94) / 2)
    assert values["intransigence"] == pytest.approx(((0.85 - 0.8) + (0.92 - 0.9)) / 2)
    assert values["time_of_naive"] == 1.0
    assert values["unseen"] == pytest.approx(0.54)


def costing(run: Run, cpu: float) -> Run:
    run.results["cpu_seconds"] = {"training": cpu}
    return run


def test_cost_is_over_naive_of_the_same_configuration(played) -> None:
    mine = costing(played("replay", trainer={"steps": 10}), 60.0)
    far = costing(played("naive", trainer={"steps": 99}), 300.0)
    seeds = [
        costing(played("naive", seed, trainer={"steps": 10}), cpu) for seed, cpu in ((7, 20.0), (8, 40.0))
    ]
    same = costing(played("naive", trainer={"steps": 10}), 40.0)

    def ratio(*naive: Run) -> float | None:
        return axes_of(mine, [mine, *naive])[0]["cpu_of_naive"]

    assert ratio() is ratio(far) is None
    assert axes_of(mine, [mine, far])[0]["time_of_naive"] is None
    assert ratio(far, *seeds) == pytest.approx(60 / 30)
    assert ratio(far, *seeds, same) == pytest.approx(60 / 40)


def test_without_references_nothing_is_said(played) -> None:
    naive = played("naive")
    values, labels = axes_of(naive, [naive, played("replay")])
    assert (values["plasticity"], values["intransigence"]) == (None, None)
    assert labels == {"plasticity": "", "intransigence": ""}


def test_a_reference_has_none_itself(played) -> None:
    runs = [played("independent", seed) for seed in (0, 1)]
    assert alone(runs[0], runs) is None


def test_the_same_seed_first_then_the_mean_of_all_seeds(played) -> None:
    naive = [played("naive", seed) for seed in (0, 7)]
    other = [[*ALONE[:3], [0.5, 0.7, top, 0.5]] for top in (0.92, 0.8)]
    runs = [*naive, *(played("independent", seed, dice) for seed, dice in enumerate(other))]
    same, mean = alone(naive[0], runs), alone(naive[1], runs)
    assert same is not None
    assert mean is not None
    assert same.label == "independent"
    assert [b for _, b in same.pairs] == pytest.approx([0.7, 0.92])
    assert mean.label == "independent seed 0, independent seed 1"
    assert [b for _, b in mean.pairs] == pytest.approx([0.7, (0.92 + 0.8) / 2])


def test_a_reference_that_was_trained_otherwise_says_so(played) -> None:
    naive = played("naive", trainer={"steps": 10})
    far = played("independent", dice=ALONE, trainer={"steps": 99})
    reference = alone(naive, [naive, far])
    assert reference is not None
    assert reference.label == "independent (other trainer.steps)"
    near = played("independent", dice=SO_FAR, trainer={"steps": 10})
    reference = alone(naive, [naive, far, near])
    assert reference is not None
    assert reference.label == "independent"
    assert [b for _, b in reference.pairs] == pytest.approx([0.85, 0.92])


def test_joint_runs_of_each_length_and_what_they_do_not_cover(tmp_path: Path, made_up, played) -> None:
    """Only that of all three hospitals is there."""
    naive = played("naive")
    joint = played("joint", dice=SO_FAR, requires={"past_data": True, "reinitialise": True})
    reference = together(naive, [naive, joint])
    assert reference is not None
    assert reference.label == "joint; 1 of 2 experiences"
    assert reference.pairs == ((pytest.approx(0.9), pytest.approx(0.92)),)


def test_the_table_names_its_references(played) -> None:
    runs = [played("naive"), played("independent", dice=ALONE)]
    sections = compare(runs)
    rows = {row["label"]: row for row in csv.DictReader(io.StringIO(axes_csv(sections, runs)))}
    assert rows["naive"]["plasticity_reference"] == "independent"
    assert float(rows["naive"]["plasticity_mean"]) == pytest.approx(0.03)
    assert rows["naive"]["intransigence_reference"] == rows["naive"]["intransigence_mean"] == ""
    assert rows["independent"]["plasticity_mean"] == ""
    table = axes_table(sections[0], runs)
    assert table is not None
    assert "naive: plasticity against independent" in table["references"]
    assert "intransigence" not in table["header"]
