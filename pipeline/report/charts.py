"""The page's charts, drawn with Matplotlib: bars of a few numbers, and the histogram of a signal with its bounds.

A chart is 320 units wide whatever it shows, so its letters are as large on a phone as on a screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokenmill.pipeline.report.histograms import NUMBER, SHARE, WHOLE, Histogram, edges_of, place_of
from tokenmill.pipeline.report.inline_svg import COLOURS, SETTINGS, inline_svg

_WIDTH = 320 / 72
_BAR = 34 / 72
#: Characters that fit into a line, a label and its number together.
_LINE_CHARACTERS = 47
_INK, _MUTED, _LINE, _KEPT, _DROP = (COLOURS[name] for name in ("ink", "muted", "line", "kept", "drop"))


@dataclass(frozen=True)
class Bar:
    """A bar of a chart.

    Attributes:
        label: what it is of.
        value: how long it is.
        shown: the value in words, beside it.
        lost: drawn after it in the other colour: what was dropped, or is padding.
        target: drawn as a mark across it; None for none.
    """

    label: str
    value: float
    shown: str
    lost: float = 0.0
    target: float | None = None


@dataclass(frozen=True)
class BoundLine:
    """A bound drawn into a histogram."""

    is_min: bool
    value: float
    label: str


def bar_chart(bars: Sequence[Bar], label: str) -> str:
    """Bars below each other, each with its label above it and its number in words, as an `svg` element."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(_WIDTH, _BAR * len(bars) + 2 / 72))
        axes: Axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        longest = max([*(bar.value + bar.lost for bar in bars), *(bar.target or 0 for bar in bars)], default=0) or 1
        axes.set_xlim(0, longest * 1.005)
        axes.set_ylim(len(bars) - 0.02, -0.02)
        for index, bar in enumerate(bars):
            _draw_bar(axes, index, bar, longest)
        return inline_svg(figure, label)


def _draw_bar(axes: Axes, index: int, bar: Bar, longest: float) -> None:
    text: dict[str, Any] = {"va": "center", "clip_on": False}
    axes.text(0, index + 0.27, shortened(bar.label, _LINE_CHARACTERS - len(bar.shown)), color=_INK, ha="left", **text)
    axes.text(longest, index + 0.27, bar.shown, color=_MUTED, ha="right", **text)
    height, middle = 0.36, index + 0.7
    axes.barh(middle, longest, height, color=_LINE, linewidth=0)
    axes.barh(middle, bar.value, height, color=_KEPT, linewidth=0)
    if bar.lost:
        axes.barh(middle, bar.lost, height, left=bar.value, color=_DROP, linewidth=0)
    if bar.target is not None:
        axes.plot([bar.target] * 2, [index + 0.47, index + 0.93], color=_INK, linewidth=2, clip_on=False)


def shortened(label: str, characters: int) -> str:
    """A label that fits, its middle left out."""
    if len(label) <= characters:
        return label
    half = max(1, (characters - 1) // 2)
    return f"{label[:half]}…{label[-half:]}"


def histogram_chart(counted: Histogram, bounds: Sequence[BoundLine], label: str) -> str:
    """Kept and dropped documents by value, counts on a logarithmic scale, as an `svg` element."""
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(_WIDTH, 132 / 72))
        axes: Axes = figure.add_axes((0.1, 0.16, 0.88, 0.72))
        first, last = _range(counted, bounds)
        places = np.arange(first, last + 1)
        for counts, colour in ((counted.kept, _KEPT), (counted.dropped, _DROP)):
            if not counts.any():
                continue
            here = np.log10(1.0 + counts[first:last])
            axes.stairs(here, places, fill=True, facecolor=(colour, 0.3), edgecolor=colour, linewidth=1.1)
        _draw_bounds(axes, counted.shape, bounds, first, last)
        most = int(max(counted.kept[first:last].max(initial=0), counted.dropped[first:last].max(initial=0)))
        _scale(axes, counted.shape, first, last, most)
        return inline_svg(figure, label)


def _range(counted: Histogram, bounds: Sequence[BoundLine]) -> tuple[int, int]:
    """First bin drawn and the one after the last: all with documents, and every bound with some room."""
    filled = np.flatnonzero(counted.kept + counted.dropped)
    ends = [_border(counted.shape, bound) for bound in bounds]
    low = min([int(filled[0]) if len(filled) else 0, *map(int, ends)])
    high = max([int(filled[-1]) + 1 if len(filled) else 1, *(int(end) + 2 for end in ends)])
    if counted.shape == SHARE:
        low = 0 if low < 50 else low
        high = max(high, 10)
    return max(0, low - 1), min(high + 1, len(counted.kept))


def _border(shape: str, bound: BoundLine) -> float:
    """Where what a bound drops begins: of whole numbers, the greatest that it keeps is before that."""
    after = shape == WHOLE and not bound.is_min
    return place_of(shape, math.floor(bound.value) + 1.0 if after else bound.value)


def _draw_bounds(axes: Axes, shape: str, bounds: Sequence[BoundLine], first: int, last: int) -> None:
    for bound in bounds:
        place = _border(shape, bound)
        side = (first, place) if bound.is_min else (place, last)
        axes.axvspan(*side, facecolor=(_MUTED, 0.15), linewidth=0)
        axes.axvline(place, color=_INK, linewidth=1.2, dashes=(3, 2))
        on_left = place > (first + last) / 2
        axes.text(
            place + (-0.01 if on_left else 0.01) * (last - first),
            1.02,
            bound.label,
            transform=axes.get_xaxis_transform(),
            ha="right" if on_left else "left",
            va="bottom",
            color=_INK,
        )


def _scale(axes: Axes, shape: str, first: int, last: int, most: int) -> None:
    axes.set_xlim(first, last)
    axes.set_ylim(0, np.log10(1.0 + max(most, 1)) * 1.06)
    powers = [10**power for power in range(len(str(max(most, 1))))]
    powers = powers if len(powers) < 6 else powers[:: len(powers) // 4]
    axes.set_yticks([float(np.log10(1.0 + power)) for power in powers], [compact(power) for power in powers])
    ticks = _ticks(shape, first, last)
    axes.set_xticks([place_of(shape, tick) for tick in ticks], [compact(tick) for tick in ticks])
    axes.tick_params(length=0, labelcolor=_MUTED, pad=3)
    axes.grid(axis="y", color=_LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_LINE)


def _ticks(shape: str, first: int, last: int) -> list[float]:
    edges = edges_of(shape)
    low, high = edges[first], edges[last]
    if shape == SHARE:
        step = next(step for step in (0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 6)
        return [round(number * step, 2) for number in range(50) if low <= number * step <= min(high, 1.0) + 1e-9]
    powers = [float(f"1e{power}") for power in range(-4 if shape == NUMBER else 0, 13)]
    inside = [power for power in powers if low <= power <= high]
    if len(inside) < 3:
        inside = [tick for power in powers for tick in (power, 2 * power, 5 * power) if low <= tick <= high]
    elif len(inside) > 6:
        inside = inside[:: len(inside) // 5]
    # a tick of 0 only where the next one leaves it room
    return [0.0, *inside] if low == 0 and inside and place_of(shape, inside[0]) > (last - first) / 12 else inside


def compact(number: float) -> str:
    """A number in few characters: 1.5k, 20M, 0.05."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"
