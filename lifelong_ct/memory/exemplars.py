"""The exemplar memory: compressed patches in a budget of bytes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from lifelong_ct.core.errors import CheckpointError, LimitExceeded
from lifelong_ct.core.ledger import Ledger
from lifelong_ct.core.ranks import Ranks
from lifelong_ct.core.units import format_bytes
from lifelong_ct.memory import rows
from lifelong_ct.memory.parts import OVERHEAD, Exemplar, Origin, least_bytes, pack, stacked
from lifelong_ct.memory.pool import Pool
from lifelong_ct.memory.selection import Description, Descriptor, SelectionPolicy
from lifelong_ct.memory.shelves import RamShelf, Shelf

__all__ = ["OVERHEAD", "Exemplar", "ExemplarMemory", "Origin", "least_bytes"]

Offer = tuple[Mapping[str, Tensor], Origin, Description]
_LATENT = frozenset(("y", "z"))
"""Parts of features: what a layer made of the voxels, and the labels that they are learnt with."""


class ExemplarMemory:
    """Detached patches with their annotation protocol, in at most `budget` bytes.

    An exemplar has named parts: `x` int16 voxels `[C,D,H,W]`, `y` codes `[1,D,H,W]`, `z` features, and any other
    array, such as `logits`; all compressed without loss. The budget is reserved in the ledger at once, under
    `exemplars` and what the shelf needs; what is really stored is told with `use`.

    Args:
        budget: bytes.
        policy: which exemplars stay.
        ledger: asked at construction.
        seed: of the policy's decisions.
        sharing: hospital → patches, features or forbid. Who is not named shares nothing.
        shelf: where the bytes lie; in memory where None.
        owner: in the ledger.
        ranks: that hold it together: all know of every exemplar, and each keeps the bytes of some. What is offered and
            drawn on any of them, all of them offer and draw at once.

    Attributes:
        nbytes: stored on all ranks, compression and descriptions included.

    Raises:
        LimitExceeded: the budget passes a limit.
    """

    def __init__(
        self,
        budget: int,
        policy: SelectionPolicy,
        ledger: Ledger,
        seed: int,
        sharing: Mapping[str, str],
        *,
        shelf: Shelf | None = None,
        owner: str = "exemplar memory",
        ranks: Ranks | None = None,
    ) -> None:
        self.budget, self.policy, self.seed, self.sharing = budget, policy, seed, sharing
        self.nbytes = self.drawn = 0
        self._ledger, self._owner = ledger, owner
        self._shelf = shelf or RamShelf()
        self._pool = Pool(())
        self._gone: dict[str, tuple[Descriptor, str]] = {}
        self._decided = False
        self._ranks = ranks or Ranks()
        self._keeper: dict[str, int] = {}
        for kind, nbytes in self.declared_bytes().items():
            ledger.admit(kind, owner, nbytes)

    def __len__(self) -> int:
        return len(self._pool.kept)

    def allows(self, hospital: str, parts: Sequence[str]) -> bool:
        """Whether a hospital lets these parts be kept: everything with `patches`; with `features` only `z`, and `y`
        beside it."""
        shares = self.sharing.get(hospital, "forbid")
        return shares == "patches" or (shares == "features" and "z" in parts and _LATENT.issuperset(parts))

    def offer(
        self, parts: Mapping[str, Tensor], origin: Origin, description: Description | None = None
    ) -> bool:
        """Offers one patch; the policy decides who stays. See `offer_all`."""
        return self.offer_all([(parts, origin, description or Description())]) == 1

    def offer_all(self, offers: Sequence[Offer]) -> int:
        """Offers patches; the policy decides once. How many of them it saw: what a hospital does not share is
        refused here, see `allows`.

        Raises:
            LimitExceeded: the budget does not hold one of them alone.
            TypeError: voxels are not int16.
        """
        shared = [o for o in offers if self.allows(o[1].hospital, tuple(o[0]))]
        packed = [pack(*offer) for offer in shared]
        newcomers = self._of_all([exemplar for exemplar, _ in packed])
        largest = max((self._size(exemplar) for exemplar, _ in newcomers), default=0)
        if largest > self.budget:
            raise LimitExceeded(
                f"one exemplar takes {format_bytes(largest)}, the memory holds {format_bytes(self.budget)}",
                "memory.exemplars",
                f"raise it to at least {largest}, better to many times that, or use smaller patches",
            )
        if newcomers and not self._all_turned_away([exemplar for exemplar, _ in newcomers]):
            self._decide(newcomers, {exemplar.id: data for exemplar, data in packed})
        return len(packed)

    def draw(
        self, count: int, rng: np.random.Generator, without: str | None = None
    ) -> list[tuple[Exemplar, dict[str, Tensor]]]:
        """`count` exemplars with their parts: with equal right, with replacement, none of the hospital `without`.

        Its time does not grow with what is held. Empty where there is none. Ranks draw for all of them, and each gets its
        own share, wherever the bytes lie.
        """
        size = self._pool.size(without)
        places = rng.integers(0, size, count * self._ranks.size) if size else ()
        self.drawn += len(places)
        drawn = [self._pool.at(int(place), without) for place in places]
        data = self._bytes(drawn)
        return [(e, e.unpack(data[e.id])) for e in drawn[self._ranks.rank :: self._ranks.size]]

    def sample(self, count: int, rng: np.random.Generator, without: str | None = None) -> dict[str, Tensor]:
        """What `draw` draws, stacked: name → `[n, …]`, such as int16 `x` `[n,C,D,H,W]` and codes `y` `[n,1,D,H,W]`;
        empty where there is none."""
        return stacked([parts for _, parts in self.draw(count, rng, without)])

    def held(self) -> Iterator[tuple[Exemplar, dict[str, Tensor]]]:
        """Every exemplar with its parts, in the order of arrival."""
        data = self._bytes(self._pool.kept) if self._ranks.size > 1 else None
        for e in self._pool.kept:
            yield e, e.unpack(self._shelf.get(e.id) if data is None else data[e.id])

    def describe(self, said: Mapping[str, Description]) -> None:
        """Replaces descriptions, by the exemplars' ids; of what is not held nothing is kept. Where longer ones pass the
        budget the policy decides anew."""
        said = {id: each for told in self._ranks.gather(dict(said)) for id, each in told.items()}
        self._keep([replace(e, description=said[e.id]) if e.id in said else e for e in self._pool.kept])
        if self.nbytes > self.budget:
            self._decide((), {})

    def remove(self, patient: str) -> int:
        """Forgets every exemplar of a patient, by its keyed hash; how many there were. Of those that were dropped earlier
        hash and size stay, which later decisions need."""
        before = len(self)
        self._gone = {
            id: (replace(d, description=Description()), "") if whose == patient else (d, whose)
            for id, (d, whose) in self._gone.items()
        }
        self._keep([exemplar for exemplar in self._pool.kept if exemplar.origin.patient != patient])
        return before - len(self)

    def mark(self) -> Callable[[], None]:
        """See `Undoable`. Exemplars that lie on disk do not come back once they have gone, and what was offered stays: the
        same offer again changes nothing, since an exemplar is known by its content."""
        shelf, drawn = self._shelf.mark(), self.drawn
        pool, gone, nbytes, decided = self._pool, self._gone, self.nbytes, self._decided
        keeper = self._keeper

        def undo() -> None:
            self.drawn = drawn
            if shelf is None or (pool is self._pool and gone is self._gone):
                return
            shelf()
            self._pool, self._gone, self.nbytes, self._decided = pool, gone, nbytes, decided
            self._keeper = keeper
            self._tell()

        return undo

    def declared_bytes(self) -> dict[str, int]:
        """Kind of the ledger → most bytes that it will hold, for `StrategyPlugin.declared_bytes`."""
        return {"exemplars": self.budget, **self._shelf.needs(self.budget)}

    def held_bytes(self) -> dict[str, int]:
        """Kind of the ledger → bytes held now, likewise."""
        return {"exemplars": self.nbytes}

    def state_dict(self) -> dict[str, Any]:
        """Metadata and, where they lie in memory, bytes; of several ranks the first has them."""
        kept = self._pool.kept
        state = {
            "kind": rows.KIND,
            "rows": [rows.of_exemplar(exemplar) for exemplar in kept],
            "gone": [rows.of_gone(descriptor, patient) for descriptor, patient in self._gone.values()],
        }
        if self._shelf.in_checkpoint:
            data = {id: each for part in self._ranks.collect(self._own(kept)) for id, each in part.items()}
            state["blobs"] = [rows.to_tensor(data[e.id]) for e in kept] if self._ranks.first else []
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`, wherever the bytes lay then and lie now.

        Raises:
            CheckpointError: the exemplars do not fit the budget of this run, or a file is damaged or gone.
        """
        kept = [rows.to_exemplar(row) for row in state["rows"]]
        if sum(map(self._size, kept)) > self.budget:
            raise CheckpointError(
                f"the exemplars of the checkpoint take more than the budget of {self.budget} bytes",
                "memory.exemplars",
                "resume with the limit of the run that wrote it",
            )
        self._keeper = {exemplar.id: i % self._ranks.size for i, exemplar in enumerate(kept)}
        for i, exemplar in enumerate(kept):
            if self._keeper[exemplar.id] != self._ranks.rank:
                continue
            if "blobs" in state:
                self._shelf.put(exemplar.id, rows.to_bytes(state["blobs"][i]))
            else:
                self._shelf.fetch(exemplar.id)
        gone = map(rows.to_gone, state["gone"])
        self._gone = {descriptor.id: (descriptor, patient) for descriptor, patient in gone}
        self._keep(kept)

    def state_within(self) -> dict[str, Any]:
        """`state_dict`, and whether the last decision still stands, which saves the policy a look at what is held."""
        return {**self.state_dict(), "decided": self._decided}

    def load_state_within(self, state: dict[str, Any]) -> None:
        """Restores `state_within`."""
        self.load_state_dict(state)
        self._decided = bool(state["decided"])

    def _of_all(self, own: Sequence[Exemplar]) -> list[tuple[Exemplar, int]]:
        """What all ranks offer, with who does, in the order of the rows of one batch."""
        if self._ranks.size == 1:
            return [(exemplar, 0) for exemplar in own]
        parts = self._ranks.gather(own)
        turns = range(max(map(len, parts)))
        return [(part[turn], rank) for turn in turns for rank, part in enumerate(parts) if turn < len(part)]

    def _size(self, exemplar: Exemplar) -> int:
        """Bytes on all ranks: each knows of it, one has it."""
        return exemplar.stored + self._ranks.size * (exemplar.nbytes - exemplar.stored)

    def _descriptor(self, exemplar: Exemplar) -> Descriptor:
        known = exemplar.descriptor  # it remembers what was drawn for it
        return known if self._ranks.size == 1 else replace(known, nbytes=self._size(exemplar))

    def _own(self, exemplars: Sequence[Exemplar]) -> dict[str, bytes]:
        ids = {e.id for e in exemplars if self._keeper[e.id] == self._ranks.rank}
        return {id: self._shelf.get(id) for id in sorted(ids)}

    def _bytes(self, exemplars: Sequence[Exemplar]) -> dict[str, bytes]:
        """Id → bytes, of whoever has them; nobody is asked where there are none."""
        if not exemplars:
            return {}
        return {id: data for part in self._ranks.gather(self._own(exemplars)) for id, data in part.items()}

    def _all_turned_away(self, newcomers: Sequence[Exemplar]) -> bool:
        """Whether the policy knows without a look at what is held that the last decision stands."""
        ask = getattr(self.policy, "turns_away", None)
        if ask is None or not self._decided:
            return False
        gone = [descriptor for descriptor, _ in self._gone.values()]
        return all(ask(self._descriptor(exemplar), gone, self.seed) for exemplar in newcomers)

    def _decide(self, newcomers: Sequence[tuple[Exemplar, int]], data: Mapping[str, bytes]) -> None:
        candidates = [*self._pool.kept, *(exemplar for exemplar, _ in newcomers)]
        unique = list({exemplar.id: exemplar for exemplar in candidates}.values())
        descriptors = [
            *map(self._descriptor, unique),
            *(descriptor for descriptor, _ in self._gone.values()),
        ]
        keep = self.policy.decide(descriptors, self.seed, self.budget)
        patients = {id: patient for id, (_, patient) in self._gone.items()}
        patients |= {e.id: e.origin.patient for e, stays in zip(unique, keep) if not stays}
        gone = [_small(d) for d, stays in zip(descriptors, keep) if stays == d.gone]
        self._gone = {d.id: (d, patients[d.id]) for d in gone}
        kept = [exemplar for exemplar, stays in zip(unique, keep) if stays]
        staying = {exemplar.id for exemplar in kept} - {exemplar.id for exemplar in self._pool.kept}
        keeper = dict(self._keeper)
        for exemplar, rank in newcomers:
            if exemplar.id in staying and exemplar.id not in keeper:
                keeper[exemplar.id] = rank
                if rank == self._ranks.rank:
                    self._shelf.put(exemplar.id, data[exemplar.id])
        self._keeper = keeper
        self._keep(kept)
        self._decided = True

    def _keep(self, kept: Sequence[Exemplar]) -> None:
        self._decided = False  # what is held need not be what the policy would keep
        if len(kept) == len(self) and all(map(operator.is_, kept, self._pool.kept)):
            return
        self._keeper = {exemplar.id: self._keeper[exemplar.id] for exemplar in kept}
        mine = [exemplar for exemplar in kept if self._keeper[exemplar.id] == self._ranks.rank]
        self._shelf.keep([exemplar.id for exemplar in mine])
        self._pool = Pool(kept)
        self.nbytes = sum(map(self._size, kept))
        self._tell()

    def _tell(self) -> None:
        kept = self._pool.kept
        stored = sum(e.stored for e in kept if self._keeper[e.id] == self._ranks.rank)
        known = sum(exemplar.nbytes - exemplar.stored for exemplar in kept)
        self._ledger.use("exemplars", self._owner, self.nbytes)
        self._shelf.tell(self._ledger, self._owner, self.budget, stored + known, stored)


def _small(descriptor: Descriptor) -> Descriptor:
    """Of what is gone no vectors stay."""
    if descriptor.gone:
        return descriptor
    return replace(descriptor, gone=True, description=replace(descriptor.description, vectors={}))
