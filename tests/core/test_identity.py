import hashlib
import hmac
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from upath import UPath

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.identity import KEY_FILE, Identity, Redactor
from lifelong_ct.core.types import Case


def case(image: str, id: str = "scan-7", patient: str = "John^Canary", hospital: str = "north") -> Case:
    return Case(hospital, id, patient, "train", ("liver", "spleen"), images=(Path(image),))


class TestIdentity:
    def test_a_pseudonym_is_an_hmac_with_the_key_of_the_state_folder(self, tmp_path: Path) -> None:
        identity = Identity(tmp_path / "state")
        key = (tmp_path / "state" / KEY_FILE).read_bytes()
        expected = hmac.new(key, b"north\x1fscan-7", hashlib.sha256).hexdigest()[:16]
        assert identity.of(case("/a")) == identity.pseudonym("north", "scan-7") == expected
        assert Identity(tmp_path / "state").pseudonym("north", "scan-7") == expected
        assert Identity(tmp_path / "other").pseudonym("north", "scan-7") != expected

    def test_a_patient_has_a_keyed_hash_that_is_no_pseudonym_of_a_case(self, tmp_path: Path) -> None:
        identity = Identity(tmp_path)
        key = (tmp_path / KEY_FILE).read_bytes()
        expected = hmac.new(key, b"north\x1f\x1fpatient\x1fscan-7", hashlib.sha256).hexdigest()[:16]
        assert identity.of_patient("north", "scan-7") == expected != identity.pseudonym("north", "scan-7")

    def test_the_key_is_for_its_owner_only(self, tmp_path: Path) -> None:
        Identity(tmp_path)
        assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600

    def test_a_damaged_key_is_an_error_and_no_new_key(self, tmp_path: Path) -> None:
        (tmp_path / KEY_FILE).write_bytes(b"short")
        with pytest.raises(LifelongCTError, match="damaged"):
            Identity(tmp_path)
        assert (tmp_path / KEY_FILE).read_bytes() == b"short"


ROOT = "/srv/data/north"
PATHS = [
    "John_Canary^Doe/img.nii.gz",
    "John Canary/img.nii.gz",
    "John Canary/sub folder/img one.nii.gz",
    "Canary, John/img.nii.gz",
    "O'Canary/img.nii.gz",
    "Canary.dcm",
    "a=Canary/b",
]
SENTENCES = [
    "{}",
    "cannot read {}",
    "cannot read {}: not a NIfTI",
    "[Errno 2] No such file or directory: '{}'",
    'ImageFileError("{}")',
    "  where: {}\n  fix:   look there",
    "two: '{0}', '{0}'",
    "({})",
    "file://{}",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sentence", SENTENCES)
def test_nothing_below_a_root_is_left_in_a_sentence(sentence: str, path: str) -> None:
    redact = Redactor()
    redact.hide_root(ROOT, "north")
    clean = redact(sentence.format(f"{ROOT}/{path}"))
    assert "<north>" in clean
    for private in ("Canary", "John", ROOT, "img"):
        assert private not in clean


def test_what_stands_around_a_path_stays() -> None:
    redact = Redactor()
    redact.hide_root(ROOT, "north")
    redact.hide_root("/runs", "runs")
    texts = {
        f"reading {ROOT} took 3 s": "reading <north> took 3 s",
        f"{ROOT}/a.nii.gz is cut and/or damaged": "<north> is cut and/or damaged",
        f"copy {ROOT}/a b.nii to /runs/x.json, then stop.": "copy <north> to <runs>, then stop.",
        f"paths.data={ROOT} strategy=naive": "paths.data=<north> strategy=naive",
        f"  where: {ROOT}/a.nii.gz, organ liver": "  where: <north>, organ liver",
        f"'{ROOT}/a b' and 'c'": "'<north>' and 'c'",
        f"{ROOT}west/a": f"{ROOT}west/a",
        f"/mnt{ROOT}": f"/mnt{ROOT}",
        f"{ROOT}.": "<north>.",
    }
    assert {text: redact(text) for text in texts} == texts


def test_str_of_an_error_comes_out_clean() -> None:
    redact = Redactor()
    redact.hide_root(ROOT, "north")
    error = LifelongCTError("label and image differ", f"{ROOT}/John Canary", f"mend {ROOT}/John Canary/l.nii")
    assert redact(str(error)) == "label and image differ\n  where: <north>\n  fix:   mend <north>"


def test_the_deepest_root_wins_and_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    redact = Redactor()
    redact.hide_root(tmp_path / "link", "linked")
    redact.hide_root(tmp_path, "data")
    assert redact(f"{tmp_path}/real/a {tmp_path}/link/a {tmp_path}/b") == "<linked> <linked> <data>"


def test_a_relative_root_of_one_word_is_hidden_as_a_folder_only() -> None:
    redact = Redactor()
    redact.hide_root("data", "data")
    assert redact("bad data in data/John/x.nii, metadata/y") == "bad data in <data>, metadata/y"


class TestCases:
    def redactor(self, *cases: Case, root: str | None = ROOT) -> Redactor:
        redact = Redactor()
        for number, one in enumerate(cases):
            redact.hide_case(one, f"P{number}", Path(root) if root else None)
        return redact

    def test_identifiers_and_own_parts_of_the_path_are_hidden(self) -> None:
        redact = self.redactor(case(f"{ROOT}/John_Canary/s7_ct.nii.gz"))
        text = "scan-7 of John^Canary: s7_ct.nii.gz, s7_ct, John_Canary/x and xJohn_Canaryx.nii.gz"
        assert redact(text) == "P0 of P0: P0-file, P0-file, P0-file/x and xP0-filex.nii.gz"

    def test_shared_and_common_parts_organs_and_hospitals_stay(self) -> None:
        redact = self.redactor(
            case(f"{ROOT}/images/north/liver.nii.gz", "case1", "Doe"),
            case(f"{ROOT}/batch9/b/seg.nii.gz", "case2", "Roe"),
            case(f"{ROOT}/batch9/c/spleen.nii.gz", "liver", "Poe"),
        )
        same = "data images north liver seg batch9 srv spleen"
        assert redact(same) == same
        assert redact("case1 Doe Doeing case2") == "P0 P0 Doeing P1"

    def test_two_scans_of_one_patient_share_their_folder(self) -> None:
        redact = self.redactor(
            case(f"{ROOT}/CanaryJ/one.nii.gz", "1a1"), case(f"{ROOT}/CanaryJ/two.nii.gz", "2a2")
        )
        assert "Canary" not in redact("in CanaryJ")

    def test_without_a_root_the_file_and_its_folder_count(self) -> None:
        redact = self.redactor(case("/x/private/Canary7/s7.nii.gz"), root=None)
        assert redact("private Canary7 s7.nii.gz") == "private P0-file P0-file"

    def test_numbers_are_identifiers_only_when_long_and_alone(self) -> None:
        redact = self.redactor(
            case(f"{ROOT}/100/1234567.nii", "0007", "1234567"), case(f"{ROOT}/200/x.nii", "ab", "31415")
        )
        assert redact("step 100/140, loss 0.31415, 0007, ab") == "step 100/140, loss 0.31415, 0007, ab"
        assert redact("patient 1234567 and 31415, 1234567.nii") == "patient P0 and P1, P0-file"

    def test_many_cases_cost_no_more_than_few(self) -> None:
        redact = Redactor()
        redact.hide_words((f"BDMAP_{i:08d}", f"P{i}") for i in range(30_000))
        assert redact("a BDMAP_00029999 b" * 100) == "a P29999 b" * 100


def test_a_patient_who_is_in_two_hospitals_is_hidden_all_the_same() -> None:
    """As in a stream that comes back to a hospital under another name."""
    redact = Redactor()
    for hospital in ("north", "north_2"):
        redact.hide_case(case("/data/canary_john/ct.nii.gz", hospital=hospital), f"P-{hospital}")
    assert "canary" not in redact("cannot read canary_john").lower()


URLS = [
    "s3://north-bucket/scans",
    "https://jane:s3cret@pacs.north.org/scans/all",
    "ftp://jane:s3cret@pacs.north.org/scans/all",
    "zip://scans::/srv/north/all.zip",
    "zip://::https://jane:s3cret@pacs.north.org/all.zip",
    "memory://north-bucket/scans",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("sentence", [s for s in SENTENCES if not s.startswith("file")])
def test_nothing_of_a_url_is_left_however_it_is_spelt(url: str, sentence: str) -> None:
    redact = Redactor(["north"])
    redact.hide_root(url, "north")
    for spelt in (f"{url}/Canary/ct.nii.gz", str(UPath(url) / "Canary" / "ct.nii.gz")):
        clean = redact(sentence.format(spelt))
        assert "<north>" in clean
        for private in ("Canary", "jane", "s3cret", "pacs", "bucket", "scans", "srv", "all.zip", "ct.nii"):
            assert private not in clean


@pytest.mark.parametrize("url", URLS)
def test_what_clients_say_of_a_url_shows_neither_host_nor_password(url: str) -> None:
    redact = Redactor(["north"])
    redact.hide_root(url, "north")
    clean = redact(
        "Cannot connect to host pacs.north.org:443 as jane with s3cret: north-bucket/scans/Canary/ct.nii.gz"
    )
    if "pacs" in url:
        assert not {"pacs.north.org", "jane", "s3cret"} & set(clean.replace(":", " ").split())
    if "bucket" in url:
        assert "Canary" not in clean


def test_a_case_of_a_url_is_hidden_by_the_parts_of_its_paths() -> None:
    redact = Redactor()
    root = UPath("memory://bucket/scans")
    redact.hide_case(
        Case(
            "north", "scan-7", "John^Canary", "train", ("liver",), images=(root / "canary_77" / "ct.nii.gz",)
        ),
        "0123",
        root,
    )
    assert redact("canary_77 of scan-7: John^Canary") == "0123-file of 0123: 0123"


NAMES = ("Żółćwvu O'Qponmlk", "qponmlk_Zyxwvut")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("written", [str, str.upper, str.lower, repr, ascii, json.dumps, quote])
def test_a_name_is_found_however_it_is_written(name: str, form: Any, written: Callable[[str], str]) -> None:
    redact = Redactor()
    redact.hide_words([(unicodedata.normalize("NFD" if form == "NFC" else "NFC", name), "P0")])
    redact.hide_root(f"/srv/{name}", "north")
    spelt = written(unicodedata.normalize(form, name))
    for text in (f"of {spelt}, see", f"in /srv/{spelt.strip(chr(39) + chr(34))}/a.nii"):
        clean = redact(text).lower()
        assert "qponmlk" not in clean
        assert "wvu" not in clean


def test_an_apostrophe_within_a_name_does_not_end_a_path() -> None:
    redact = Redactor()
    redact.hide_root(ROOT, "north")
    assert redact(f"case 7, {ROOT}/John o'Canary/O'Neill CT.nii.gz is cut") == "case 7, <north> is cut"


def test_a_bracket_does_not_end_a_path() -> None:
    redact = Redactor()
    redact.hide_root(ROOT, "north")
    assert redact(f"cannot read {ROOT}/label (Canary).nii, sorry") == "cannot read <north>, sorry"
    assert redact(f"{ROOT} (of 3 GB) is full") == "<north> (of 3 GB) is full"


def test_after_where_a_path_ends_with_its_line() -> None:
    redact = Redactor()
    redact.hide_root(ROOT, "north")
    assert (
        redact(f"  where: case 3, {ROOT}/of John Canary\n  fix:   x")
        == "  where: case 3, <north>\n  fix:   x"
    )


def test_a_key_that_is_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).mkdir()
    with pytest.raises(LifelongCTError, match="cannot be read"):
        Identity(tmp_path)
