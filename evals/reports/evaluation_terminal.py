"""Terminal output of `parley eval`: means, differences, failures, regressions."""

from typing import TYPE_CHECKING

from evals.reports.terminal import echo, folding_table, shorten
from models.errors import Invalid
from models.quantities import count_noun

if TYPE_CHECKING:
    from evals.tasks.contamination import Contamination
    from evals.tasks.evaluations import Evaluation
    from evals.tasks.summaries import Diff, Overview
    from evals.tasks.task import Task

_MAX_LINES = 20  # regressions or copied questions on the terminal; the rest are counted


def print_bad_rows(task: "Task", skip: bool, quiet: bool) -> None:
    """Prints a line for each row that is not a sample, on standard error.

    Raises:
        Invalid: there are some, and `skip` is False.
    """
    from models.terminal import console

    if not task.bad:
        return
    errors = console(stderr=True, quiet=quiet)
    for row in task.bad:
        errors.print(str(row), markup=False)
    if not skip:
        raise Invalid(
            f"{len(task.bad)} of {len(task.bad) + len(task.samples)} rows of {task.source} are not samples "
            f"({task.bad[0].place}: {task.bad[0].problem}). Fix them, or leave them out with --skip-bad.",
            param="task",
        )


def print_contamination(overlap: "Contamination") -> None:
    """Prints which of the task's questions are in the training data."""
    echo(overlap.summary)
    for match in overlap.found[:_MAX_LINES]:
        likeness = "copied" if match.exact else f"{match.overlap:.0%} alike"
        echo(f"  sample {match.sample.id}: {likeness}, {match.place}{', answer too' if match.answer_too else ''}")
    if len(overlap.found) > _MAX_LINES:
        echo(f"  and {len(overlap.found) - _MAX_LINES} more")


def print_overview(evaluation: "Evaluation", overview: "Overview") -> None:
    """Prints means with intervals, and what failed."""
    from evals.reports.evaluation_html import interval

    with_categories = bool(overview.categories)
    table = folding_table("mean (95 %)", *(["category"] * with_categories), *evaluation.models, "samples")
    for scorer in evaluation.scorers:
        for category in (None, *overview.categories):
            cells = [overview.of(model, scorer.name, category) for model in evaluation.models]
            if category is not None and all(cell.mean is None for cell in cells):
                continue
            table.add_row(
                "" if category else scorer.name, *([category or "all"] * with_categories),
                *(interval(cell, scorer) for cell in cells), _count_range([cell.n for cell in cells]),
            )  # fmt: skip
    echo(table)
    for counts in overview.facts:
        if counts.failed:
            error, count = counts.errors[0]
            total = counts.answered + counts.failed
            echo(f"{counts.model}: {counts.failed} of {total} failed. Most frequent error ({count}): {error}")
        if counts.cut:
            cut = count_noun(counts.cut, "answer was", "answers were")
            echo(f"{counts.model}: {cut} cut at max_tokens.")
    failing = {name for name, _, _ in overview.scorer_errors}
    for scorer in evaluation.scorers:
        if scorer.name not in failing and not any(overview.of(model, scorer.name).n for model in evaluation.models):
            echo(
                f"{scorer.name} has no reference in these samples: `parley eval scorers` lists what each scorer needs."
            )
    for name, error, count in overview.scorer_errors:
        echo(f"Scorer {name} failed on {count_noun(count, 'answer')}: {error}")


def print_diff(compared: "Diff") -> None:
    """Prints differences with intervals, and what got worse."""
    from evals.reports.evaluation_html import interval
    from evals.tasks.summaries import MIN_PROMPTS

    hidden = 0
    for pair in dict.fromkeys((row.model_a, row.model_b) for row in compared.differences):
        table = folding_table("difference (95 %)", "category", "", "samples", "finding")
        for row in compared.differences:
            if (row.model_a, row.model_b) != pair or row.summary.mean is None:
                continue
            if row.category and row.finding == "not enough evidence":
                hidden += 1
                continue
            table.add_row(
                row.scorer, row.category or "all", interval(row.summary, row.facts), str(row.summary.n), row.finding
            )
        echo(f"\n{pair[1]} compared with {pair[0]}:")
        echo(table)
    if hidden:
        echo(f"{hidden} more by category have under {MIN_PROMPTS} prompts each: --html and --json have them.")
    echo(compared.summary)
    if compared.regressions:
        echo(f"{count_noun(len(compared.regressions), 'score')} got worse, {compared.improvements} got better. Worse:")
    else:
        echo(f"No score got worse, {compared.improvements} got better.")
    for change in compared.regressions[:_MAX_LINES]:
        echo(
            f"  {change.scorer} {change.score_a:.2f} → {change.score_b:.2f}  {change.model_b}, "
            f"sample {change.sample.id}: {shorten(change.sample.question)}"
        )
    if len(compared.regressions) > _MAX_LINES:
        echo(f"  and {len(compared.regressions) - _MAX_LINES} more: --html and --json have them all, with the answers")


def print_timing(requested: int, cached: int, seconds: float) -> None:
    """Prints the number of requested answers and their rate."""
    if not requested:
        echo(f"No new answer was needed; {cached} came from the cache.")
        return
    rate = f", {requested / seconds:.1f} per second" if seconds else ""
    echo(f"{count_noun(requested, 'answer')} in {seconds:.1f} s{rate}; {cached} from the cache.")


def _count_range(numbers: list[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)}–{max(numbers)}"
