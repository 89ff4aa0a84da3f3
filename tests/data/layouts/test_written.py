"""A hospital read from the files of any convention is the phantom that they were written from, to the digest."""

from dataclasses import replace
from pathlib import Path

import pytest
from written import KINDS, write

from lifelong_ct.data.bricks import digest
from lifelong_ct.data.layouts import Layout, known_layouts, open_layout
from lifelong_ct.data.layouts.phantom import PhantomLayout
from lifelong_ct.data.phantom import ORGANS

HOSPITAL = PhantomLayout("north", train=2, test=1, shape=(32, 32, 32))


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> dict[str, Layout]:
    root: Path = tmp_path_factory.mktemp("written")
    return {kind: open_layout({"name": "north", **write(kind, HOSPITAL, root / kind)}) for kind in KINDS}


def content(layout: Layout) -> list[tuple[str, str, tuple[str, ...]]]:
    """As a stream of the phantom's organs reads it."""
    found = []
    for case in layout.cases():
        organs = tuple(organ for organ in case.organs if organ in ORGANS)
        if organs:
            found.append((case.split, layout.load(replace(case, organs=organs))))
    return [(split, digest(raw.image, raw.label, raw.organs), raw.organs) for split, raw in found]


def test_every_layout_of_files_is_among_them(layouts):
    names = {type(layout).__module__.rpartition(".")[2] for layout in layouts.values()}
    assert names == set(known_layouts()) - {"phantom", "dicom"}


@pytest.mark.parametrize("kind", KINDS)
def test_digests_are_the_phantoms(kind, layouts):
    assert sorted(content(layouts[kind])) == sorted(content(HOSPITAL))
    assert {(case.hospital, case.label_kind) for case in layouts[kind].cases()} == {("north", "synthetic")}


@pytest.mark.parametrize("kind", KINDS)
def test_cases_share_what_they_have_in_common(kind, layouts):
    first, *others = layouts[kind].cases()
    for case in others:
        assert case.masks is first.masks
        assert case.organs == first.organs or not case.label
