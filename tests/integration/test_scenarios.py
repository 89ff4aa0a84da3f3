"""Every scenario from the command line: it runs, it says why not, and it goes on where it stopped."""

from pathlib import Path

import pytest
from whole_runs import only_run, places, results, weights

from lifelong_ct.cli.main import main

QUIET = ("debug=tiny", "reporter=quiet", "reporter.html=false")
STREAMS = (
    "domain", "class", "class_disjoint", "class_overlap", "organ", "modality", "joint_shift", "blurry", "online",
)  # fmt: skip
ANNOTATED = {
    "class": [["liver", "spleen"], ["kidney_left", "kidney_right"]],
    "organ": [["liver", "spleen"], ["kidney_left", "kidney_right", "liver"]],
    "joint_shift": [["liver", "spleen"], ["kidney_left", "kidney_right"]],
}


def run(folder: Path, *args: str) -> int:
    return main([*QUIET, *places(folder), *args])


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A sweep of which two methods need boundaries."""
    folder = tmp_path_factory.mktemp("online")
    code = main([*QUIET[:2], *places(folder), "stream=online", "strategy=naive,ewc,lwf", "-m"])
    return folder, code, (folder / "runs" / "report" / "comparison.html").read_text()


def test_a_refusal_is_an_answer_of_a_sweep(online) -> None:
    folder, code, page = online
    assert code == 0
    documents = {name: results(only_run(folder, f"*-{name}-*")) for name in ("naive", "ewc", "lwf")}
    assert [document["status"] for document in documents.values()] == ["finished", "refused", "refused"]
    for name in ("ewc", "lwf"):
        assert f"strategy={name} must be told where an experience ends" in documents[name]["error"]
        assert f"strategy={name} must be told" in page
        assert documents[name]["scores"] == []


def test_a_refusal_is_an_error_of_a_single_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "stream=online", "strategy=ewc") == 2
    shown = capsys.readouterr().err
    assert "stream.boundaries" in shown
    assert "Traceback" not in shown
    assert not (only_run(tmp_path) / "checkpoints").exists()
    assert main([*QUIET, *places(tmp_path), "stream=online", "strategy=lwf,misspelt", "-m"]) == 2


def test_a_stream_without_boundaries_keeps_optimizer_and_rate(online) -> None:
    folder, _, _ = online
    (log,) = folder.glob("runs/*-naive-*/train.csv")
    rates = {
        line.split(",")[log.read_text().splitlines()[0].split(",").index("lr")]
        for line in log.read_text().splitlines()[1:]
    }
    assert rates == {"0.01"}


@pytest.mark.parametrize("name", ANNOTATED)
def test_the_document_says_what_each_experience_is_scored_on(tmp_path: Path, name: str) -> None:
    assert run(tmp_path, f"stream={name}", "strategy=naive") == 0
    document = results(only_run(tmp_path))
    assert [task["organs"] for task in document["tasks"]] == [
        [organ for organ in document["organs"] if organ in own] for own in ANNOTATED[name]
    ]
    every = set(document["organs"])
    for after in (0, 1, 2):
        for hospital in (*document["hospitals"], *document["unseen"]):
            scored = {
                s["organ"] for s in document["scores"] if (s["after"], s["hospital"]) == (after, hospital)
            }
            assert scored == every | {"mean"}
    assert all(s["mean"] == 0 for s in document["scores"] if s["after"] == 0 and s["metric"] == "dice")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in ("class", "online") else pytest.mark.slow) for n in STREAMS]
)
def test_stopped_at_a_boundary_and_gone_on_is_the_same(tmp_path: Path, name: str) -> None:
    args = (f"stream={name}", "strategy=replay")
    assert run(tmp_path / "whole", *args) == 0
    assert run(tmp_path / "half", "trainer.stop_after=1", *args) == 0
    assert results(only_run(tmp_path / "half"))["status"] == "stopped"
    assert run(tmp_path / "half", *args) == 0
    whole, half = (only_run(tmp_path / part) for part in ("whole", "half"))
    assert results(half)["scores"] == results(whole)["scores"]
    assert results(half)["summary"] == results(whole)["summary"]
    assert weights(half) == weights(whole)


@pytest.mark.slow
def test_every_scenario_with_every_kind_of_method(tmp_path: Path) -> None:
    """Joint training, one that stores patches, one that needs boundaries."""
    methods = ("joint", "replay", "ewc")
    assert run(tmp_path, f"stream={','.join(STREAMS)}", f"strategy={','.join(methods)}", "-m") == 0
    for name in STREAMS:
        found = [results(only_run(tmp_path, f"{name}-{method}-*"))["status"] for method in methods]
        assert found == ["finished", "finished", "refused" if name == "online" else "finished"]
