"""The name of a volume: what it follows, and what it does not."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lifelong_ct.core.types import Case
from lifelong_ct.data import keys
from lifelong_ct.data.annotations import Rules
from lifelong_ct.data.file_layout import FileLayout
from lifelong_ct.data.keys import volume_key
from lifelong_ct.data.sources import Sources


class Files(FileLayout):
    """Reads as every layout of files does."""

    def inspect(self):
        return iter(())


class Own(FileLayout):
    def inspect(self):
        return iter(())

    def load(self, case):
        return super().load(case)


LAYOUT = Files("north", Path("x"))
CASE = Case(
    "north_clinic",
    "smith_1953",
    "mueller",
    "train",
    ("liver", "spleen"),
    (Path("a/smith.nii"),),
    Path("a/smith_seg.nii"),
    label_ids={"liver": (1,), "spleen": (2,)},
)
MASKED = replace(CASE, label=Path("masks"), label_ids={}, masks={"liver": "l.nii", "spleen": "s.nii"})


def key(case=CASE, spacing=None, content="0" * 32, layout=LAYOUT):
    return volume_key(case, spacing, content, layout)


def test_a_key_follows_all_that_makes_the_voxels(monkeypatch):
    found = [
        key(),
        key(spacing=(1, 1, 1)),
        key(spacing=(1, 1, 2)),
        key(content="1" * 32),
        key(replace(CASE, label=None)),
        key(replace(CASE, organs=("liver",))),
        key(replace(CASE, organs=("spleen", "liver"))),
        key(replace(CASE, label_ids={"liver": (2,), "spleen": (1,)})),
        key(replace(CASE, label_ids={"liver": (1, 3), "spleen": (2,)})),
        key(replace(CASE, splits=(("kidney_left", "kidney_right"),))),
        key(replace(CASE, modality="MR")),
        key(replace(CASE, params={"index": 3})),
        key(replace(CASE, images=(*CASE.images, Path("b.nii")))),
        key(MASKED),
        key(replace(MASKED, masks={"liver": "l.nii", "spleen": "l.nii"})),
        key(layout=Files("north", Path("x"), other_labels="ignore")),
        key(layout=Files("north", Path("x"), empty_labels="ignore")),
        key(layout=Files("north", Path("x"), priority=["liver"])),
        key(layout=Own("north", Path("x"))),
    ]
    monkeypatch.setattr(keys, "FORMAT", keys.FORMAT + 1)
    found.append(key())
    monkeypatch.setattr(keys, "VERSION", b"99")
    found.append(key())
    assert len(set(found)) == len(found)
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in found)


def test_a_key_follows_nothing_else():
    assert key(spacing=(1, 2, 3)) == key(spacing=[1.0, 2.0, 3.0])
    moved = {"images": (Path("/elsewhere/x.nii"),), "label": Path("/elsewhere/y.nii")}
    renamed = {"hospital": "south", "id": "other", "patient": "other"}
    facts = {"split": "test", "licence": "MIT", "label_kind": "model"}
    for change in (moved, renamed, facts, {"label_ids": {"spleen": (2,), "liver": (1,)}}):
        assert key(replace(CASE, **change)) == key()
    assert key(layout=Files("south", Path("elsewhere"))) == key()
    names = {"masks": {"liver": "Leber.nii", "spleen": "Milz.nii"}, "label": Path("elsewhere")}
    assert key(replace(MASKED, **names)) == key(MASKED)


def test_swapped_masks_are_another_volume(tmp_path):
    """The content lists files in the order of `Case.files`: the same files in another order are another content."""
    for name in ("ct.nii", "l.nii", "s.nii"):
        (tmp_path / name).write_text(name)
    case = replace(MASKED, images=(tmp_path / "ct.nii",), label=tmp_path)
    swapped = replace(case, masks=dict(zip(case.masks, reversed(case.masks.values()), strict=True)))
    sources = Sources(tmp_path / "index")
    found = [volume_key(c, None, sources.content(c.files).digest, LAYOUT) for c in (case, swapped)]
    assert found[0] != found[1]


def test_a_key_follows_which_organ_contains_which():
    @dataclass
    class Vocabulary:
        inside: bool

        def contains(self, organ, name):
            return self.inside and (organ, name) == ("liver", "spleen")

        __hash__ = object.__hash__

    def of(inside):
        layout = Files("north", Path("x"))
        layout.rules = Rules(vocabulary=Vocabulary(inside))
        return key(layout=layout)

    assert of(False) == of(False)
    assert of(True) != of(False)


@pytest.mark.parametrize(
    "change", [{"id": "b"}, {"hospital": "south"}, {"params": {"shape": [2, 2, 2], "i": 2}}]
)
def test_a_drawn_case_is_named_by_what_it_is_drawn_from(change):
    drawn = Case("north", "a", "p", "train", ("liver",), params={"shape": [2, 2, 2], "i": 1})
    assert key(drawn, content=None) == key(replace(drawn, patient="q", split="test"), content=None)
    assert key(replace(drawn, **change), content=None) != key(drawn, content=None)


def test_real_anatomy_counts_by_its_content(tmp_path):
    from lifelong_ct.data.layouts.phantom import PhantomLayout

    def drawn():
        layout = PhantomLayout("north", train=1, test=0, anatomy=str(tmp_path))
        return volume_key(next(layout.cases()), None, None, layout)

    (tmp_path / "a.nii.gz").write_bytes(b"one")
    first = drawn()
    assert drawn() == first
    (tmp_path / "a.nii.gz").write_bytes(b"two")
    assert drawn() != first
