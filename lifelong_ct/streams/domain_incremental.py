"""Domain-incremental: one experience per hospital, the organs annotated as each hospital has them."""

from __future__ import annotations

from lifelong_ct.streams.base import Stream


class DomainIncremental(Stream):
    """The same organs at one hospital after another; see `Stream` for its options.

    Domain-incremental learning of van de Ven et al., "Three types of incremental learning", Nature Machine Intelligence
    2022 (doi 10.1038/s42256-022-00568-3): what is to be done stays, what the scans look like changes. Hospitals of
    other modalities are such a change too (`stream=modality`), and a stream without boundaries that shows each case
    once is it as well (`stream=online`).
    """
