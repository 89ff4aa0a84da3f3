"""Order, errors and patience, with readers that answer as they are told."""

import pytest

from lifelong_ct.core.errors import DataError
from lifelong_ct.data.loading import flow as module
from lifelong_ct.data.loading.flow import Flow
from lifelong_ct.data.loading.tasks import Buffers, Done
from lifelong_ct.data.sampling import Draw


class Told:
    """Answers with `answers(tasks)` what of the tasks has ended; `seconds` pass with each look.

    Args:
        answers: tasks → (task, error) pairs; all that wait, in order, where None.
        clock: a list with the time.
        seconds: that a look takes.
    """

    def __init__(self, clock, answers=None, seconds=0.0):
        self.clock, self.seconds, self.tasks, self.most = clock, seconds, [], 0
        self.answers = answers or (lambda tasks: [(task, None) for task in tasks])

    def buffers(self, rows):
        return Buffers([None] * rows, [None] * rows)

    def submit(self, task, buffers):
        self.tasks.append(task)
        buffers.x[task.row] = (task.volume, task.step)
        self.most = max(self.most, len({t.step for t in self.tasks}))

    def collect(self, seconds):
        self.clock[0] += self.seconds
        found = list(self.answers(self.tasks))
        for task, _ in found:
            self.tasks.remove(task)
        return [Done(0, task, error) for task, error in found]

    def reading(self):
        return {0: self.tasks[0]} if self.tasks else {}

    def take(self, buffers):
        return buffers.x, buffers.y


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def centres(step):
    return [Draw(10 * step + row, (0, 0, 0)) for row in range(2)]


def flow(readers, depth=3, timeout=5.0):
    return Flow(readers, centres, depth, timeout, lambda volume: f"case {volume}")


@pytest.mark.parametrize("depth", [1, 3, 50])
def test_batches_come_in_order_whatever_ends_first(clock, depth):
    readers = Told(clock, lambda tasks: [(tasks[-1], None)])
    made = flow(readers, depth)
    found = list(made.run(4, 13))
    assert [ready.step for ready in found] == list(range(4, 13))
    assert [ready.x for ready in found] == [[(10 * s, s), (10 * s + 1, s)] for s in range(4, 13)]
    assert readers.most <= depth
    assert made.in_flight == 0


def test_an_error_is_raised_in_the_turn_of_its_batch_and_the_first_of_a_batch_counts(clock):
    errors = {(2, 1): DataError("second", "w", "f"), (2, 0): DataError("first", "w", "f")}

    def answers(tasks):
        return [(task, errors.get((task.step, task.row))) for task in reversed(tasks)]

    batches = flow(Told(clock, answers), depth=4).run(0, 9)
    assert [next(batches).step for _ in range(2)] == [0, 1]
    with pytest.raises(DataError, match="first"):
        next(batches)


def test_a_worker_that_stays_at_a_patch_is_reported_with_its_case_in_time(clock):
    def answers(tasks):
        return [] if tasks[0].step == 1 else [(tasks[0], None)]

    batches = flow(Told(clock, answers, seconds=0.1), timeout=5.0).run(0, 9)
    assert next(batches).step == 0
    began = clock[0]
    with pytest.raises(DataError, match="reading one patch for 5 seconds") as error:
        next(batches)
    assert error.value.where == "case 10"
    assert error.value.code == "worker_hung"
    assert "data.timeout" in error.value.fix
    assert 5.0 <= clock[0] - began <= 5.3


def test_a_slow_worker_that_goes_on_is_waited_for(clock):
    looks = [0]

    def every_fortieth(tasks):
        looks[0] += 1
        return [(tasks[0], None)] if looks[0] % 40 == 0 else []

    found = list(flow(Told(clock, every_fortieth, seconds=0.1), timeout=5.0).run(0, 5))
    assert len(found) == 5
    assert clock[0] >= 5 * 2 * 4.0 - 0.1  # ten patches of four seconds each: the sum is not what counts


def test_a_machine_that_slept_and_a_long_training_step_are_no_hang(clock):
    looks = [0]

    def slept(tasks):
        looks[0] += 1
        if looks[0] % 3:
            return []
        clock[0] += 3600
        return [(tasks[0], None)]

    batches = flow(Told(clock, slept, seconds=0.1), timeout=5.0).run(0, 4)
    for _ in range(4):
        next(batches)
        clock[0] += 10_000  # the caller is busy; nobody waits


def test_time_asleep_between_two_looks_counts_little(clock):
    looks = [0]

    def asleep_once(tasks):
        looks[0] += 1
        clock[0] += 3600 if looks[0] == 2 else 0
        return [] if looks[0] < 5 else [(tasks[0], None)]

    assert len(list(flow(Told(clock, asleep_once, seconds=0.1), timeout=5.0).run(0, 2))) == 2
