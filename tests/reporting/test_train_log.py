from pathlib import Path

from lifelong_ct.reporting.train_log import PENDING, TrainLog, TrainStep, read_train_csv


def test_lines_come_back(tmp_path: Path) -> None:
    log = TrainLog(tmp_path / "train.csv")
    log.start(0)
    rows = [TrainStep(1, step, 0.5 / (step + 1), 1e-3, 0.25 * step) for step in range(3)]
    for row in rows:
        log.append(row)
    assert read_train_csv(log.path) == []  # not on disk yet
    log.flush()
    assert (tmp_path / "train.csv").read_text().splitlines()[:2] == [
        "experience,step,loss,lr,seconds",
        "1,0,0.5,0.001,0.000",
    ]
    assert [row.step for row in read_train_csv(log.path)] == [0, 1, 2]


def test_a_kill_costs_few_lines(tmp_path: Path) -> None:
    log = TrainLog(tmp_path / "train.csv")
    log.start(0)
    for step in range(PENDING + 5):
        log.append(TrainStep(1, step, 1.0, 1e-3, 0.0))
    assert len(read_train_csv(log.path)) == PENDING


def test_a_cut_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("experience,step,loss,lr,seconds\n1,0,0.5,0.001,0.000\n1,1,0.")
    assert read_train_csv(path) == [TrainStep(1, 0, 0.5, 0.001, 0.0)]
    assert read_train_csv(tmp_path / "none.csv") == []
