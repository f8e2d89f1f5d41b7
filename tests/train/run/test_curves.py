"""train/run/curves.py: a growing metrics file is read up to its last whole line and drawn as valid SVG."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from train.run.curves import Curves, draw_svg, read_curves, smoothed


def test_a_growing_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    rows = [
        {"step": 0, "validation_loss": 3.0},
        {"step": 1, "steps": 4, "loss": 2.5},
        {"step": 2, "steps": 4, "loss": 2.0},
        {"step": 2, "epoch": 1.0, "checkpoint": "step-2"},
        {"step": 2, "steps": 4, "loss": 2.1},  # the same step again, after a resume
        {"step": 3, "steps": 4, "loss": math.nan},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    curves = read_curves(path)
    assert curves.train == ((1, 2.5), (2, 2.1))
    assert curves.validation == ((0, 3.0),)
    assert (curves.step, curves.steps) == (2, 4)
    assert read_curves(tmp_path / "none.jsonl") == Curves()


@pytest.mark.parametrize(
    "curves",
    [
        Curves(),
        Curves(train=((1, 2.0),)),
        Curves(validation=((0, 0.0),)),
        Curves(train=tuple((step, 1e6 / step) for step in range(1, 5000)), validation=((0, 1e6), (4999, 200.0))),
        Curves(train=((1, -3.0), (2, -3.0))),
    ],
)
def test_any_curves_make_a_picture(curves: Curves) -> None:
    drawn = draw_svg(curves, "Loss of <b>&")
    picture = ElementTree.fromstring(drawn)
    assert picture.attrib["viewBox"] == "0 0 720 300"
    assert len(drawn) < 400_000
    for line in picture.iter("{http://www.w3.org/2000/svg}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 56 <= x <= 704
            assert 34 <= y <= 260


def test_the_mean_keeps_the_length_and_smooths() -> None:
    points = tuple((step, float(step % 2)) for step in range(300))
    mean = smoothed(points)
    assert [step for step, _ in mean] == [step for step, _ in points]
    assert all(abs(loss - 0.5) < 0.06 for _, loss in mean)
