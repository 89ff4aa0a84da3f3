"""What is installed elsewhere."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_carries_configuration_templates_and_labels(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("lifelong_ct", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "unpacked")
    wanted = [f"lifelong_ct/{file.relative_to(ROOT)}" for file in ROOT.glob("conf/**/*.yaml")]
    wanted += [str(file.relative_to(ROOT)) for file in ROOT.glob("lifelong_ct/**/templates/*.html")]
    assert set(wanted) | {"lifelong_ct/data/labels.yaml"} <= set(names)
    assert len(wanted) > 25
    code = (
        "import sys; from lifelong_ct.cli import conf; from lifelong_ct.cli.main import main;"
        "print(conf.own_folder()); sys.exit(main(['--help']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "unpacked")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    folder, _, told = done.stdout.partition("\n")
    assert Path(folder) == tmp_path / "unpacked" / "lifelong_ct" / "conf"
    for file in ROOT.glob("conf/strategy/*.yaml"):
        assert re.search(rf"^  {file.stem} ", told, re.MULTILINE), file.stem
