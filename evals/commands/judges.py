"""`parley judge JUDGE --models a,b`, `judge calibrate JUDGE`, `rubrics list` and `rubrics show`."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from evals.commands.flags import CampaignName, HtmlFile, JsonFlag, split_commas
from evals.reports.judge_terminal import print_calibration, print_grades, print_report
from evals.reports.terminal import ProgressBar, echo, folding_table
from models.errors import Invalid
from models.terminal import open_home, print_json

if TYPE_CHECKING:
    from evals.judges.report import JudgeReport
    from evals.tasks.evaluations import Evaluation

_RUN = "run"
IMPORTED = "imported"  # the rubric of imported verdicts, repeated here so that --help loads no database

JudgeName = Annotated[str, typer.Argument(help="The judge: any served model that can answer in JSON.")]
RubricName = Annotated[
    str,
    typer.Option(
        help="A Markdown file, a shipped rubric's name, or a hash: see `parley rubrics list`. With `likelihood` the "
        "judge writes no verdict: the answer that it finds more likely wins."
    ),
]


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
        help="Let a model judge two others, and compare the judge with people's votes.\n\n"
        "`parley judge JUDGE --models before,after` is short for `parley judge run JUDGE …`.",
        no_args_is_help=True,
    )
    group.command(_RUN)(run)
    group.command("calibrate")(calibrate)
    group.command("import")(import_file)
    return group


def rubrics_group() -> typer.Typer:
    """The commands under `parley rubrics`."""
    group = typer.Typer(help="The criteria that judges apply: Markdown files.", no_args_is_help=True)
    group.command("list")(list_rubrics)
    group.command("show")(show_rubric)
    return group


def run(
    judge: JudgeName,
    models: Annotated[
        str | None,
        typer.Option(help="The two models to compare, `--models before,after`; by default an evaluation's first two."),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(help="Judge the answers of an evaluation instead: its id, the end of its id, or `last`."),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(help="How many stored prompts to use, held-out ones first; by default all.")
    ] = None,
    rubric: RubricName = "support",
    pointwise: Annotated[
        bool, typer.Option("--pointwise", help="Grade each answer alone from 1 to 5 instead of comparing the two.")
    ] = False,
    samples: Annotated[
        int, typer.Option(help="Judgments per question; more than one are drawn at temperature 0.7 and averaged.")
    ] = 1,
    references: Annotated[
        Path | None, typer.Option(help="JSONL of reference answers: `prompt` or `messages`, and `reference`.")
    ] = None,
    campaign: CampaignName = "open",
    html: HtmlFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a model judge two others in both orders, on the stored prompts or on the answers of an evaluation.

    Needs a running Parley and, if keys are required, a key in PARLEY_PAGE_KEY. Stored answers and judgments are
    reused, so an interrupted run resumes. If the server returns log-probabilities, verdicts are weighted by them.

    Examples:

      parley judge support-judge --models demo-base,support-friendly --prompts 20

      parley judge gpt-4.1 --evaluation last --models before,after --html judged.html

    With --evaluation, the judge sees the expected answers and each model's own earlier turns. To grade answers one by
    one, use the judge as a scorer: `parley eval run … --scorers judge:JUDGE@RUBRIC`.
    """
    from evals.campaigns.lifecycle import load_campaign
    from evals.judges.pairwise import judge_models
    from evals.judges.pairwise_evaluation import judge_evaluation
    from evals.judges.pointwise import grade_models
    from evals.judges.request import JudgeRequest
    from evals.judges.rubric import find_rubric, read_references
    from evals.served_runs import judge_served
    from evals.tasks.evaluations import load_evaluation

    with open_home() as home:
        judge_rubric = find_rubric(rubric, home.database)
        load_campaign(home.database, campaign)
        _check_flags(evaluation, pointwise, html, prompts=prompts, references=references)
        stored = load_evaluation(home.database, evaluation) if evaluation else None
        request = JudgeRequest(
            judge=judge,
            models=_two_models(models, stored),
            prompts=prompts,
            rubric=judge_rubric,
            samples=samples,
            references=read_references(home.database, references) if references else {},
            campaign=campaign,
        )
        if pointwise:
            with ProgressBar(not as_json) as bar:
                grades = judge_served(home.settings, home.database, grade_models, request, bar.show_share)
            print_grades(grades, as_json)
            return
        method = partial(judge_evaluation, evaluation=stored) if stored else judge_models
        with ProgressBar(not as_json) as bar:
            report = judge_served(home.settings, home.database, method, request, bar.show_share)
    _show_report(report, html, as_json)


def _show_report(report: "JudgeReport", html: Path | None, as_json: bool) -> None:
    """Writes the report's file, and prints it."""
    from evals.judges.report_groups import report_json
    from evals.reports.judge_html import write_judge_report

    if html:
        write_judge_report(html, report)
    if as_json:
        print_json(report_json(report))
        return
    print_report(report)
    if html:
        echo(f"Report: {html}")


def _two_models(models: str | None, stored: "Evaluation | None") -> tuple[str, str]:
    """The models of --models, else the first two of the evaluation."""
    if stored and models is None:
        if len(stored.models) < 2:
            raise Invalid(f"The evaluation {stored.id} has one model: a judge compares two.", param="models")
        return stored.models[0], stored.models[1]
    names = split_commas(models)
    if len(names) != 2:
        raise Invalid("Name two models, separated by a comma: --models before,after.", param="models")
    return names[0], names[1]


def _check_flags(evaluation: str | None, pointwise: bool, html: Path | None, **prompted: Any) -> None:
    """Refuses flags that exclude one another."""
    if evaluation and pointwise:
        raise Invalid(
            "To grade an evaluation's answers one by one, use the judge as a scorer: `parley eval run … --scorers "
            "judge:JUDGE@RUBRIC`.",
            param="pointwise",
        )
    if evaluation and (flag := next((name for name, value in prompted.items() if value is not None), None)):
        raise Invalid(f"--{flag} is for stored prompts and cannot be used with --evaluation.", param=flag)
    if pointwise and html:
        raise Invalid("--html writes the report of a comparison: leave out --pointwise.", param="html")


def calibrate(
    judge: JudgeName,
    rubric: RubricName = "support",
    stored: Annotated[
        bool, typer.Option("--stored", help="Use stored judgments only. Needs no running Parley.")
    ] = False,
    campaign: CampaignName = "open",
    plot: Annotated[bool, typer.Option("--plot", help="Draw the agreements as intervals.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare a judge with your team's votes in one campaign, and show what it can be trusted for.

    The judge compares every pair that people voted on, in both orders. The table shows how often it agrees with people
    (with ties, without ties, and as Cohen's kappa), overall and by category, next to how often people agree with each
    other. A judge is trusted if its agreement with people is above chance and at most 10 points below people's
    agreement with each other. This needs at least 30 votes on 20 prompts.

    Example:

      parley judge calibrate support-judge --plot
    """
    from evals.judges.calibration import CalibrationRequest
    from evals.judges.rubric import find_rubric
    from evals.served_runs import calibrate_served, calibrate_stored

    with open_home() as home, ProgressBar(not as_json and not stored) as bar:
        request = CalibrationRequest(judge, find_rubric(rubric, home.database), campaign)
        calibration = (
            calibrate_stored(home.database, request)
            if stored
            else calibrate_served(home.settings, home.database, request, bar.show_share)
        )
    if as_json:
        print_json(calibration.to_json())
        return
    print_calibration(calibration, plot)


def import_file(
    file: Annotated[Path, typer.Argument(help="A CSV or JSONL file with the columns of a votes file: see below.")],
    judge: Annotated[str, typer.Option(help="The name to store the verdicts under, such as the judge's model.")],
    as_json: JsonFlag = False,
) -> None:
    """Import an outside judge's verdicts, to compare it with this team's votes.

    Columns as in `parley votes import`: prompt (or messages), model_a, model_b, winner, answer_a and answer_b. model_a
    is the answer that was shown first. Each pair needs two rows, one for each order: a verdict that changes with the
    order counts as a tie.

    Example:

      parley judge import verdicts.jsonl --judge gpt-4.1

      parley judge calibrate gpt-4.1 --stored --rubric imported
    """
    from evals.judges.judgment_import import import_judgments

    with open_home() as home:
        imported = import_judgments(home.database, file, judge)
    if as_json:
        print_json(asdict(imported) | {"flip_rate": imported.flip_rate})
        return
    echo(f"{imported.new} new verdicts of {judge}, {imported.known} already stored.")
    if imported.pairs:
        flips = f"{imported.flips} ({imported.flip_rate:.0%}) changed with the order"
        echo(f"{imported.pairs} pairs in both orders; {flips}.")
    if imported.one_order:
        echo(f"{imported.one_order} pairs were judged in one order only and cannot be compared with people.")
    if imported.unknown:
        echo(f"{imported.unknown} rows are about pairs of answers that are not stored here.")
    for row in imported.bad:
        echo(f"line {row.line}: {row.reason}")
    if imported.pairs:
        echo(f"Compare with people: parley judge calibrate {judge} --stored --rubric {IMPORTED}")


def list_rubrics(as_json: JsonFlag = False) -> None:
    """List the shipped rubrics and those that judges have used."""
    from evals.judges.rubric import LIKELIHOOD_RUBRIC, shipped_rubrics, used_rubrics

    shipped = [*shipped_rubrics(), LIKELIHOOD_RUBRIC]
    with open_home() as home:
        stored = used_rubrics(home.database)
    used = {rubric.hash for rubric in stored}
    shipped_hashes = {rubric.hash for rubric in shipped}
    rubrics = [*shipped, *(rubric for rubric in stored if rubric.hash not in shipped_hashes)]
    if as_json:
        rows = [
            {
                "name": rubric.name,
                "version": rubric.version,
                "hash": rubric.hash,
                "criteria": rubric.criteria,
                "shipped": rubric in shipped,
                "used": rubric.hash in used,
            }
            for rubric in rubrics
        ]
        print_json(rows)
        return
    table = folding_table("rubric", "version", "hash", "criteria", "")
    for rubric in rubrics:
        marks = [mark for mark, true in (("shipped", rubric in shipped), ("used", rubric.hash in used)) if true]
        table.add_row(rubric.name, rubric.version, rubric.hash, ", ".join(rubric.criteria), ", ".join(marks))
    echo(table)


def show_rubric(
    rubric: Annotated[str, typer.Argument(help="A shipped rubric's name, a file, or the hash from a result.")],
) -> None:
    """Print a rubric as Markdown, which you can edit and pass to `--rubric`. Raise its version when you change it."""
    from evals.judges.rubric import find_rubric, write_rubric

    with open_home() as home:
        typer.echo(write_rubric(find_rubric(rubric, home.database)), nl=False)
