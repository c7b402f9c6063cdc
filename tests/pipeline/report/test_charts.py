"""Charts: the page's colours, no style, no id, text as text, and bars and bounds where their numbers are."""

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from tokenmill.pipeline.report.charts import Bar, BoundLine, bar_chart, compact, histogram_chart, shortened
from tokenmill.pipeline.report.histograms import NUMBER, SHARE, WHOLE, Histogram
from tokenmill.pipeline.report.inline_svg import inline_svg


def counted(shape: str, values: list[float]) -> Histogram:
    found = Histogram.empty(shape)
    found.count(np.array(values), np.arange(len(values)) % 2 == 0)
    return found


def elements(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter())


CHARTS = {
    "bars": lambda: bar_chart([Bar("a $x_1$ <b>", 5, "5 & more", 3), Bar("漢字 \U0001f600", 3, "3", target=4)], "bars"),
    "share": lambda: histogram_chart(counted(SHARE, [0.1, 0.2, 0.2, 1.0]), [BoundLine(False, 0.3, "max 0.3")], "share"),
    "whole": lambda: histogram_chart(
        counted(WHOLE, [0, 3, 70, 1e5]), [BoundLine(True, 50, "min 50"), BoundLine(False, 1e5, "max 100000")], "whole"
    ),
    "number": lambda: histogram_chart(counted(NUMBER, [4.5, 5.1, 5.2]), [], "number"),
    "nothing": lambda: histogram_chart(counted(NUMBER, []), [BoundLine(True, 0.0, "min 0")], "nothing"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_small_the_same_each_time_and_leaves_colours_to_the_page(name: str):
    svg = CHARTS[name]()
    assert CHARTS[name]() == svg
    assert len(svg) < 12_000
    found = elements(svg)
    assert {element.tag for element in found} <= {"svg", "g", "path", "text"}
    allowed = {
        *("aria-label", "class", "d", "fill", "fill-opacity", "font-size", "opacity", "role"),
        *("stroke", "stroke-dasharray", "stroke-width", "text-anchor", "transform", "viewBox", "x", "y"),
    }
    assert {key for element in found for key in element.attrib} <= allowed
    assert {element.get("fill", "none") for element in found} == {"none"}
    assert {element.get("stroke", "none") for element in found} == {"none"}


def test_text_is_text():
    texts = [element.text for element in elements(CHARTS["bars"]()) if element.tag == "text"]
    assert texts == ["a $x_1$ <b>", "5 & more", "漢字 \U0001f600", "3"]


def places(svg: str, kind: str) -> list[list[float]]:
    """Left and right end of every path of a class."""
    of_kind = [element for element in elements(svg) if kind in element.get("class", "").split()]
    paths = [element.attrib["d"] for element in of_kind if element.tag == "path"]
    ends = []
    for path in paths:
        numbers = [float(word) for word in path.split() if word[-1].isdigit()]
        ends.append([min(numbers[::2]), max(numbers[::2])])
    return ends


def test_bars_are_as_long_as_their_numbers():
    svg = bar_chart([Bar("a", 60, "60", lost=40), Bar("b", 30, "30", target=50)], "bars")
    whole = places(svg, "f-line")[0][1]
    assert places(svg, "f-kept") == [[0, pytest.approx(0.6 * whole, abs=0.2)], [0, pytest.approx(0.3 * whole, abs=0.2)]]
    assert places(svg, "f-drop") == [[pytest.approx(0.6 * whole, abs=0.2), pytest.approx(whole, abs=0.2)]]
    assert places(svg, "s-ink") == [[pytest.approx(0.5 * whole, abs=0.2)] * 2]


def test_bounds_are_drawn_with_the_side_that_they_drop():
    values = [number / 100 for number in range(100)]
    svg = histogram_chart(
        counted(SHARE, values), [BoundLine(True, 0.2, "min 0.2"), BoundLine(False, 0.6, "max 0.6")], "x"
    )
    (low, _), (high, _) = places(svg, "s-ink")
    (left, middle), (other, right) = places(svg, "f-muted")[:2]
    assert (middle, other) == (low, high)
    width = right - left
    assert (low - left) / width == pytest.approx(0.2, abs=0.02)
    assert (high - left) / width == pytest.approx(0.6, abs=0.02)
    assert [e.text for e in elements(svg) if e.tag == "text" and (e.text or "").startswith("m")] == [
        "min 0.2",
        "max 0.6",
    ]


def test_the_greatest_whole_number_that_a_bound_keeps_is_on_the_kept_side():
    svg = histogram_chart(counted(WHOLE, [0, 0, 3, 9]), [BoundLine(False, 3, "max 3")], "x")
    ((line, _),) = places(svg, "s-ink")
    first, last = places(svg, "f-muted")[0]
    left, right = places(svg, "s-line")[0]
    assert (first, last) == (line, right)
    # bins of 0 … 10 are drawn, and those dropped begin with 4
    assert (line - left) / (right - left) == pytest.approx(4 / 11, abs=0.01)


def test_only_kept_documents_draw_no_dropped_ones():
    found = Histogram.empty(WHOLE)
    found.count(np.array([1.0, 2.0]), np.array([True, True]))
    svg = histogram_chart(found, [], "x")
    assert (len(places(svg, "f-kept")), len(places(svg, "f-drop"))) == (1, 0)


def test_what_needs_an_id_is_refused():
    figure = Figure()
    figure.add_subplot().plot([1, 2], [1, 2], marker="o")
    with pytest.raises(ValueError, match="draw it as a path"):
        inline_svg(figure, "marker")


def test_labels_and_numbers_are_short():
    assert shortened("web/train/en", 30) == "web/train/en"
    assert shortened("a" * 20 + "b" * 20, 11) == "aaaaa…bbbbb"
    assert [compact(number) for number in (0, 0.05, 12, 1500, 2e6, 3e9, 1e13)] == [
        *("0", "0.05", "12", "1.5k", "2M", "3G", "10T")
    ]
