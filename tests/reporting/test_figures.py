import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lifelong_ct.core.types import EvaluationRow
from lifelong_ct.evaluation.matrix import ResultMatrix
from lifelong_ct.reporting.curves import MOST, shown_hospitals
from lifelong_ct.reporting.figures import (
    experience_names,
    heat_colours,
    luminance,
    matrix_heatmap,
    memory_bars,
    run_figures,
    running_mean,
    time_bars,
)
from lifelong_ct.reporting.style import PALETTE, line_style, new_axes, png, save
from lifelong_ct.reporting.train_log import TrainStep


def steps() -> list[TrainStep]:
    return [TrainStep(e, s, 1.0 / (e + s), 1e-3, 0.1 * s) for e in (1, 2, 3) for s in range(5)]


def test_every_figure_of_a_run(made_up, tmp_path: Path) -> None:
    run = made_up()
    figures = run_figures(run.results(), run.matrix(), steps())
    assert list(figures) == ["matrix", "hospitals", "loss", "memory", "time"]
    for name, figure in figures.items():
        image = Image.open(save(figure, tmp_path / f"{name}.png"))
        assert min(image.size) > 200


def test_a_name_is_no_formula() -> None:
    with new_axes(2, 2) as (_, (axes,)):
        axes.set(title=r"St $\frac$ Mary", xlabel="a $x_$ b")  # as formulas both would raise
        axes.plot([0, 1], label="$^$")
        axes.legend()
        axes.set_xticks([0], ["$_$"])


def test_a_run_without_scores_has_no_matrix() -> None:
    assert list(run_figures({"hospitals": ["a"]}, ResultMatrix(), steps())) == ["loss"]
    assert run_figures({}, ResultMatrix(), []) == {}


def test_joint_training_has_no_curves(made_up) -> None:
    run = made_up(first=3)
    assert list(run_figures(run.results(), run.matrix(), [])) == ["matrix", "memory", "time"]


def test_the_heatmap_shows_the_numbers(made_up) -> None:
    run = made_up()
    axes = matrix_heatmap(run.results(), run.matrix()).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:4] == ["0.10", "0.10", "0.10", "0.05"]
    assert texts[-4:] == ["0.50", "0.70", "0.90", "0.54"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c", "d\n(unseen)"]
    frames = [(round(p.get_x() + 0.47), round(p.get_y() + 0.45)) for p in axes.patches]
    assert frames == [(0, 1), (1, 2), (2, 3)]  # a after 1, b after 2, c after 3


def test_the_same_figure_is_the_same_file(made_up) -> None:
    run = made_up()
    first, second = (png(matrix_heatmap(run.results(), run.matrix())) for _ in range(2))
    assert first == second
    assert b"Software" not in first


def test_many_hospitals_fit(made_up) -> None:
    names = [f"hospital_{i:02d}" for i in range(14)]
    run = made_up()
    rows = [r for after in range(4) for r in run.rows(after)]
    wide = ResultMatrix(
        type(r)(r.after, name, r.case, r.organ, r.metric, r.value)
        for name in names
        for r in rows
        if r.hospital == "a"
    )
    figure = matrix_heatmap({"hospitals": names[:3], "unseen": names[3:]}, wide)
    assert Image.open(io.BytesIO(png(figure))).size[0] > 14 * 100  # pixels


def test_a_heatmap_does_not_grow_without_end() -> None:
    """Hospital h00 loses most, h01 less …; 30 hospitals, of which 3 and the last 3 experiences are drawn."""
    drop = {f"h{i:02d}": 0.6 - 0.02 * i for i in range(30)}
    matrix = ResultMatrix(
        EvaluationRow(after, name, "1", "liver", "dice", 0.9 - lost * (after == 30))
        for after in range(31)
        for name, lost in drop.items()
    )
    axes = matrix_heatmap({}, matrix, most=3).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["h00", "h01", "h02"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["28", "29", "30"]
    assert [text.get_text() for text in axes.texts] == ["0.90"] * 6 + ["0.30", "0.32", "0.34"]
    assert "(3 of 30 shown)" in axes.get_title(loc="left") + axes.get_title()
    assert len(matrix_heatmap({}, matrix).axes[0].texts) == 31 * 30


def test_text_on_a_cell_can_be_read() -> None:
    assert [heat_colours(value)[1] for value in (0.0, 1.0)] == ["#ffffff", "#000000"]
    for value in np.linspace(0, 1, 101):
        one, other = sorted(map(luminance, heat_colours(value)))
        assert (other + 0.05) / (one + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


def test_luminance_of_the_standard() -> None:
    # https://www.w3.org/TR/WCAG22/#dfn-relative-luminance: weights of pure colours; 0x77 / 255 to linear by hand
    assert [round(luminance(c), 4) for c in ("#ff0000", "#00ff00", "#0000ff")] == [0.2126, 0.7152, 0.0722]
    assert luminance("#777777") == pytest.approx(((119 / 255 + 0.055) / 1.055) ** 2.4)


def test_heat_is_clipped() -> None:
    assert heat_colours(7.0) == heat_colours(1.0)


def test_running_mean_by_hand() -> None:
    values = np.array([1.0, 3.0, 5.0, 7.0])
    assert running_mean(values, 2).tolist() == [1.0, 2.0, 4.0, 6.0]
    assert running_mean(values, 1).tolist() == values.tolist()


def test_lines_past_the_palette_differ() -> None:
    first, again = line_style(0), line_style(len(PALETTE))
    assert first["color"] == again["color"]
    assert first["linestyle"] != again["linestyle"]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ({"hospitals": ["a", "b"]}, {1: "a", 2: "b"}),
        ({"hospitals": ["a", "b"], "experiences": [{"after": 2, "hospital": "a … b"}]}, {2: "a … b"}),
        ({}, {}),
    ],
)
def test_experience_names(results: dict, expected: dict) -> None:
    assert experience_names(results) == expected


def test_memory_is_told_as_stored_not_as_reserved() -> None:
    disk = {"limit": 4096, "peak": 4096, "used": 1024}
    axes = memory_bars({"disk": disk, "gpu": {"limit": None, "peak": 2048, "used": 0}}).axes[0]
    filled = [bar.get_width() for bar in axes.patches if bar.get_fill()]
    assert filled == [25.0]
    assert [text.get_text() for text in axes.texts] == ["disk: 1.0 KiB of 4.0 KiB", "gpu: 2.0 KiB, no limit"]


def test_time_in_percent() -> None:
    axes = time_bars({"reading": 1.0, "training": 30.0, "evaluation": 9.0, "total": 40.0}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.5, 75.0, 22.5]
    assert axes.texts[1].get_text() == "training: 30 s, 75 %"


def test_curves_have_intervals_over_cases(made_up) -> None:
    run = made_up()
    figure = run_figures(run.results(), run.matrix(), [])["hospitals"]
    first = figure.axes[0]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "a (n = 2)", "b (n = 2)", "c (n = 2)", "d (n = 2)",
    ]  # fmt: skip
    assert first.lines[0].get_ydata().tolist() == pytest.approx([0.1, 0.8, 0.6, 0.5])
    assert first.lines[1].get_xdata() == [1]  # where a was trained
    assert len(first.collections) == 1


def test_of_many_hospitals_those_that_lost_most_are_drawn() -> None:
    names = [f"h{i}" for i in range(MOST + 2)]
    table = np.array([[0.9] * len(names), [0.9 - 0.01 * i for i in range(len(names))]])
    assert shown_hospitals(names, table) == names[2:]
    assert shown_hospitals(names[:3], table[:, :3]) == names[:3]
