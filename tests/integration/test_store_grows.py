"""What grows with the number of hospitals or cases, and what does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from whole_runs import only_run, results, run_fresh

MB = 1 << 20
SMALL = (
    "stream=phantom_long",
    "stream.common.train=2",
    "stream.common.test=1",
    "stream.common.shape=[32,32,32]",
    "stream.patch=[16,16,16]",
    "stream.steps=2",
    "strategy=naive",
    "evaluation.schedule=final",
    "evaluation.roi=[32,32,32]",
    "evaluation.overlap=0",
    "reporter=quiet",
    "reporter.html=false",
)


def held(folder: Path) -> dict[str, int]:
    """Bytes of a store: volumes, and everything else."""
    files = [path for path in (folder / "store").rglob("*") if path.is_file()]
    sizes = {path: path.stat().st_size for path in files}
    volumes = sum(n for path, n in sizes.items() if path.suffix == ".lctvol")
    return {"volumes": volumes, "rest": sum(sizes.values()) - volumes}


@pytest.mark.slow
def test_fifty_hospitals_take_the_disk_of_a_few(tmp_path: Path) -> None:
    """The limit leaves about 160 kB beside the checkpoints; a hospital's volumes take about 80 kB."""
    found, limit = {}, 21_000_000
    for count in (5, 50):
        folder = tmp_path / str(count)
        folder.mkdir()
        done = run_fresh(folder, *SMALL, f"stream.first={count}", f"memory.disk={limit}")
        assert done.returncode == 0, done.stderr
        document = results(only_run(folder))
        assert len(document["experiences"]) == count
        checkpoints = sum(
            p.stat().st_size for p in (only_run(folder) / "checkpoints").rglob("*") if p.is_file()
        )
        found[count] = {**held(folder), "checkpoints": checkpoints, **document["memory"]["disk"]}
    print(json.dumps(found, indent=1))
    few, many = found[5], found[50]
    assert many["checkpoints"] + many["volumes"] <= limit
    assert many["volumes"] <= few["volumes"] + 80_000 <= 240_000
    assert many["peak"] == few["peak"] <= limit
    assert many["used"] <= limit
    assert many["rest"] - few["rest"] <= 45 * 3 * 200  # a row per case, if that


MEASURE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from scans_of_noise import write_hospital
from lifelong_ct.core.host_memory import give_back, steady_heap
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data.ingest import ingest
from lifelong_ct.data.store import VolumeStore
import torch

def status(*names):
    lines = (line.split() for line in open("/proc/self/status"))
    found = {line[0][:-1]: int(line[1]) * 1024 for line in lines if line[0][:-1] in names}
    return [found[name] for name in names]

root, count, ram, workers = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
layout = write_hospital(root / "scans", count)
cases = list(layout.cases())
steady_heap()
torch.nn.functional.interpolate(torch.zeros(1, 1, 4, 4, 4), size=(5, 5, 5), mode="trilinear")
ledger = Ledger({"ram": ram})
store = VolumeStore(root / f"store{count}-{ram}-{workers}", ledger, 0)
give_back()
(base,) = status("RssAnon")
Path("/proc/self/clear_refs").write_text("5")  # the kernel's peak starts here
ingest(layout, cases, store, (1.5, 1.5, 1.5), workers=workers)
peak, of_files = status("VmHWM", "RssFile")
print(peak - of_files - base, ledger.peak("ram"))
"""


def measured(root: Path, count: int, ram: int, workers: int) -> tuple[int, int]:
    """Peak of anonymous memory above what the imports take, and of what the ledger had reserved."""
    here = str(Path(__file__).resolve().parents[1])
    args = [here, str(root), str(count), str(ram), str(workers)]
    done = subprocess.run([sys.executable, "-c", MEASURE, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak, reserved = map(int, done.stdout.split())
    print(
        f"{count} cases, {ram / MB:.0f} MiB, {workers} threads: {peak / MB:.0f} MiB, {reserved / MB:.0f} reserved"
    )
    return peak, reserved


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="this system does not tell peaks of memory"
)
@pytest.mark.parametrize(("ram", "workers"), [(128, 1), (128, 4), (512, 4)])
def test_ingest_stays_inside_the_limit_and_is_flat(tmp_path: Path, ram: int, workers: int) -> None:
    """Scans of 192×192×96 voxels, for each of which about 70 MB are reserved: with 128 MiB one is at work, with 512
    four, which meet at their peaks the more often the more there are."""
    few, reserved = measured(tmp_path, 6, ram * MB, workers)
    many, same = measured(tmp_path, 24, ram * MB, workers)
    assert same == pytest.approx(reserved, rel=1e-3)
    assert same <= ram * MB
    assert max(few, many) <= reserved + 50 * MB
    if reserved < 100 * MB:
        assert many - few <= 24 * MB
