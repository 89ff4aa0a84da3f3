"""Every verb on a hospital that lies on a server."""

import http.server
import shutil
import threading
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scans
from whole_runs import only_run, places, results
from written import write

from lifelong_ct.cli.main import main
from lifelong_ct.data.layouts.phantom import PhantomLayout


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path):
    """A hospital of nnU-Net's files, and the address of its folder."""
    hospital = PhantomLayout("north", train=1, test=1, shape=(32, 32, 32), organs=list(scans.ORGANS))
    entry = write("nnunet", hospital, tmp_path / "served" / "canary")
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield (
            {**entry, "root": f"http://127.0.0.1:{running.server_port}/canary"},
            tmp_path / "served" / "canary",
        )
        running.shutdown()


def arguments(tmp_path: Path, entry: dict) -> list[str]:
    stream = scans.conf(tmp_path / "conf", north=entry)
    return [*stream, "strategy=naive", *places(tmp_path), "evaluation.roi=[32,32,32]", "reporter=quiet"]


def volumes(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "store").rglob("*.lctvol")}


def test_verify_ingest_plan_and_train(server, tmp_path, capfd):
    entry, folder = server
    args = arguments(tmp_path, entry)
    for verb in (["verify"], ["plan"], ["ingest"], []):
        assert main([*verb, *args]) == 0, verb
    shown = "".join(capfd.readouterr())
    assert "canary" not in shown
    assert "127.0.0.1" not in shown
    run = only_run(tmp_path)
    assert results(run)["status"] == "finished"
    for file in filter(Path.is_file, run.rglob("*")):
        assert b"127.0.0.1" not in file.read_bytes(), file
    stored = volumes(tmp_path)
    assert main(["ingest", *args]) == 0
    assert len(stored) == 2
    assert volumes(tmp_path) == stored, "each is stored once"
    (scan,) = (folder / "imagesTr").iterdir()
    image = nib.load(scan)
    scans.save(np.asanyarray(image.dataobj) + np.int16(1), image.affine, scan)
    assert main(["ingest", *args]) == 0
    assert len(volumes(tmp_path) - stored) == 1, "the scan changed on the server"


def test_what_is_wrong_is_found_and_names_stay_where_they_are(server, tmp_path, capfd):
    entry, folder = server
    scan = next((folder / "imagesTr").iterdir())
    whole = scan.read_bytes()
    scan.write_bytes(whole[:5000])
    args = arguments(tmp_path, entry)
    for verb in (["verify"], ["ingest"], []):
        assert main([*verb, *args]) == 2, verb
        shown = "".join(capfd.readouterr())
        assert "not whole" in shown.replace("\n", " ") or "corrupt" in shown
        assert "canary" not in shown
        assert "127.0.0.1" not in shown
    scan.write_bytes(whole)
    shutil.rmtree(tmp_path / "runs")
    assert main(["verify", *args]) == 0
