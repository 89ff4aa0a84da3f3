"""The file of a volume against the arrays that went into it."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xxhash

from lifelong_ct.core.errors import DataError
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.data import bricks
from lifelong_ct.data.sourced import MENDABLE
from lifelong_ct.data.types import RawCase
from lifelong_ct.data.volume import BrickCache, StoredVolume

AFFINE = np.array([[0.7, 0.1, 0, -12.25], [0, -0.8, 0, 1 / 3], [0, 0, 5, 1e-7], [0, 0, 0, 1]])
ORGANS = ("liver", "spleen", "pancreas")


def arrays(shape, channels=1, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(-1024, 3071, (channels, *shape)).astype(np.int16)
    label = rng.integers(0, 3, shape).astype(dtype)  # never 3: the pancreas is annotated and absent
    return image, label


def write(path: Path, image, label, organs=ORGANS) -> Path:
    path.write_bytes(bricks.pack(RawCase(image, label, AFFINE, organs)))
    return path


def opened(path: Path, cache: int = 0) -> StoredVolume:
    return StoredVolume(path.stem, path, BrickCache(cache, Ledger()))


def read_everything(path: Path) -> list[np.ndarray]:
    volume = opened(path)
    return [*volume.read((0, 0, 0), volume.shape), *map(volume.positions, volume.organs)]


@pytest.mark.parametrize("cache", [0, 1 << 20, 1 << 25])
@pytest.mark.parametrize(
    ("shape", "channels", "dtype"),
    [
        ((32, 32, 64), 1, np.uint8),
        ((20, 40, 200), 1, np.uint8),
        ((33, 31, 65), 2, np.uint16),
        ((1, 7, 96), 1, np.uint8),
        ((97, 20, 3), 1, np.uint16),
        ((70, 129, 66), 2, np.uint8),
    ],
)
def test_every_box_is_the_slice_of_the_source(tmp_path, shape, channels, dtype, cache):
    image, label = arrays(shape, channels, dtype)
    label[: shape[0] // 2] = 2  # bricks of one label, bricks of none, and the noise of the others
    label[:, : shape[1] // 2] = 0
    volume = opened(write(tmp_path / "v", image, label), cache)
    rng = np.random.default_rng(1)
    boxes = [((0, 0, 0), shape), (tuple(n - 1 for n in shape), (1, 1, 1))]
    for _ in range(40):
        ends = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
        boxes.append((tuple(int(a) for a, _ in ends), tuple(int(b - a) for a, b in ends)))
    for start, size in boxes:
        cut = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        voxels, ids = volume.read(start, size)
        np.testing.assert_array_equal(voxels, image[(slice(None), *cut)])
        np.testing.assert_array_equal(ids, label[cut])
        assert (voxels.dtype, ids.dtype) == (np.int16, dtype)


@pytest.mark.parametrize(
    ("shape", "brick"),
    [
        ((512, 512, 300), (16, 32, 100)),
        ((256, 256, 128), (16, 32, 128)),
        ((512, 512, 1000), (16, 32, 100)),
        ((70, 90, 145), (16, 32, 73)),
        ((64, 64, 64), (16, 32, 64)),
        ((5, 40, 41), (5, 32, 41)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
def test_bricks_are_long_and_none_is_a_sliver(shape, brick):
    assert bricks.brick_shape(shape) == brick


def test_a_brick_without_organs_stores_no_labels(tmp_path):
    image, label = arrays((32, 32, 128))
    label[:16] = 3
    path = write(tmp_path / "v", image, label)
    volume = opened(path, cache=1 << 24)
    volume.read((0, 0, 0), (32, 32, 128))
    base = volume.cache.base(volume.key)
    first, second = (volume.cache.entries[base + i] for i in range(2))
    assert first.label == 3
    assert isinstance(second.label, memoryview)


def test_a_patch_reads_its_bricks_and_nothing_else(tmp_path):
    volume = opened(write(tmp_path / "v", *arrays((96, 64, 128))), cache=1 << 24)
    volume.read((31, 0, 0), (2, 32, 64))
    base = volume.cache.base(volume.key)
    assert {key - base for key in volume.cache.entries} == {2, 4, 1 << 30}  # grid 6 x 2 x 1, and the index


def test_an_open_volume_takes_a_kilobyte(tmp_path):
    path = write(tmp_path / "v", *arrays((96, 64, 128)), tuple(f"organ {i}" for i in range(25)))
    cache = BrickCache(0, Ledger())
    kept = [StoredVolume("warm", path, cache)]
    tracemalloc.start()
    kept += [StoredVolume(f"{i:032x}", path, cache) for i in range(100)]
    used = tracemalloc.get_traced_memory()[0] / 100
    tracemalloc.stop()
    assert used < 1500


def test_the_header_keeps_geometry_and_organs(tmp_path):
    volume = opened(write(tmp_path / "v", *arrays((5, 6, 7), 2)))
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert (volume.shape, volume.organs) == ((5, 6, 7), ORGANS)
    np.testing.assert_allclose(volume.spacing, [0.7, np.hypot(0.1, 0.8), 5])


def test_positions_are_voxels_of_their_organ(tmp_path):
    image, label = arrays((6, 5, 4))
    volume = opened(write(tmp_path / "v", image, label))
    for value, organ in enumerate(ORGANS, start=1):
        np.testing.assert_array_equal(volume.positions(organ), np.argwhere(label == value))
    assert volume.positions("pancreas").shape == (0, 3)
    assert [volume.count(organ) for organ in ORGANS] == [(label == 1).sum(), (label == 2).sum(), 0]


def test_many_positions_are_thinned_over_the_whole_organ(tmp_path):
    label = np.ones((40, 40, 40), np.uint8)
    volume = opened(write(tmp_path / "v", np.zeros((1, 40, 40, 40), np.int16), label, ("liver",)))
    found = volume.positions("liver").astype(int)
    assert len(np.unique(found, axis=0)) == bricks.POSITIONS
    assert found[0].tolist() == [0, 0, 0]
    assert found[-1].tolist() == [39, 39, 39]
    per_plane = np.bincount(found[:, 0], minlength=40)
    assert set(per_plane) <= {51, 52}  # 2048 / 40 = 51.2


def test_the_digest_is_of_the_content():
    image, label = arrays((4, 5, 6))
    first = bricks.digest(image, label, ORGANS)
    assert first == bricks.digest(np.asfortranarray(image), label.copy(), ORGANS)
    moved = image.copy()
    moved[0, 3, 4, 5] += 1
    relabelled = label.copy()
    relabelled[0, 0, 0] ^= 1
    others = [
        (moved, label, ORGANS),
        (image, relabelled, ORGANS),
        (image, label.astype(np.uint16), ORGANS),
        (image.reshape(1, 5, 4, 6), label, ORGANS),
        (image, label, ORGANS[:2]),
        (image, label, ORGANS[::-1]),
        (image, label, ("liver", "spleenpancreas")),
    ]
    digests = [bricks.digest(*other) for other in others]
    assert len({first, *digests}) == 1 + len(others)


def test_a_flipped_bit_anywhere_names_the_volume(tmp_path):
    image, label = arrays((9, 8, 7))
    path = write(tmp_path / "abc.lctvol", image, label)
    whole = path.read_bytes()
    bits = np.random.default_rng(0).integers(0, 8, len(whole))
    _, start = bricks.read_header(path)
    for at in [*range(0, start, 3), *range(start, len(whole), 29), *range(len(whole) - 30, len(whole))]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bits[at])]) + whole[at + 1 :])
        with pytest.raises(DataError, match="abc is damaged") as error:
            read_everything(path)
        assert (error.value.where, error.value.code) == (str(path), "store_damaged")
        assert "delete" in error.value.fix
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_everything(path)[0], image)


def test_a_file_that_is_cut_or_of_another_kind_is_refused_when_opened(tmp_path):
    path = write(tmp_path / "abc.lctvol", *arrays((9, 8, 7)))
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:-400], whole[:100], whole[:8], b"", whole + b"\0", b"PK" + whole[2:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="abc is damaged"):
            bricks.read_header(path)


def test_another_version_is_refused_by_name(tmp_path):
    path = write(tmp_path / "abc.lctvol", *arrays((9, 8, 7)))
    whole = path.read_bytes()
    length = int.from_bytes(whole[8:16], "little")
    start = b"LCTVOL17" + whole[8:16]
    check = xxhash.xxh3_64_digest(start + whole[24 : 24 + length])
    path.write_bytes(start + check + whole[24:])
    with pytest.raises(DataError, match=r"abc has format 17; this version .* format 04") as error:
        bricks.read_header(path)
    assert error.value.code not in MENDABLE, "nobody may take it for damage and write over it"


def test_a_file_that_is_gone_says_so(tmp_path):
    path = write(tmp_path / "abc.lctvol", *arrays((9, 8, 7)))
    volume = opened(path)
    path.unlink()
    with pytest.raises(DataError, match="abc is gone"):
        volume.read((0, 0, 0), (1, 1, 1))


def test_smooth_bricks_take_less_than_their_voxels():
    ramp = np.broadcast_to(np.arange(64, dtype=np.int16), (1, 64, 64, 64))
    packed = bricks.pack(RawCase(ramp, None, np.eye(4), ()))
    assert len(packed) < 0.1 * ramp.size * 3


def test_equal_volumes_make_equal_files():
    one, two = (bricks.pack(RawCase(*arrays((33, 9, 4)), AFFINE, ORGANS)) for _ in range(2))
    assert one == two
    assert all(
        a != b
        for a, b in itertools.pairwise(
            (one, bricks.pack(RawCase(*arrays((33, 9, 4), seed=1), AFFINE, ORGANS)))
        )
    )
