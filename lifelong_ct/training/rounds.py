"""What is trained on when, and for how many steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lifelong_ct.core.errors import DataError, LifelongCTError, Refused
from lifelong_ct.streams.hospital import Hospital
from lifelong_ct.streams.parts import Experience, merged
from lifelong_ct.training.options import RunOptions


@dataclass(frozen=True)
class Round:
    """One call of the learner: experience number, name for the reports, hospitals trained on, steps."""

    after: int
    name: str
    hospitals: tuple[Hospital, ...]
    steps: int


def rounds(options: RunOptions) -> list[Round]:
    """What a strategy's `requires` makes of the stream.

    With past data, round i trains on hospitals 1 … i for i times the steps; with a new model each time as
    well (joint training) only the last round leaves a trace, so only that is run. With `data.schedule=one_pass`
    the steps follow from the cases, see `one_pass_steps`.

    Raises:
        Refused: the strategy does not allow the scenario.
        LifelongCTError: one pass without whole steps.
    """
    arriving, steps, needs = options.stream.experiences, options.trainer.steps, options.requires
    if not needs.past_data:
        listed = [Round(i, e.name, e.hospitals, steps) for i, e in enumerate(arriving, start=1)]
    else:
        listed = [_with_past(arriving[:i], steps * i) for i in range(1, len(arriving) + 1)]
        listed = listed[-1:] if needs.reinitialise else listed
    refuse(options, listed)
    if options.data.schedule != "one_pass":
        return listed
    counts = [sum(len(hospital.train) for hospital in row.hospitals) for row in listed]
    return [
        Round(row.after, row.name, row.hospitals, one_pass_steps(options, count, counts))
        for row, count in zip(listed, counts, strict=True)
    ]


def refuse(options: RunOptions, listed: Sequence[Round]) -> None:
    """Looks whether the strategy allows the scenario.

    Raises:
        Refused: it must be told where experiences end and the stream does not tell, or it reads cases again, or other
            patches of them, and they are shown once, or belong to a hospital that does not share them.
    """
    needs, named = options.requires, f"strategy={options.strategy}"
    private = [f"{h.name} ({h.sharing})" for h in options.stream.hospitals if h.private]
    if needs.past_data and private and len(options.stream.experiences) > 1:
        raise Refused(
            f"{named} trains on past hospitals again, {', '.join(private)} may not be kept",
            "strategy.requires, sharing",
            "use a strategy without requires.past_data, leave these hospitals out, or ask them for sharing: patches",
        )
    if needs.past_data and options.data.schedule == "one_pass" and len(listed) > 1:
        raise Refused(
            f"{named} trains on past hospitals again, one_pass reads each case once",
            "data.schedule",
            "use data.schedule=epochs, or a strategy without requires.past_data",
        )
    renewed = needs.reinitialise and len(listed) > 1
    if (needs.boundaries or renewed) and not options.stream.boundaries:
        does = (
            "must be told where an experience ends"
            if needs.boundaries
            else "begins anew with each experience"
        )
        raise Refused(
            f"{named} {does}, the stream {options.stream.name} does not tell",
            "strategy.requires, stream.boundaries",
            "use a strategy with boundaries: false (naive, replay, joint), or a stream with boundaries: true",
        )
    if needs.held_out and options.data.schedule == "one_pass":
        raise Refused(
            f"{named} reads patches that it does not train on, one_pass closes each case after its own",
            "strategy.requires, data.schedule",
            "use data.schedule=epochs, or a strategy without requires.held_out (naive, replay, lwf, si)",
        )


def check_open(options: RunOptions, row: Round, reached: int, learnt: int) -> None:
    """Looks whether the training cases of a round may be read now.

    Args:
        options: of the run.
        row: the round.
        reached: experience that is trained.
        learnt: the last one that has been.

    Raises:
        DataError: one pass has left the round behind, or a hospital that does not share its voxels.
    """
    private = [hospital.name for hospital in row.hospitals if hospital.private]
    if private and row.after <= learnt:
        raise DataError(
            f"the cases of {row.name} are closed: {', '.join(private)} shares no patches, and has been learnt",
            "sharing",
            "use a strategy that does not read past hospitals",
            "closed",
        )
    if options.data.schedule == "one_pass" and row.after < reached:
        raise DataError(
            f"the cases of {row.name} are closed: they have been shown",
            "data.schedule=one_pass",
            "use data.schedule=epochs, or a strategy that does not read past hospitals",
            "closed",
        )


def _with_past(arrived: Sequence[Experience], steps: int) -> Round:
    """Trains on all that has arrived; a case that came several times is there once, with all its annotations."""
    first, last = arrived[0], arrived[-1]
    name = f"{first.name} … {last.name}" if len(arrived) > 1 else first.name
    hospitals = merged(hospital for experience in arrived for hospital in experience.hospitals)
    return Round(len(arrived), name, hospitals, steps)


def one_pass_steps(options: RunOptions, cases: int, others: Sequence[int] = ()) -> int:
    """Optimizer steps of one pass: cases × patches per case / patches per step.

    Args:
        options: of the run.
        cases: of this experience.
        others: of every experience, so that the error names a number that suits them all.

    Raises:
        LifelongCTError: they make no whole number of steps. A last step of another size would weigh its patches
            otherwise, and leaving some out would break the equal right of the cases.
    """
    step = options.trainer.batch_size * options.trainer.accumulate
    patches = cases * options.data.patches_per_case
    if patches % step:
        unit = math.lcm(*(step // math.gcd(step, count) for count in (cases, *others)))
        fits = -(-options.data.patches_per_case // unit) * unit
        raise LifelongCTError(
            f"{cases} cases × {options.data.patches_per_case} patches = {patches} are no whole number of "
            f"optimizer steps of {step} patches",
            "data.patches_per_case",
            f"use data.patches_per_case={fits}, or change trainer.batch_size or trainer.accumulate",
        )
    return patches // step
