"""What every scenario is made of: hospitals in an order, and the experiences in which they arrive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from lifelong_ct.avalanche_bridge import CLScenario, benchmark_from_datasets
from lifelong_ct.avalanche_bridge.copying import attributed
from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.labels import LabelSpace
from lifelong_ct.data.scales import each_modality
from lifelong_ct.evaluation.tasks import Task
from lifelong_ct.streams.entries import Entries, cycled, listed, ordered, whole
from lifelong_ct.streams.hospital import Hospital, open_hospital
from lifelong_ct.streams.parts import Experience

AUTO = "auto"


class Stream:
    """Hospitals in a fixed order, and hospitals that are scored but never trained on.

    A scenario says in `_arrivals` what of them is trained on when. Without more: one experience per hospital, the
    organs annotated as each hospital has them.

    Args:
        name: of the stream.
        organs: what may be learnt.
        hospitals: entries in order, a list or a mapping; see `open_hospital`.
        patch: training patch `[D, H, W]` in voxels.
        steps: optimizer steps per experience.
        exemplars: bytes of the exemplar memory that the stream is stated with, the default of
            `memory.exemplars`.
        spacing: mm per axis that training volumes are brought to; None keeps each scan's own; auto is fixed when a
            run starts, by the headers of the training cases of its first experience (`data.grids.usual_spacing`),
            and stays: hospitals that have not arrived have no say.
        unseen: hospitals that are never trained on; only their test cases count.
        common: options of every hospital that does not set them.
        order: names of the hospitals in another order, which also leaves out those not named; or a number: the key of a
            random order, which depends on the places in the list and on nothing else.
        channels: images of every scan, all on one grid; a model's `in_channels`.
        first: number of experiences; past the end of the list hospitals come again, with other patients,
            as `<name>_2`.
        limit: most cases per split and hospital.
        synthetic: the scans are drawn; said wherever results appear.
        on_bad: error, or skip: every case is read at the start, and those that cannot be used are left out.
        boundaries: whether a strategy is told where an experience ends. Without, its hooks fire at every iteration but
            not around experiences, and strategies that need them are refused.
        schedule: default of `data.schedule`.
        lr_schedule: default of `trainer.schedule`.

    Attributes:
        hospitals, unseen: opened.
        experiences: what arrives when.

    Raises:
        LifelongCTError: no hospital, a name twice, a hospital without training cases, or a case with another
            number of channels or an unknown modality.
    """

    def __init__(
        self,
        *,
        name: str,
        organs: Sequence[str],
        hospitals: Entries,
        patch: Sequence[int],
        steps: int,
        exemplars: int | str | None = None,
        spacing: Sequence[float] | str | None = None,
        channels: int = 1,
        unseen: Entries = (),
        common: Mapping[str, Any] | None = None,
        order: Sequence[str] | int | None = None,
        first: int | None = None,
        limit: int | None = None,
        synthetic: bool = False,
        on_bad: str = "error",
        boundaries: bool = True,
        schedule: str = "epochs",
        lr_schedule: str = "poly",
    ) -> None:
        self.name, self.steps, self.exemplars, self.synthetic = name, steps, exemplars, synthetic
        self.patch: tuple[int, int, int] = _three(patch)
        self.spacing = _spacing(spacing)
        self.channels = _count(channels)
        self.label_space = LabelSpace(organs)
        if on_bad not in ("error", "skip"):
            raise LifelongCTError(f"on_bad={on_bad!r} is unknown", "data.on_bad", "use error or skip")
        self.on_bad = on_bad
        if not isinstance(boundaries, bool):
            raise LifelongCTError(f"boundaries={boundaries!r}", "stream.boundaries", "write true or false")
        self.boundaries, self.schedule, self.lr_schedule = boundaries, schedule, lr_schedule
        if limit is not None and not (whole(limit) and limit > 0):
            raise LifelongCTError(
                f"limit={limit!r}", "stream.limit", "write a number from 1, or null for all cases"
            )
        self.order, self.first, self.limit = order, first, limit
        self.hospitals = self._open(self._entries(listed(hospitals)), common)
        self.unseen = self._open(listed(unseen), common)
        self._check()
        self.experiences = self._arrivals()
        self._check_experiences()

    def _entries(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The hospitals that are opened."""
        return cycled(ordered(entries, self.order), self.first)

    def _arrivals(self) -> list[Experience]:
        """What is trained on when."""
        return [Experience(h.name, (h,), Task((h.name,))) for h in self.hospitals]

    def benchmark(self, datasets: Sequence[Dataset[Any]]) -> CLScenario:
        """An Avalanche benchmark whose stream `train` has one experience per dataset, without task labels."""
        return benchmark_from_datasets(train=[attributed(dataset) for dataset in datasets])

    @property
    def scored(self) -> list[Hospital]:
        """Hospitals with test cases: the columns of the result matrix."""
        return [hospital for hospital in (*self.hospitals, *self.unseen) if hospital.test]

    @property
    def label_kinds(self) -> list[str]:
        """Kinds of labels of all cases."""
        return sorted({c.label_kind for h in (*self.hospitals, *self.unseen) for c in (*h.train, *h.test)})

    def _open(self, entries: Iterable[Mapping[str, Any]], common: Mapping[str, Any] | None) -> list[Hospital]:
        skip = self.on_bad == "skip"
        return [open_hospital({**(common or {}), **e}, self.label_space, self._opened, skip) for e in entries]

    @property
    def _opened(self) -> int | None:
        """Most cases per split of a hospital when it is opened."""
        return self.limit

    def _check(self) -> None:
        names = [hospital.name for hospital in (*self.hospitals, *self.unseen)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not self.hospitals or twice:
            what = f"hospitals named twice: {', '.join(twice)}" if twice else "a stream without hospitals"
            raise LifelongCTError(what, "stream.hospitals", "list each hospital once")
        for hospital in (*self.hospitals, *self.unseen):
            for case in (*hospital.train, *hospital.test):
                self._check_channels(case)
        for hospital in self.hospitals:
            if not hospital.train and hospital.skipped:
                raise LifelongCTError(
                    f"none of its training cases can be used: {hospital.skipped[0].error.what}",
                    f"stream.hospitals {hospital.name}, {len(hospital.skipped)} cases skipped",
                    "`lifelong-ct verify` lists every problem",
                )
            if not hospital.train:
                raise LifelongCTError(
                    f"no training case annotates an organ of the stream ({', '.join(self.label_space.organs)})",
                    f"stream.hospitals {hospital.name}",
                    "mark cases as split: train, or list the hospital under stream.unseen",
                )

    def _check_experiences(self) -> None:
        for experience in self.experiences:
            if not any(hospital.train for hospital in experience.hospitals):
                raise LifelongCTError(
                    f"no training case for the experience {experience.name!r}",
                    f"stream {self.name}",
                    "give the hospitals more cases, or leave the experience out",
                )

    def _check_channels(self, case: Case) -> None:
        where = f"hospital {case.hospital}, case {case.id}"
        if case.channels != self.channels:
            raise LifelongCTError(
                f"the case has {case.channels} channels, the stream {self.channels}",
                where,
                f"list {self.channels} images for it, or set stream.channels: {case.channels}",
            )
        each_modality(case.modality, case.channels, where)

    @property
    def modality(self) -> str | None:
        """Of all cases; None where they differ."""
        cases = [case for h in (*self.hospitals, *self.unseen) for case in (*h.train, *h.test)]
        found = {case.modality for case in cases}
        return found.pop() if len(found) == 1 else None


def _three(patch: Sequence[int]) -> tuple[int, int, int]:
    if len(patch) != 3 or not all(map(whole, patch)) or min(patch) < 1:
        raise LifelongCTError(f"{list(patch)} is not a patch", "stream.patch", "write [D, H, W] in voxels")
    d, h, w = patch
    return d, h, w


def _count(channels: int) -> int:
    if not whole(channels) or channels < 1:
        raise LifelongCTError(f"channels={channels!r}", "stream.channels", "write a whole number from 1")
    return channels


def _spacing(spacing: Sequence[float] | str | None) -> tuple[float, ...] | str | None:
    if spacing is None or spacing == AUTO:
        return spacing
    try:
        numbers = tuple(float(s) for s in spacing)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(0 < s < float("inf") for s in numbers):
        raise LifelongCTError(
            f"{spacing!r} is no spacing", "stream.spacing", "write [x, y, z] in mm, auto or null"
        )
    return numbers
