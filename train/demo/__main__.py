"""`python -m train.demo`: builds the demo's models and prints their metrics."""

import argparse
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from train.demo.build import ADAPTERS, BuildProgress, Plan, build
from train.demo.pretraining import Recipe

_OUT = Path(__file__).parents[2] / "models" / "demo"


def main() -> None:
    """Reads the options, builds with a progress bar for each stage, and prints the metrics."""
    options = _options()
    warnings.filterwarnings("ignore", category=UserWarning)
    console = Console()
    console.print(f"Building the demo model in {options.out} (seed {options.seed}, {options.steps} steps)")
    columns = (
        TextColumn("{task.description:>18}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[loss]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {}

        def report(news: BuildProgress) -> None:
            if news.stage not in bars:
                bars[news.stage] = progress.add_task(news.stage, total=news.total, loss="")
            shown = f"loss {news.loss:.3f}" if news.loss is not None else ""
            progress.update(bars[news.stage], completed=news.done, loss=shown)
            if not console.is_terminal and news.done % max(1, news.total // 20) == 0:  # a log has no progress bar
                print(f"{news.stage} {news.done}/{news.total} {shown}", flush=True)

        names = tuple(options.only or ADAPTERS)
        keep_base = options.keep_base or bool(options.only)
        plan = Plan(options.out, options.seed, options.steps, keep_base, options.threads, names)
        metrics = build(plan, report)
    console.print(_table(metrics))
    judge = metrics["judge"]
    console.print(
        f"judge: {judge['right']:.1%} of {2 * judge['pairs']} held-out verdicts right, both orders "
        f"(a constant judge: {judge['chance']:.1%}); {judge['flipped']:.1%} of pairs flipped"
    )
    console.print(_tool_table(metrics["tools"]))
    console.print(f"{metrics['bytes'] / 1e6:.1f} MB in {options.out}")


def _table(metrics: dict[str, Any]) -> Table:
    table = Table(title="held-out questions, greedy")
    for title in ("model", "questions", "number copied", "topics", "style kept", "words"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in metrics["models"].items():
        shares = (f"{row[key]:.1%}" for key in ("copied", "topics", "style"))
        table.add_row(name, str(row["questions"]), *shares, f"{row['words']:.0f}")
    return table


def _tool_table(kinds: dict[str, dict[str, float]]) -> Table:
    table = Table(title="support-tools, held-out requests, greedy")
    for title in ("kind", "requests", "form", "function", "right"):
        table.add_column(title, justify="left" if title == "kind" else "right")
    for kind, row in kinds.items():
        table.add_row(kind, f"{row['requests']:.0f}", *(f"{row[key]:.1%}" for key in ("form", "name", "right")))
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train.demo", description="Build the demo model from nothing.")
    parser.add_argument("--out", type=Path, default=_OUT, help="the folder to fill (default: models/demo)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed gives the same text and, on one machine, the same model"
    )
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="steps of the first pass of the pretraining")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--keep-base", action="store_true", help="make only the adapters and their metrics again")
    parser.add_argument("--only", action="append", choices=ADAPTERS, help="make one adapter, on the existing base")
    return parser.parse_args()


if __name__ == "__main__":
    main()
