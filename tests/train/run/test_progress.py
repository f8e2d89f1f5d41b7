"""train/run/progress.py: events as a file, as lines, and on a wide or narrow terminal."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from train.run.progress import MetricsFile, PlainLines, Stage, Step, Terminal, Validation

STEP = Step(
    40, 120, 0.5, 1.234, 1e-3, 0.5, 50_000, 2_530.0, 61.0, 185.0,
    accuracy=0.52, margin=None, memory_bytes=1_400_000_000,
)  # fmt: skip


def test_steps_and_validations_are_lines_of_json(tmp_path: Path) -> None:
    metrics_file = MetricsFile(tmp_path / "metrics.jsonl")
    for event in (Stage("Loading"), Validation(0, 3.0, 0.1), STEP, Validation(40, 0.4, 0.9, 1.5)):
        metrics_file(event)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert rows[0] == {"step": 0, "validation_loss": 3.0, "validation_accuracy": 0.1}
    assert (rows[1]["step"], rows[1]["accuracy"], rows[1]["memory_bytes"]) == (40, 0.52, 1_400_000_000)
    assert rows[2] == {"step": 40, "validation_loss": 0.4, "validation_accuracy": 0.9, "validation_margin": 1.5}


def test_plain_lines_have_loss_speed_time_and_memory() -> None:
    lines: list[str] = []
    printer = PlainLines(lines.append)
    printer(STEP)  # about twenty steps of a run are printed; this is not one of them
    printer(Step(**vars(STEP) | {"step": 42}))
    printer(Step(**vars(STEP) | {"step": 120, "margin": 0.75}))
    assert lines == [
        "step 42/120  loss 1.234 · 2,530 tokens/s · 3 min 05 s left · 1.3 GiB",
        "step 120/120  loss 1.234 · margin 0.75 · 2,530 tokens/s · 3 min 05 s left · 1.3 GiB",
    ]


@pytest.mark.parametrize("width", [60, 100])
def test_no_figure_is_cut_off_on_a_terminal(width: int) -> None:
    screen = io.StringIO()
    console: Any = Console(file=screen, width=width, force_terminal=True, color_system=None, highlight=False)
    with Terminal(console) as terminal:
        terminal(Stage("Loading [demo-base]"))
        terminal(STEP)
    shown = screen.getvalue()
    assert "Loading [demo-base]" in shown
    assert all(figure in shown for figure in ("40/120", "loss 1.234", "2,530 tokens/s", "3 min 05 s left", "1.3 GiB"))
    assert "…" not in shown
