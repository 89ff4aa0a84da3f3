import numpy as np
import xxhash

from lifelong_ct.core.seeding import derive_seed, generator


def test_a_seed_is_the_hash_of_its_keys_in_63_bits() -> None:
    assert derive_seed(3, "patches") == xxhash.xxh3_64_intdigest(b"int:3\x1fstr:patches") >> 1
    assert 0 <= derive_seed("a") < 1 << 63


def test_keys_cannot_be_confused() -> None:
    seeds = {
        derive_seed(1, 2),
        derive_seed(12),
        derive_seed("1", 2),
        derive_seed(2, 1),
        derive_seed("1\x1f2"),
    }
    assert len(seeds) == 5


def test_a_generator_draws_the_same_for_the_same_keys_and_uniformly() -> None:
    assert np.array_equal(generator("a", 1).random(5), generator("a", 1).random(5))
    assert not np.array_equal(generator("a", 1).random(5), generator("a", 2).random(5))
    first = np.array([generator("first", i).random() for i in range(2000)])
    counts, _ = np.histogram(first, bins=10, range=(0, 1))
    assert ((counts - 200) ** 2 / 200).sum() < 27.88  # chi-square, 9 degrees of freedom, p = 0.001
