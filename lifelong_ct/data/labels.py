"""How a stream codes its organs in the voxels of `y`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.data.vocabulary import Vocabulary, default_vocabulary

__all__ = ["IGNORE", "PROTOCOL_BASE", "LabelSpace", "Protocol", "Vocabulary", "default_vocabulary"]

IGNORE = 255
"""Code of a voxel that nobody knows: padding."""
PROTOCOL_BASE = 160
"""First code of an unlabelled voxel in a partially annotated case; organs take 1 … 159."""
_UINT8_PROTOCOLS = IGNORE - PROTOCOL_BASE


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
        LifelongCTError: an unknown organ, none, or more than 159; or two that overlap in a third, which is not
            listed (`kidney_left` and `kidney_tumor` in `kidney_tumor_left`).
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
        self._check_overlaps()
        contained = self.vocabulary.containers
        self._inside = {organ: {o for o in self.organs if organ in contained[o]} for organ in self.organs}
        self._hidden_of: dict[frozenset[str], dict[str, list[str]]] = {}
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
        return [o for o in self.organs if o in self._inside[organ]]

    def encode_lut(self, organs: Sequence[str], overlaps: Sequence[Sequence[int]] = ()) -> np.ndarray:
        """Local label ids of a case (see `RawCase.label`) → codes, `[1 + n + overlaps]` of `dtype`. Where organs
        overlap, the innermost counts: it is part of the others by containment. What nobody knows is `IGNORE`.

        Raises:
            LifelongCTError: an organ that the stream does not have, or an overlap without containment.
        """
        self._check(organs)
        self.see(organs)
        annotated = frozenset(organs)
        codes = [0 if annotated >= set(self.organs) else self._code(Protocol(annotated))]
        for organ in organs:
            known = self.channel(organ)
            assert known is not None
            hidden = self._hidden(organ, annotated)
            codes.append(self._code(Protocol(annotated, organ)) if hidden else known)
        for members in overlaps:
            if not members:
                codes.append(IGNORE)
                continue
            inner = self.vocabulary.innermost(organs[i] for i in members)
            if inner is None:
                names = " and ".join(organs[i] for i in members)
                raise LifelongCTError(
                    f"{names} overlap without containment", "labels", "ingest the case again"
                )
            codes.append(codes[1 + list(organs).index(inner)])
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

    def literal(self) -> np.ndarray:
        """The channel of a voxel of each code if what nobody annotated were not there: int64 `[codes]`; -1 for
        `IGNORE`. An organ that may hide another keeps its own channel."""
        table = np.arange(len(self.candidates()))
        table[self.width :] = -1
        for p, protocol in enumerate(self.protocols):
            channel = 0 if protocol.within is None else self.channel(protocol.within)
            table[self._index(p)] = -1 if channel is None else channel
        return table

    def completed(self, width: int) -> np.ndarray:
        """Codes after a model with `width` channels has told what a case did not annotate.

        Such a case then counts as one that annotates the model's organs too: it keeps what it annotated, and what
        the model cannot know (an organ inside one of its own, or a later one) stays open. Protocols that are missing
        are appended.

        Returns:
            int64 `[codes, width]`: the code of a voxel that had this code and is told this channel. Its own where it
            was labelled, is padding, or cannot be of that channel.
        """
        known = self.channels[: width - 1]
        told = {
            p: self._told(protocol, known) for p, protocol in enumerate(list(self.protocols))
        }  # appends protocols, so the table comes after it
        allowed = self.candidates()
        table = np.repeat(np.arange(len(allowed))[:, None], width, 1)
        for p, codes in told.items():
            row = self._index(p)
            table[row] = np.where(allowed[row, :width], codes, row)
        return table

    def mirrored(self) -> np.ndarray:
        """The code that a voxel of each code has where left and right change places: int64 `[codes]`. An organ without
        another side, or whose other side has no channel, keeps its own. Protocols that are missing are appended."""
        of = self.vocabulary.mirror

        def other(p: Protocol) -> Protocol:
            return Protocol(
                frozenset(of.get(o, o) for o in p.organs), p.within and of.get(p.within, p.within)
            )

        for protocol in list(self.protocols):
            self._code(other(protocol))
        table = np.arange(len(self.candidates()))
        for own, organ in enumerate(self.channels, start=1):
            table[own] = self.channel(of.get(organ, organ)) or own
        for p, protocol in enumerate(self.protocols):
            table[self._index(p)] = self._code(other(protocol))
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

    def _told(self, protocol: Protocol, known: Sequence[str]) -> list[int]:
        """Per channel of a model that knows these organs the code of a voxel of a protocol."""
        together = [organ for organ in self.organs if organ in protocol.organs or organ in known]
        code = dict(zip([None, *together], self.encode_lut(together).tolist(), strict=True))
        return [code[name] for name in (None, *known)]

    def _open_channels(self, protocol: Protocol) -> list[int]:
        if protocol.within is not None:
            names = [protocol.within, *self._hidden(protocol.within, protocol.organs)]
            return [c for c in map(self.channel, names) if c is not None]
        inside = {o for organ in protocol.organs for o in self.inside(organ)}
        closed = protocol.organs | (inside - self.vocabulary.anywhere)
        return [0, *(c for o in self.channels if o not in closed and (c := self.channel(o)) is not None)]

    def _hidden(self, organ: str, annotated: frozenset[str]) -> list[str]:
        """What else a voxel may be that is labelled with this organ and none inside it: what lies inside it, was
        not annotated, and lies in no annotated organ that would then have the voxel too."""
        contains = self.vocabulary.contains
        hidden = self._hidden_of.setdefault(annotated, {})
        if organ not in hidden:
            hidden[organ] = [
                o
                for o in self.organs
                if o not in annotated
                and (o in self._inside[organ] or o in self.vocabulary.anywhere)
                and all(contains(other, organ) for other in annotated if contains(other, o))
            ]
        return hidden[organ]

    def _check_overlaps(self) -> None:
        vocabulary = self.vocabulary
        for inner in vocabulary.organs:
            over = [o for o in self.organs if vocabulary.contains(o, inner)]
            if over and vocabulary.innermost(over) is None:
                more = [inner, *(m for m in (vocabulary.mirror.get(inner),) if m)]
                raise LifelongCTError(
                    f"{' and '.join(over)} overlap in {inner}, which is not listed",
                    "stream.organs",
                    f"list {' and '.join(more)} too, or leave one of the others out",
                )

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
