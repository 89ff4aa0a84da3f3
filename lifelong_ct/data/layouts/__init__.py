"""Layouts: each reads one on-disk convention and yields Cases. One per file, found by its name."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from lifelong_ct.core.errors import LifelongCTError
from lifelong_ct.core.types import Case
from lifelong_ct.data.types import RawCase


class Layout(Protocol):
    """One hospital on disk, or drawn."""

    def cases(self) -> Iterator[Case]:
        """Its cases, lazily, from headers only."""
        ...

    def load(self, case: Case) -> RawCase:
        """The voxels of a case, in canonical orientation on its own grid. It is called from several threads, and what
        it gives follows from the case, its files, and `rules` where the layout has some (a dataclass): they name
        the stored volume, so that nothing else may decide. A layout that draws may offer `spacing(case)` in mm."""
        ...


def open_layout(hospital: Mapping[str, Any]) -> Layout:
    """Builds the layout of a hospital entry.

    Args:
        hospital: `name`, `layout` (a file of this folder, or `package.module:Class`) and the options of the
            layout's constructor.

    Raises:
        LifelongCTError: an unknown layout or option.
    """
    options = dict(hospital)
    name, layout = str(options.pop("name")), str(options.pop("layout", ""))
    kind = _find(layout, name)
    try:
        return kind(hospital=name, **options)
    except TypeError as error:
        raise LifelongCTError(
            f"the layout {layout} does not take these options: {error}",
            f"stream.hospitals {name}",
            f"see {kind.__module__}",
        ) from error


def known_layouts() -> list[str]:
    """The layouts of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _find(layout: str, hospital: str) -> Any:
    module, _, attribute = layout.partition(":")
    if not attribute and module in known_layouts():
        attribute = "".join(part.title() for part in module.split("_")) + "Layout"
        module = f"{__name__}.{module}"
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        near = difflib.get_close_matches(layout, known_layouts(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise LifelongCTError(
            f"there is no layout {layout!r}",
            f"stream.hospitals {hospital}",
            f"{hint}there are {', '.join(known_layouts())}; from elsewhere write package.module:Class",
        ) from error
