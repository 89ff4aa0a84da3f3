"""A picture of a prediction: three planes of the scan with the outlines of its organs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lifelong_ct.reporting.style import PALETTE, new_axes

WINDOW = (-160.0, 240.0)
"""HU from black to white; what is no CT is stored so that it fits too."""
LONGEST = 400
"""Voxels along an axis of a plane, at most: a picture of 3 inches shows no more."""
_PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))


def preview(
    image: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    organs: Sequence[str],
    spacing: Sequence[float],
) -> Figure:
    """An axial, a coronal and a sagittal plane, each the one with most labelled voxels; the middle one where there are
    none. Seen as radiologists do: the patient's right is on the left. No text of the picture comes from the scan.

    Args:
        image: int16 `[D, H, W]` in canonical order.
        labels: channel ids on the same grid.
        organs: of the channels behind the background.
        spacing: mm per axis.
    """
    found = [i for i in range(1, len(organs) + 1) if (labels == i).any()]
    with new_axes(10.5, 3.9, 3) as (figure, axes):
        for place, (title, axis) in zip(axes, _PLANES, strict=True):
            at = _busiest(labels, axis)
            _draw(place, np.take(image, at, axis), np.take(labels, at, axis), np.delete(spacing, axis), found)
            place.set_title(title)
        lines = [Line2D([], [], color=_colour(i), label=organs[i - 1].replace("_", " ")) for i in found]
        if lines:
            figure.legend(handles=lines, loc="outside lower center", ncols=6, fontsize=8)
    return figure


def _busiest(labels: npt.NDArray[np.uint8], axis: int) -> int:
    others = tuple(other for other in range(3) if other != axis)
    counts = np.count_nonzero(labels, axis=others)
    return int(counts.argmax()) if counts.any() else labels.shape[axis] // 2


def _draw(
    axes: Axes,
    image: npt.NDArray[np.int16],
    labels: npt.NDArray[np.uint8],
    spacing: npt.NDArray[np.float64],
    found: Sequence[int],
) -> None:
    """A plane whose axes run rightwards or forwards, and forwards or up."""
    skip = tuple(slice(None, None, -(-n // LONGEST)) for n in image.shape)
    image, labels = image[skip].T, labels[skip].T
    aspect = spacing[1] * skip[1].step / (spacing[0] * skip[0].step)
    axes.imshow(image, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], origin="lower", aspect=aspect)
    for i in found:
        mask = labels == i
        if mask.any() and min(mask.shape) > 1:
            axes.contour(mask, levels=[0.5], colors=[_colour(i)], linewidths=1.2)
    axes.set_axis_off()
    axes.invert_xaxis()


def _colour(channel: int) -> str:
    """Bright ones only: the ground is dark."""
    bright = [colour for colour in PALETTE if colour != "#000000"]
    return bright[(channel - 1) % len(bright)]
