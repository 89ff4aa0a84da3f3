"""Who hears where an experience begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lifelong_ct.avalanche_bridge import SupervisedTemplate


class Boundaries(SupervisedTemplate):
    """The hooks around training, experiences and epochs, which some plugins do not hear.

    Attributes:
        _deaf: those plugins.
    """

    plugins: list[Any]
    _deaf: list[Any]

    def _before_training(self, **kwargs: Any) -> None:
        with self._within():
            super()._before_training(**kwargs)

    def _before_training_exp(self, **kwargs: Any) -> None:
        with self._within():
            super()._before_training_exp(**kwargs)

    def _before_training_epoch(self, **kwargs: Any) -> None:
        with self._within():
            super()._before_training_epoch(**kwargs)

    def _after_training_epoch(self, **kwargs: Any) -> None:
        with self._within():
            super()._after_training_epoch(**kwargs)

    def _after_training_exp(self, **kwargs: Any) -> None:
        with self._within():
            super()._after_training_exp(**kwargs)

    def _after_training(self, **kwargs: Any) -> None:
        with self._within():
            super()._after_training(**kwargs)

    @contextmanager
    def _within(self) -> Iterator[None]:
        """At a boundary: nobody hears of it who should not. Avalanche's clock always does."""
        everybody = self.plugins
        self.plugins = [p for p in everybody if not any(p is deaf for deaf in self._deaf)]
        try:
            yield
        finally:
            self.plugins = everybody
