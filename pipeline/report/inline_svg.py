"""Matplotlib's SVG made part of a page: small, without ids, coloured by the page.

A strict content policy refuses style attributes, so what they say becomes attributes of their own, and colours become
classes, which the page's style sheet gives their value, one for light and one for dark.

Figures are drawn in the stand-in colours of `COLOURS`; each becomes a class "f-NAME" where it fills, "s-NAME" where it
strokes. Text stays text, in the page's font. Nothing is clipped: what is drawn must lie within the figure.
"""

import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

#: Stand-in colours, by what the page's style sheet calls them.
COLOURS = {"ink": "#010101", "muted": "#020202", "line": "#030303", "kept": "#040404", "drop": "#050505"}
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tokenmill",  # the same each time
    "text.parse_math": False,  # a "$" in a name is a "$"
    "font.family": ["DejaVu Sans"],  # comes with Matplotlib, so widths are the same on every machine
    "font.size": 9.5,
}
_NAMES = {colour: name for name, colour in COLOURS.items()}
_SVG = "{http://www.w3.org/2000/svg}"
_KEPT = {"d", "x", "y", "transform", "viewBox"}
_KEPT_STYLES = {
    "fill",
    "fill-opacity",
    "font-size",
    "opacity",
    "stroke",
    "stroke-dasharray",
    "stroke-width",
    "text-anchor",
}
_NUMBER = re.compile(r"-?\d+\.\d+")
_NO_DATES = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def inline_svg(figure: Figure, label: str) -> str:
    """A figure as an `svg` element.

    Args:
        figure: drawn in COLOURS; its patches, and those of its axes, are not drawn.
        label: what it shows, for who does not see it.

    Raises:
        ValueError: it has something that refers to something else by its id, such as a marker.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    sink = io.BytesIO()
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # the widths of signs that DejaVu lacks are guessed; the browser has the fonts
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(sink, format="svg", metadata=_NO_DATES)
    root = ElementTree.fromstring(sink.getvalue())
    for element in root.iter():
        _tidy(element)
    _prune(root)
    root.attrib |= {"role": "img", "aria-label": label, "class": "chart"}
    return ElementTree.tostring(root, encoding="unicode")


def _tidy(element: ElementTree.Element) -> None:
    """Leave of an element what is drawn: short numbers, colours as classes."""
    style = element.attrib.get("style", "")
    if element.tag == f"{_SVG}use":
        raise ValueError("a chart has a marker or a glyph, which refers to its shape by an id: draw it as a path")
    attributes = {key: value for key, value in element.attrib.items() if key in _KEPT}
    classes = []
    for pair in filter(None, (part.strip() for part in style.split(";"))):
        key, value = (part.strip() for part in pair.split(":", 1))
        if key in ("fill", "stroke") and value in _NAMES:
            classes.append(f"{key[0]}-{_NAMES[value]}")
        elif key in _KEPT_STYLES:
            attributes[key] = value.removesuffix("px") if key == "font-size" else value
    for key in ("d", "x", "y"):
        if key in attributes:
            short = _NUMBER.sub(lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), attributes[key])
            attributes[key] = " ".join(short.split())
    if classes:
        attributes["class"] = " ".join(classes)
    if "rotate(-0 " in attributes.get("transform", ""):
        del attributes["transform"]
    element.tag = element.tag.removeprefix(_SVG)
    element.text = element.text if element.tag == "text" else None
    element.tail = None
    element.attrib.clear()
    element.attrib.update(attributes)


def _prune(element: ElementTree.Element) -> None:
    """Take out what draws nothing."""
    for child in list(element):
        _prune(child)
        if child.tag in ("defs", "metadata") or (child.tag == "g" and not len(child)):
            element.remove(child)
