import csv
import io
from pathlib import Path

import pytest

from lifelong_ct.reporting.comparison import compare, comparison, flat, measured, spread, strata_csv, to_csv
from lifelong_ct.reporting.run_folder import Run, RunFolder, read_run


def folder(root: Path, made_up, strategy: str, seed: int, config: dict | None = None, **more) -> Run:
    values = {"strategy": {"name": strategy}, "seed": seed, **(config or {})}
    run = made_up(
        name=f"toy-{strategy}-s{seed}-{len(list(root.glob('*'))):08x}", strategy=strategy, seed=seed
    )
    run.config = values
    for key, value in more.items():
        setattr(run, key, value)
    run.play(RunFolder(root / run.name, str))
    return read_run(root / run.name)


def shifted(made_up, by: float) -> list[list[float]]:
    """The last row, hospitals a and b, moved: ACC moves by 2/3 of it, BWT by all of it."""
    rows = made_up().dice
    rows[3][0] += by
    rows[3][1] += by
    return rows


def test_mean_and_deviation_over_seeds(tmp_path: Path, made_up) -> None:
    runs = [
        folder(tmp_path, made_up, "naive", seed, dice=shifted(made_up, by))
        for seed, by in enumerate((-0.03, 0.0, 0.03))
    ]
    (row,) = comparison(runs)
    assert (row.label, row.seeds) == ("naive", [0, 1, 2])
    # BWT: -.23, -.20, -.17: mean -.20, deviation sqrt((.03² + 0 + .03²) / 2) = .03
    assert row.spreads["bwt"].mean == pytest.approx(-0.20)
    assert row.spreads["bwt"].sd == pytest.approx(0.03)
    assert row.spreads["acc"].mean == pytest.approx(0.70)
    assert row.spreads["acc"].sd == pytest.approx(0.02)
    assert row.spreads["seconds"].mean == pytest.approx(25.0)
    assert row.hospital("a").mean == pytest.approx(0.50)


def test_other_settings_are_another_row(tmp_path: Path, made_up) -> None:
    runs = [
        folder(tmp_path, made_up, "replay", 0, {"memory": {"exemplars": "4MiB"}, "paths": {"runs": "x"}}),
        folder(tmp_path, made_up, "replay", 1, {"memory": {"exemplars": "4MiB"}, "paths": {"runs": "y"}}),
        folder(
            tmp_path, made_up, "replay", 0, {"memory": {"exemplars": "8MiB"}}, dice=shifted(made_up, 0.06)
        ),
        folder(
            tmp_path, made_up, "naive", 0, {"memory": {"exemplars": "4MiB"}}, dice=shifted(made_up, -0.06)
        ),
    ]
    assert [(row.label, len(row.runs)) for row in comparison(runs)] == [
        ("replay (memory.exemplars=8MiB)", 1),
        ("replay (memory.exemplars=4MiB)", 2),
        ("naive", 1),
    ]


def test_labels_are_unique_where_the_keys_that_differ_are_many(tmp_path: Path, made_up) -> None:
    runs = [
        folder(tmp_path, made_up, "x", 0, {"model": {**dict.fromkeys("abcd", i // 2), "e": i}})
        for i in range(3)
    ]
    labels = {row.label for row in comparison(runs)}
    assert labels == {
        "x (model.a=0, model.b=0, model.c=0, model.d=0)",
        "x (model.a=0, model.b=0, model.c=0, model.d=0) #2",
        "x (model.a=1, model.b=1, model.c=1, model.d=1)",
    }


def test_a_part_that_takes_over_the_seed_is_no_other_method(tmp_path: Path, made_up) -> None:
    runs = [
        folder(tmp_path, made_up, "x", s, {"strategy": {"name": "x", "plugins": {"seed": s}}}) for s in (0, 1)
    ]
    assert len(comparison(runs)) == 1
    runs = [folder(tmp_path, made_up, "x", s, {"stream": {"seed": s}}) for s in (0, 1)]
    assert len(comparison(runs)) == 2


def test_a_single_seed_has_no_deviation(tmp_path: Path, made_up) -> None:
    (row,) = comparison([folder(tmp_path, made_up, "naive", 0)])
    assert row.spreads["acc"].sd is None


def test_joint_training_has_no_transfer(tmp_path: Path, made_up) -> None:
    config = {"strategy": {"name": "joint", "requires": {"past_data": True, "reinitialise": True}}}
    run = made_up(name="toy-joint-s0-00000000", strategy="joint", config=config, first=3)
    reporter = RunFolder(tmp_path / run.name, str)
    run.start(reporter)
    run.experience(reporter, 3)
    run.end(reporter)
    (row,) = comparison([read_run(tmp_path / run.name)])
    assert row.at_once
    assert row.spreads["acc"].mean == pytest.approx(0.7)
    assert all(row.spreads[name].mean is None for name in ("bwt", "fwt", "forgetting", "diagonal_mean"))


def test_what_a_method_holds_is_its_most_over_all_kinds(tmp_path: Path, made_up) -> None:
    run = folder(tmp_path, made_up, "naive", 0)
    rows = [{"held": {"gpu": 7, "exemplars": 5}}, {"held": {"gpu": 9}}, {"held": {}}]
    run.results["experiences"] = rows
    assert measured(run, "held_bytes") == 12
    run.results["experiences"] = [{}]  # of a version that did not tell
    assert measured(run, "held_bytes") is None


def test_streams_are_not_mixed(tmp_path: Path, made_up) -> None:
    runs = [folder(tmp_path, made_up, "naive", 0), folder(tmp_path, made_up, "naive", 1, stream="other")]
    sections = compare(runs)
    assert [(s.stream, s.hospitals, s.unseen) for s in sections] == [
        ("toy", ("a", "b", "c"), ("d",)),
        ("other", ("a", "b", "c"), ("d",)),
    ]


def test_the_csv_has_full_numbers(tmp_path: Path, made_up) -> None:
    runs = [
        folder(tmp_path, made_up, "naive", seed, dice=shifted(made_up, by))
        for seed, by in ((0, -0.03), (1, 0.03))
    ]
    (line,) = csv.DictReader(io.StringIO(to_csv(compare(runs))))
    assert (line["stream"], line["hospitals"], line["label"], line["seeds"]) == (
        "toy",
        "a b c",
        "naive",
        "0 1",
    )
    assert float(line["bwt_mean"]) == pytest.approx(-0.20)
    assert float(line["bwt_sd"]) == pytest.approx(0.03 * 2**0.5)
    assert line["bwt_n"] == "2"


def test_the_csv_says_what_is_significant(tmp_path: Path, made_up) -> None:
    """Three hospitals of two patients are enough for a test; each cell of R moves by the same."""
    runs = [folder(tmp_path, made_up, "naive", 0)]
    better = [[value + 0.1 * (i == 3) for value in row] for i, row in enumerate(made_up().dice)]
    runs.append(folder(tmp_path, made_up, "replay", 0, dice=better))
    first, second = csv.DictReader(io.StringIO(to_csv(compare(runs))))
    assert (first["label"], first["versus_best"], first["versus_naive"]) == ("replay", "", "better")
    assert (second["versus_best"], second["versus_naive"]) == ("worse", "")
    assert float(first["over_naive"]) == pytest.approx(0.1)
    assert float(first["p_naive"]) == pytest.approx(2 / 2**6)  # six patients, all better: one pair, two sides
    assert (first["patients"], first["rank_mean"], first["first"]) == ("6", "1.0", "1.0")
    assert first["note"] == "1 seed: the interval says nothing about other seeds"
    # the two organs of a patient lie 0.05 above and below the mean, so that patients do not differ
    assert float(first["acc_low"]) == pytest.approx(0.8) == float(first["acc_high"])


def test_the_csv_of_kinds_of_label(tmp_path: Path, made_up) -> None:
    (line,) = csv.DictReader(io.StringIO(strata_csv(compare([folder(tmp_path, made_up, "naive", 0)]))))
    assert (line["label"], line["label_kind"], line["patients"]) == ("naive", "synthetic", "6")
    assert float(line["acc"]) == pytest.approx(0.7)


def test_spread_leaves_out_what_is_undefined() -> None:
    assert spread([None, 1.0, None, 3.0]).mean == 2.0
    assert spread([None]).mean is None


def test_flat() -> None:
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": {}}) == {"a.b": 1, "a.c.d": 2, "e": {}}
