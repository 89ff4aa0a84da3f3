import io
from pathlib import Path

from lifelong_ct.reporting.console import Console, TimeLeft, matrix_rows, summary_lines


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path, made_up) -> None:
    stream = io.StringIO()
    made_up().play(Console(tmp_path, stream))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    assert "[2/3 b] 8 cases, 5 steps" in text
    assert "[after 2] Dice: a 0.600, b 0.800, c 0.400, d 0.450" in text
    assert "ACC 0.700   BWT -0.200   FWT +0.300   forgetting 0.200   final mean 0.660" in text
    assert "Synthetic" in text


def test_the_matrix_is_a_table(made_up) -> None:
    run = made_up()
    assert matrix_rows(run.results(), run.matrix()) == [
        ["dice", "a", "b", "c", "d*"],
        ["untrained", "0.100", "0.100", "0.100", "0.050"],
        ["after 1 a", "0.800", "0.400", "0.300", "0.350"],
        ["after 2 b", "0.600", "0.800", "0.400", "0.450"],
        ["after 3 c", "0.500", "0.700", "0.900", "0.540"],
    ]


def test_joint_training_has_a_last_row_only(made_up) -> None:
    run = made_up(first=3)
    assert [row[0] for row in matrix_rows(run.results(), run.matrix())] == ["dice", "after 3 c"]
    lines = summary_lines(run.results(), run.matrix())
    assert any(line.startswith("ACC 0.700   BWT –   FWT –   forgetting –") for line in lines)


def test_the_peak_stands_beside_the_limit(made_up) -> None:
    run = made_up(exemplars=3 << 20)
    lines = summary_lines(run.results(), run.matrix())
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["exemplars"] == ["4.0", "MiB", "3.0", "MiB", "4.0", "MiB"]
    assert rows["disk"] == ["none", "40.0", "MiB", "50.0", "MiB"]


def test_a_handful_of_scans_is_called_so(made_up) -> None:
    run = made_up(synthetic=False)
    assert "a working pipeline, not science" in summary_lines(run.results(), run.matrix())[-1]


def test_a_failure_before_the_start_is_told(tmp_path: Path, made_up) -> None:
    stream = io.StringIO()
    console = Console(tmp_path, stream)
    console.event("run_ended", status="failed", results={"run": {}}, matrix=None, error="x")
    console.close("failed")
    assert stream.getvalue() == "the run failed\n"


def test_an_old_terminal_gets_a_question_mark(tmp_path: Path) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(tmp_path, stream).event("note", text="a – b")
    stream.flush()
    assert raw.getvalue() == b"a ? b\n"


def test_time_left_is_that_of_the_whole_run() -> None:
    now = [100.0]
    left = TimeLeft(30, lambda: now[0])
    now[0], left.done = 100.0, 1
    assert left.seconds() is None, "one step says nothing: libraries were loaded in it"
    now[0], left.done = 120.0, 10
    assert left.seconds() == 40.0  # 20 s for 10 steps, 20 steps to go


def test_a_terminal_shows_a_bar(tmp_path: Path, made_up, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    made_up().play(Console(tmp_path, stream))
    assert "[3/3 c]" in stream.getvalue()
    assert "left" in stream.getvalue()
