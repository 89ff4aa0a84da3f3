"""From the sure to the unsure, evenly."""

from __future__ import annotations

from collections.abc import Sequence

from lifelong_ct.memory.selection import Descriptor
from lifelong_ct.memory.selection.shares import answers, by_hospital, lot, share_out


class Uncertainty:
    """Of every hospital patches from the surest to the most unsure, evenly spaced.

    Rainbow Memory (Bang et al., CVPR 2021, arXiv 2103.17230, section 4.1): each class has the same room, and its
    samples are taken at equal steps from the list sorted by uncertainty, since neither robust nor fragile samples
    alone stand for a class. Here a hospital is the class, and the uncertainty is the mean entropy of the prediction
    instead of the disagreement over perturbed copies, which would take a pass for each. Patches come one by one, and
    equal steps over one too many would always drop the same end: instead the patch leaves whose neighbours in the
    sorted list are nearest to each other, and the two ends stay. Sizes do not count in who leaves; patches leave until
    the rest fits the share.
    """

    needs: frozenset[str] = frozenset({"uncertainty"})

    def decide(self, descriptors: Sequence[Descriptor], seed: int, budget: int) -> list[bool]:
        """Keep or drop, one answer per descriptor; nothing that is gone is kept."""

        def choose(members: list[int], room: int) -> list[int]:
            value = {i: descriptors[i].description.scores.get("uncertainty", 0.0) for i in members}
            lots = {i: lot(seed, "uncertainty", descriptors[i]) for i in members}
            line = sorted(members, key=lambda i: (value[i], lots[i]))
            left = room - sum(descriptors[i].nbytes for i in line)
            while left < 0:
                left += descriptors[line.pop(_densest(line, value, lots))].nbytes
            return line

        return answers(descriptors, share_out(descriptors, by_hospital(descriptors), budget, choose))


def _densest(line: Sequence[int], value: dict[int, float], lots: dict[int, float]) -> int:
    """Place in the line whose neighbours are nearest to each other; of two or one the larger lot."""
    if len(line) < 3:
        return max(range(len(line)), key=lambda n: lots[line[n]])
    gaps = [value[after] - value[before] for before, after in zip(line, line[2:])]
    return 1 + min(range(len(gaps)), key=lambda n: (gaps[n], -lots[line[n + 1]]))
