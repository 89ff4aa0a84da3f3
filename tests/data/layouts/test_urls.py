"""Every layout of files reads from URLs as from folders: an archive, a server, an object store."""

import http.server
import threading
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from upath import UPath
from written import KINDS, write

from lifelong_ct.core.errors import DataError
from lifelong_ct.data import readers
from lifelong_ct.data.layouts import open_layout
from lifelong_ct.data.layouts.phantom import PhantomLayout

HOSPITAL = PhantomLayout("north", train=1, test=1, shape=(32, 32, 32), organs=["liver", "spleen"])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A hospital in each layout, and an archive of each."""
    folder = tmp_path_factory.mktemp("hospitals")
    for kind in KINDS:
        write(kind, HOSPITAL, folder / kind)
        with zipfile.ZipFile(folder / f"{kind}.zip", "w") as archive:
            for path in sorted((folder / kind).rglob("*")):
                archive.write(path, path.relative_to(folder / kind))
    return folder


@pytest.fixture(scope="module")
def server(root):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def in_memory(folder: Path) -> str:
    for path in filter(Path.is_file, folder.rglob("*")):
        copy = UPath(f"memory://{folder.name}") / path.relative_to(folder).as_posix()
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return f"memory://{folder.name}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_hospital_is_the_same_wherever_it_lies(kind, root, server):
    entry = write(kind, HOSPITAL, root / kind)
    expected = HOSPITAL.load(next(HOSPITAL.cases()))
    for url in (f"zip://::{root / kind}.zip", f"{server}/{kind}", in_memory(root / kind)):
        moved = {**entry, "root": url}
        if "manifest" in entry:
            moved["manifest"] = Path(entry["manifest"]).name
        layout = open_layout({"name": "north", **moved})
        case = next(layout.cases())
        raw = layout.load(replace(case, organs=expected.organs))
        assert (raw.image == expected.image).all()
        assert (raw.label == expected.label).all()
        assert (raw.affine == expected.affine).all()
        assert readers.grid(case.images[0])[0] == (32, 32, 32)
        assert list(layout.names()) == [] if "manifest" in entry else case.id in layout.names()


def test_a_server_that_breaks_off_is_an_error_of_the_case(root):
    class Broken(Quiet):
        def do_GET(self) -> None:
            if self.path.endswith("ct.nii.gz"):
                self.send_error(500)
            else:
                super().do_GET()

    entry = write("abdomen_atlas", HOSPITAL, root / "abdomen_atlas")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Broken, directory=str(root))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/abdomen_atlas"
        layout = open_layout({"name": "north", **entry, "root": url})
        case = next(layout.cases())
        with pytest.raises(DataError, match="500") as caught:
            layout.load(case)
        assert case.id in caught.value.where
        assert [error.code for error in layout.problems(case)] == ["missing"]
        running.shutdown()


def test_a_place_that_does_not_answer_is_said_with_its_reason():
    with pytest.raises(DataError, match=r"does not exist: .*[Cc]onnect") as caught:
        open_layout({"name": "n", "layout": "msd", "root": "http://127.0.0.1:9/x", "test": []})
    assert caught.value.code == "missing"
