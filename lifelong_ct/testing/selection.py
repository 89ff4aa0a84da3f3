"""The contract of a selection policy.

A third party's whole test::

    from lifelong_ct.testing.selection import check_selection

    def test_contract():
        check_selection("mine")
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lifelong_ct.cli import compose
from lifelong_ct.cli.instantiate import build
from lifelong_ct.memory.selection import Description, Descriptor, needs_of
from lifelong_ct.testing.strategies import check_arguments

_SOURCE = re.compile(r"\b(19|20)\d\d\b")


def check_selection(name: str) -> None:
    """Checks that `selection=<name>` composes, lists every argument and names a source; that its `decide` keeps to the
    budget whatever the sizes, answers the same in any order and again, fills the room of patches of one size, keeps
    everything that fits and few that are gone; and that nothing is missing to it where nothing is described.

    Args:
        name: of the YAML.

    Raises:
        AssertionError: with what does not hold.
    """
    config = compose.plain(compose.compose(compose.Request([f"selection={name}"])))["selection"]
    policy = build(config, "selection")
    needs_of(policy)
    check_arguments(config, name, _SOURCE)
    for sizes in ([100], [60, 100, 350]):
        crowd = described(40, sizes)
        bare = [replace(d, description=Description()) for d in crowd]
        for seed in range(3):
            for patches in (crowd, bare, crowd[:1], []):
                check_decision(policy, patches, seed, 1000)
            fresh = [d for d in crowd if not d.gone]
            assert all(policy.decide(fresh, seed, 40 * 350)), f"{name} drops what fits"
            filled = sum(policy.decide(fresh, seed, 1000))
            assert len(sizes) > 1 or filled == 10, f"{name} leaves room for patches of one size"


def check_decision(policy: Any, descriptors: Sequence[Descriptor], seed: int, budget: int) -> None:
    """One decision: within the budget, independent of the order, and so again with what it keeps."""
    name = type(policy).__name__
    keep = policy.decide(descriptors, seed, budget)
    assert len(keep) == len(descriptors), f"{name} answers {len(keep)} times for {len(descriptors)}"
    held = [d for d, stays in zip(descriptors, keep) if stays]
    assert sum(d.nbytes for d in held if not d.gone) <= budget, f"{name} passes the budget"
    hospitals = {d.hospital for d in descriptors}
    assert sum(d.gone for d in held) <= len(hospitals), f"{name} keeps many that are gone"
    for order in range(3):
        mixed = [descriptors[i] for i in np.random.default_rng(order).permutation(len(descriptors))]
        other = {d for d, stays in zip(mixed, policy.decide(mixed, seed, budget)) if stays}
        assert other == set(held), f"{name} depends on the order"
    again = {d for d, stays in zip(held, policy.decide(held, seed, budget)) if stays}
    assert again == set(held), f"{name} drops what it kept, though nothing came"


def described(count: int, sizes: Sequence[int], seed: int = 0) -> list[Descriptor]:
    """Patches with random descriptions, of sizes in turn; the last tenth is gone, as a memory tells it."""
    rng = np.random.default_rng(seed)
    patches = []
    for i in range(count):
        gone = i >= count - count // 10
        organs = {organ: int(rng.integers(1, 100)) for organ in ("liver", "spleen") if rng.random() < 0.6}
        scores = {"loss": float(rng.gamma(2.0)), "uncertainty": float(rng.random()), "offered": float(i)}
        names = () if gone else ("embedding", "mean", "gradient")
        vectors = {each: rng.standard_normal(8).astype(np.float32) for each in names}
        told = Description() if gone else Description(organs, scores, vectors)
        hospital = str(rng.choice(["first", "second", "third"]))
        patches.append(
            Descriptor(f"{rng.bytes(8).hex()}", sizes[i % len(sizes)], hospital, gone, description=told)
        )
    return patches
