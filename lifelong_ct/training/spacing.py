"""The spacing that a run brings its scans to."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.data.grids import spacing_of
from lifelong_ct.streams.base import Stream
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.streams.parts import merged
from lifelong_ct.training.options import Requires

Spacing = tuple[float, ...] | None


def run_spacing(stream: Stream, first: Sequence[Hospital]) -> Spacing:
    """mm per axis, None for each scan's own.

    `auto` is fixed by the hospitals of the first experience: the network that is trained on them is that of the
    whole run, and whatever comes later is brought to its spacing.

    Args:
        stream: states it.
        first: hospitals of the first experience.

    Raises:
        LifelongCTError: `auto`, and a header that cannot be read.
    """
    if not isinstance(stream.spacing, str):
        return stream.spacing
    return spacing_of((hospital.layout, case) for hospital in first for case in hospital.train)


def first_hospitals(stream: Stream, requires: Requires) -> Sequence[Hospital]:
    """Hospitals of the first experience; all, for a strategy that trains once on everything."""
    once = requires.past_data and requires.reinitialise
    arriving = stream.experiences if once else stream.experiences[:1]
    return merged(hospital for experience in arriving for hospital in experience.hospitals)
