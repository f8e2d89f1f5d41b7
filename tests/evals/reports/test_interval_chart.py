"""Intervals drawn: as text, SVG, PNG and a page; names from strangers are escaped."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from evals.reports.interval_chart import Interval, Plot, axis_line, interval_line, plot_page, png, svg, write_plot
from models.errors import Invalid

PLOT = Plot(
    (Interval("<b>&", 50, 40, 60, second=(55, 45, 65)), Interval("n" * 99, 70, -500, 900, sure=False)), 0, 100, "wins",
    " %", (45, 55), ("raw", "other"),
)  # fmt: skip


def test_an_interval_as_text() -> None:
    assert interval_line((900, 1000, 1100), (800, 1200), width=9) == "  ├─●─┤  "
    assert interval_line((5, 5, 5), (5, 5), width=5).strip() == "●"
    assert axis_line(0, 100, " %", width=10) == "0 %  100 %"


def test_svg_is_well_formed_and_inside_its_frame() -> None:
    root = ElementTree.fromstring(svg(PLOT))
    width = float(root.attrib["width"])
    for element in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert 0 <= float(element.attrib.get(name, 0)) <= width
    assert "&lt;b&gt;&amp;" in svg(PLOT)


def test_png_and_page() -> None:
    assert png(PLOT, scale=1).startswith(b"\x89PNG")
    text = plot_page(PLOT, "<i>", [["a", "b"], ["<script>", "1"]], ["first & last", "note"])
    assert "<script>" not in text
    assert "first &amp; last" in text


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    for path in (tmp_path / "plot.pdf", tmp_path / "folder.svg", Path("/dev/null/plot.svg")):
        with pytest.raises(Invalid):
            write_plot(path, PLOT, "t", [["a"]], ["b"])
