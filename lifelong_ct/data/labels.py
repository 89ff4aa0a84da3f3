"""Organs: their canonical names, and how a stream codes them in the voxels of `y`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lifelong_ct.core.errors import LifelongCTError

IGNORE = 255
"""Code of a voxel that nobody knows: padding."""
PROTOCOL_BASE = 160
"""First code of an unlabelled voxel in a partially annotated case; organs take 1 … 159."""
_UINT8_PROTOCOLS = IGNORE - PROTOCOL_BASE


class Vocabulary:
    """Canonical organs with aliases, laterality and containment, from a YAML like `labels.yaml`."""

    def __init__(self, path: Path | None = None) -> None:
        entries = yaml.safe_load((path or Path(__file__).with_name("labels.yaml")).read_text())
        self.organs = tuple(entries)
        self.parent: dict[str, str] = {o: e["within"] for o, e in entries.items() if "within" in e}
        self.mirror: dict[str, str] = {o: e["mirror"] for o, e in entries.items() if "mirror" in e}
        self._names = {alias: o for o, e in entries.items() for alias in (o, *e.get("aliases", ()))}

    def canonical(self, name: str, where: str = "organ name") -> str:
        """The canonical organ for a name or alias, in any case, with spaces or hyphens.

        Raises:
            LifelongCTError: unknown; the message names the nearest known ones.
        """
        key = str(name).strip().lower().replace(" ", "_").replace("-", "_")
        if key not in self._names:
            near = difflib.get_close_matches(key, self._names, n=3, cutoff=0.4) or sorted(self._names)[:5]
            raise LifelongCTError(f"unknown organ {name!r}", where, f"did you mean {', '.join(near)}?")
        return self._names[key]


@lru_cache(maxsize=1)
def default_vocabulary() -> Vocabulary:
    """The vocabulary that ships with the library."""
    return Vocabulary()


@dataclass(frozen=True)
class Protocol:
    """What is known of an unlabelled voxel.

    Attributes:
        organs: organs annotated in the case; the others are unknown, not background.
        within: None outside every annotated organ, else the annotated organ that contains the voxel
            while an organ inside it was not annotated.
    """

    organs: frozenset[str]
    within: str | None = None


class LabelSpace:
    """The organs of a stream and the append-only codes of `y`.

    Codes: 0 background (the case annotates every organ of the stream); k = 1 … K organ of head channel k,
    in the order of first appearance; `PROTOCOL_BASE + p` unlabelled under protocol p; 255 ignore.
    From the 96th protocol on codes continue at 256 and `dtype` widens to uint16.

    Args:
        organs: every organ that the stream may ever annotate, canonical or alias.
        vocabulary: names and containment.

    Raises:
        LifelongCTError: an unknown organ, none, or more than 159.
    """

    def __init__(self, organs: Iterable[str], vocabulary: Vocabulary | None = None) -> None:
        self.vocabulary = vocabulary or default_vocabulary()
        self.organs = tuple(dict.fromkeys(self.vocabulary.canonical(o, "stream.organs") for o in organs))
        if not 0 < len(self.organs) < PROTOCOL_BASE:
            raise LifelongCTError(
                f"a stream has 1 to {PROTOCOL_BASE - 1} organs, not {len(self.organs)}",
                "stream.organs",
                "list the organs to learn",
            )
        self.channels: list[str] = []
        self.protocols: list[Protocol] = []

    @property
    def width(self) -> int:
        """Channels of the head now: background and the organs seen."""
        return 1 + len(self.channels)

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Smallest type that holds every code in use."""
        return np.uint8 if len(self.protocols) <= _UINT8_PROTOCOLS else np.uint16

    def channel(self, organ: str) -> int | None:
        """Head channel of an organ; None before it was seen."""
        return 1 + self.channels.index(organ) if organ in self.channels else None

    def see(self, organs: Iterable[str]) -> None:
        """Gives channels to organs that appear for the first time, in the order of the stream's list."""
        new = {organ for organ in organs if organ not in self.channels}
        self._check(new)
        self.channels += [organ for organ in self.organs if organ in new]

    def inside(self, organ: str) -> list[str]:
        """Organs of this stream that the organ contains, at any depth."""
        parent = self.vocabulary.parent
        inner = [o for o in self.organs if parent.get(o) == organ]
        return inner + [deeper for o in inner for deeper in self.inside(o)]

    def encode_lut(self, organs: Sequence[str]) -> np.ndarray:
        """Local label ids of a case (0 unlabelled, i = organs[i-1]) → codes, `[n+1]` of `dtype`."""
        self._check(organs)
        self.see(organs)
        annotated = frozenset(organs)
        codes = [0 if annotated >= set(self.organs) else self._code(Protocol(annotated))]
        for organ in organs:
            open_inside = [o for o in self.inside(organ) if o not in annotated]
            known = self.channel(organ)
            assert known is not None
            codes.append(self._code(Protocol(annotated, organ)) if open_inside else known)
        return np.asarray(codes, dtype=self.dtype)

    def candidates(self, width: int | None = None) -> np.ndarray:
        """Which channels a voxel of each code may belong to.

        Returns:
            bool `[codes, width]`; one channel for a labelled voxel, several where annotation is missing,
            all for `IGNORE`.
        """
        width = width or self.width
        table = np.zeros((max(256, self._index(len(self.protocols))), width), dtype=bool)
        rows = np.arange(width)
        table[rows, rows] = True
        table[IGNORE] = True
        for p, protocol in enumerate(self.protocols):
            for channel in self._open_channels(protocol):
                if channel < width:
                    table[self._index(p), channel] = True
        return table

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        protocols = [{"organs": sorted(p.organs), "within": p.within} for p in self.protocols]
        return {"organs": list(self.organs), "channels": list(self.channels), "protocols": protocols}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`.

        Raises:
            LifelongCTError: the state is of a stream with other organs.
        """
        if tuple(state["organs"]) != self.organs:
            raise LifelongCTError(
                f"the checkpoint's stream has the organs {state['organs']}, this one {list(self.organs)}",
                "stream.organs",
                "use the stream of the checkpoint",
            )
        self.channels = list(state["channels"])
        self.protocols = [Protocol(frozenset(p["organs"]), p["within"]) for p in state["protocols"]]

    def _open_channels(self, protocol: Protocol) -> list[int]:
        if protocol.within is not None:
            names = [protocol.within, *(o for o in self.inside(protocol.within) if o not in protocol.organs)]
            return [c for c in map(self.channel, names) if c is not None]
        closed = set(protocol.organs)
        closed.update(o for organ in protocol.organs for o in self.inside(organ))
        return [0, *(c for o in self.channels if o not in closed and (c := self.channel(o)) is not None)]

    def _code(self, protocol: Protocol) -> int:
        if protocol not in self.protocols:
            self.protocols.append(protocol)
        return self._index(self.protocols.index(protocol))

    @staticmethod
    def _index(p: int) -> int:
        return PROTOCOL_BASE + p + (p >= _UINT8_PROTOCOLS)

    def _check(self, organs: Iterable[str]) -> None:
        for organ in organs:
            if organ not in self.organs:
                raise LifelongCTError(
                    f"the organ {organ!r} is not one of this stream's",
                    "stream.organs",
                    f"add it there, or leave it out of the case; the stream has {', '.join(self.organs)}",
                )
