"""`parley judge JUDGE --models a,b`, `judge calibrate JUDGE` and `parley rubrics list`, `show`. Printing only.

What they print comes from `evals.jobs` and `evals.judges.rubric`; nothing heavy is loaded before one runs.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from evals.reports.evaluation_terminal import say
from evals.reports.judge_terminal import ShareBar, tell_calibration, tell_grades, tell_report
from models.errors import Invalid

_RUN = "run"

Judge = Annotated[str, typer.Argument(help="The judge: any served model that can answer in JSON.")]
RubricName = Annotated[
    str, typer.Option(help="A Markdown file, a shipped rubric's name, or a hash: see `parley rubrics list`.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


class _JudgeGroup(TyperGroup):
    """`parley judge NAME …` is `parley judge run NAME …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = [_RUN, *args]
        return super().parse_args(ctx, args)


def judge_group() -> typer.Typer:
    """The commands under `parley judge`."""
    group = typer.Typer(
        cls=_JudgeGroup,
        help="A model judges two others, and is itself held against people's votes.\n\n"
        "`parley judge JUDGE --models before,after` is short for `parley judge run JUDGE …`.",
        no_args_is_help=True,
    )
    group.command(_RUN)(run)
    group.command("calibrate")(calibrate)
    return group


def rubrics_group() -> typer.Typer:
    """The commands under `parley rubrics`."""
    group = typer.Typer(help="What judges are asked to look at: Markdown files.", no_args_is_help=True)
    group.command("list")(list_rubrics)
    group.command("show")(show_rubric)
    return group


def run(
    judge: Judge,
    models: Annotated[
        str | None,
        typer.Option(help="The two models to compare: `--models before,after`; else an evaluation's first two."),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(help="Judge the answers of an evaluation instead: its id, the end of it, or `last`."),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(help="How many stored prompts, held-out ones first; all of them without it.")
    ] = None,
    rubric: RubricName = "support",
    pointwise: Annotated[
        bool, typer.Option("--pointwise", help="Grade each answer alone from 1 to 5, instead of comparing the two.")
    ] = False,
    samples: Annotated[
        int, typer.Option(help="Ask so often about each question, at temperature 0.7, and take the mean.")
    ] = 1,
    references: Annotated[
        Path | None, typer.Option(help="JSONL of right answers: `prompt` or `messages`, and `reference`.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report into this file: one file, no network.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Have a model judge two others on the stored prompts, or on an evaluation's answers, in both orders.

    Needs a running Parley, and where keys are on, one in PARLEY_PAGE_KEY. What was answered and judged before is
    not asked again, so a run that was stopped goes on. Where the server sends log-probabilities, verdicts are weighted
    by them.

    Examples:

      parley judge support-judge --models demo-base,support-friendly --prompts 20

      parley judge gpt-4.1 --models before,after --rubric our-rubric.md --references answers.jsonl

      parley judge gpt-4.1 --evaluation last --models before,after --html judged.html

    An evaluation's judge sees what the task expects, and each side's own earlier turns; what has no answer, or is too
    long for the judge, is a null and is counted. To grade an evaluation's answers one by one, name the judge as a
    scorer: `parley eval run … --scorers judge:JUDGE@RUBRIC`.
    """
    from functools import partial

    from evals.jobs import judge_served
    from evals.judges.pairwise import judge_models
    from evals.judges.pointwise import grade_models
    from evals.judges.rubric import find_rubric, read_references
    from models.cli import opened

    settings, database = opened()
    found = find_rubric(rubric, database)
    _refuse_together(evaluation, pointwise, html, prompts=prompts, references=references)
    pair, asking = _from_evaluation(database, evaluation, models) if evaluation else (_two(models), None)
    asked: dict[str, Any] = {
        "prompts": prompts,
        "references": read_references(database, references) if references else None,
    }
    how: dict[str, Any] = {"rubric": found, "samples": samples}
    if pointwise:
        with ShareBar(not as_json) as bar:
            grading = partial(grade_models, database, **asked)
            tell_grades(judge_served(settings, database, grading, judge, pair, bar.tell, **how), as_json)
        return
    with ShareBar(not as_json) as bar:
        asking = asking or partial(judge_models, database, **asked)
        report = judge_served(settings, database, asking, judge, pair, bar.tell, **how)
    if html:
        from evals.reports.judge_html import write_judge_report

        write_judge_report(html, report)
    if as_json:
        from evals.judges.report_groups import report_json

        typer.echo(json.dumps(report_json(report), ensure_ascii=False))
        return
    tell_report(report)
    if html:
        say(f"Report: {html}")


def _two(models: str | None) -> tuple[str, str]:
    names = [name.strip() for name in (models or "").split(",") if name.strip()]
    if len(names) != 2:
        raise Invalid("Name two models, with a comma between them: --models before,after.", param="models")
    return names[0], names[1]


def _from_evaluation(database: Any, wanted: str, models: str | None) -> tuple[tuple[str, str], Any]:
    """The two models, and what asks about their answers."""
    from functools import partial

    from evals.judges.pairwise_evaluation import judge_evaluation
    from evals.tasks.evaluations import load_evaluation

    evaluation = load_evaluation(database, wanted)
    if models is None and len(evaluation.models) < 2:
        raise Invalid(f"The evaluation {wanted} has one model: a judge compares two.", param="models")
    pair = _two(models) if models else (evaluation.models[0], evaluation.models[1])
    return pair, partial(judge_evaluation, database, evaluation)


def _refuse_together(evaluation: str | None, pointwise: bool, html: Path | None, **prompted: Any) -> None:
    """What does not go together is said, and never left out in silence."""
    if evaluation and pointwise:
        raise Invalid(
            "To grade an evaluation's answers one by one, name the judge as a scorer: `parley eval run … --scorers "
            "judge:JUDGE@RUBRIC`.",
            param="pointwise",
        )
    if evaluation and (given := next((name for name, value in prompted.items() if value is not None), None)):
        raise Invalid(f"--{given} is for stored prompts; an evaluation has its own: leave it out.", param=given)
    if pointwise and html:
        raise Invalid("--html writes the report of a comparison: leave out --pointwise.", param="html")


def calibrate(
    judge: Judge,
    rubric: RubricName = "support",
    stored: Annotated[
        bool, typer.Option("--stored", help="Ask nothing: use the verdicts that are there. Needs no running Parley.")
    ] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw each agreement beside people's own.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Hold a judge against this team's votes, and say for what it can be trusted.

    The judge is asked about every pair that people voted on, in both orders. Agreement is shown with and without ties,
    corrected for chance (Cohen's kappa), by category, with 95 % intervals clustered by prompt, beside the agreement of
    people with each other. It is trusted where it agrees with people at most 10 points less than they do with each
    other, and by more than chance; 30 votes on 20 prompts are the least.

    Example:

      parley judge calibrate support-judge --plot
    """
    from evals.jobs import calibrate_served
    from evals.judges.rubric import find_rubric
    from models.cli import opened

    settings, database = opened()
    with ShareBar(not as_json and not stored) as bar:
        found = calibrate_served(
            settings, database, judge, bar.tell, rubric=find_rubric(rubric, database), ask=not stored
        )
    if as_json:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False))
        return
    tell_calibration(found, plot)


def list_rubrics(as_json: JsonFlag = False) -> None:
    """List the rubrics that come with Parley, and those that judges were asked by."""
    from rich.table import Table

    from evals.judges.rubric import kept_rubrics, shipped_rubrics
    from models.cli import opened

    shipped = shipped_rubrics()
    kept = kept_rubrics(opened()[1])
    used = {rubric.hash for rubric in kept}
    every = [*shipped, *(rubric for rubric in kept if rubric.hash not in {one.hash for one in shipped})]
    if as_json:
        rows = [
            {
                "name": one.name,
                "version": one.version,
                "hash": one.hash,
                "criteria": one.criteria,
                "shipped": one in shipped,
            }
            | {"used": one.hash in used}
            for one in every
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("rubric", "version", "hash", "criteria", "", box=None, header_style="bold")
    for one in every:
        marks = [word for word, true in (("shipped", one in shipped), ("used", one.hash in used)) if true]
        table.add_row(one.name, one.version, one.hash, ", ".join(one.criteria), ", ".join(marks))
    say(table)


def show_rubric(
    rubric: Annotated[str, typer.Argument(help="A shipped rubric's name, a file, or the hash in a result.")],
) -> None:
    """Print a rubric as the Markdown that `--rubric` reads: save it, change it, raise its version."""
    from evals.judges.rubric import find_rubric, write_rubric
    from models.cli import opened

    typer.echo(write_rubric(find_rubric(rubric, opened()[1])), nl=False)
