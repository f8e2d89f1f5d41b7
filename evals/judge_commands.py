"""`parley judge JUDGE --models a,b`, `judge calibrate JUDGE` and `parley rubrics list`, `show`. Printing only.

What they print comes from `evals.jobs` and `evals.rubric`; nothing heavy is loaded before one runs.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from evals.eval_showing import say
from models.errors import Invalid

if TYPE_CHECKING:
    from evals.calibrating import Calibration
    from evals.calibration import Rate
    from evals.grading import Grades
    from evals.report import JudgeReport

_QUESTION = 48
_LABELS, _NARROWEST = 40, 12  # characters beside a drawn interval, and of the shortest that says anything
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
    models: Annotated[str, typer.Option(help="The two models to compare: `--models before,after`.")],
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
    as_json: JsonFlag = False,
) -> None:
    """Have a model judge two others on the stored prompts, in both orders.

    Needs a running Parley, and where keys are on, one in PARLEY_PAGE_KEY. What was answered and judged before is
    not asked again, so a run that was stopped goes on. Where the server sends log-probabilities, verdicts are weighted
    by them.

    Examples:

      parley judge support-judge --models demo-base,support-friendly --prompts 20

      parley judge gpt-4.1 --models before,after --rubric our-rubric.md --references answers.jsonl
    """
    from evals.jobs import grade_served, judge_served
    from evals.rubric import find_rubric, read_references
    from models.cli import opened

    names = [name.strip() for name in models.split(",") if name.strip()]
    if len(names) != 2:
        raise Invalid("Name two models, with a comma between them: --models before,after.", param="models")
    settings, database = opened()
    found = find_rubric(rubric, database)
    given: dict[str, Any] = {
        "rubric": found,
        "samples": samples,
        "references": read_references(database, references) if references else None,
    }
    with _Bar(not as_json) as bar:
        asked = (settings, database, judge, (names[0], names[1]), prompts, bar.tell)
        made = grade_served(*asked, **given) if pointwise else judge_served(*asked, **given)
    if isinstance(made, tuple):
        _tell_grades(made, as_json)
    elif as_json:
        said = made.to_json() | {"summary": made.summary, "trust": made.trust}
        typer.echo(json.dumps(said, ensure_ascii=False))
    else:
        _tell_report(made)


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
    from evals.rubric import find_rubric
    from models.cli import opened

    settings, database = opened()
    with _Bar(not as_json and not stored) as bar:
        found = calibrate_served(
            settings, database, judge, bar.tell, rubric=find_rubric(rubric, database), ask=not stored
        )
    if as_json:
        typer.echo(json.dumps(found.to_json(), ensure_ascii=False))
        return
    _tell_calibration(found, plot)


def list_rubrics(as_json: JsonFlag = False) -> None:
    """List the rubrics that come with Parley, and those that judges were asked by."""
    from rich.table import Table

    from evals.rubric import kept_rubrics, shipped_rubrics
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
    from evals.rubric import find_rubric, write_rubric
    from models.cli import opened

    typer.echo(write_rubric(find_rubric(rubric, opened()[1])), nl=False)


def _tell_report(report: "JudgeReport") -> None:
    from rich.table import Table

    better = {"a": report.model_a, "b": report.model_b, "tie": "tie", None: "unread"}
    table = Table("question", "better", "", box=None, header_style="bold")
    for row in report.rows:
        said = "the order decided" if row.consistent is False else row.reasons
        table.add_row(_short(row.question), better[row.outcome], _short(said))
    say(table)
    canaries = Table("canary", "seen through", "", box=None, header_style="bold")
    for canary in report.canaries:
        canaries.add_row(canary.kind, f"{canary.lost} of {canary.asked}", "" if canary.passed else "failed")
    say(canaries)
    for note in report.notes:
        say(f"Note: {note}")
    say(f"Rubric {report.rubric}, version {report.rubric_version} ({report.rubric_hash}).")
    if report.longer:
        people = f"; people took it in {_told(report.people_longer)}" if report.people_longer else ""
        say(f"It took the longer answer in {_told(report.longer)} of its decisions{people}.")
    if report.expected_rate:
        say(f"Weighted by its probabilities, {report.model_b} wins {_told(report.expected_rate)}.")
    say(report.summary)
    if report.trust:
        say(report.trust)


def _tell_grades(grades: "tuple[Grades, ...]", as_json: bool) -> None:
    from dataclasses import asdict

    from rich.table import Table

    if as_json:
        typer.echo(json.dumps([asdict(one) for one in grades], ensure_ascii=False))
        return
    criteria = list(dict.fromkeys(name for one in grades for name in one.scores))
    table = Table("model", "grade (1 to 5)", *criteria, "graded", "unread", box=None, header_style="bold")
    for one in grades:
        mean = "–" if one.mean is None else f"{one.mean:.2f} ({one.low:.2f}–{one.high:.2f})"
        scores = (f"{one.scores[name]:.2f}" if name in one.scores else "–" for name in criteria)
        table.add_row(one.model, mean, *scores, str(one.graded), str(one.unparsed))
    say(table)
    weighed = sum(one.weighed for one in grades)
    if weighed:
        say(f"{weighed} of {sum(one.graded for one in grades)} grades are weighted.")


def _tell_calibration(found: "Calibration", plot: bool) -> None:
    from rich.table import Table

    from evals.plots import TERMINAL, interval_line
    from models.cli import console

    table = Table(
        "votes on", "votes", "agrees", "without ties", "kappa", "people", "trust", box=None, header_style="bold"
    )
    for group in found.groups:
        table.add_row(
            group.category or "everything",
            str(group.votes),
            _told(group.with_ties),
            _told(group.without_ties),
            f"{group.kappa.value:.2f} ({group.kappa.low:.2f}–{group.kappa.high:.2f})" if group.kappa else "–",
            _told(group.people),
            {"yes": "yes", "no": "no", "unknown": "not known"}[group.trusted],
        )
    if found.groups:
        say(table)
    width = max(_NARROWEST, min(TERMINAL, console().width - _LABELS))
    for group in found.groups if plot else ():
        for name, rate in (("judge and people", group.with_ties), ("people and people", group.people)):
            if rate:
                line = interval_line(rate.low, rate.value, rate.high, 0, 1, width)
                say(f"{(group.category or 'everything')[:16]:16} {name:17} 0 {line} 1")
    say(f"Rubric {found.rubric} ({found.rubric_hash}). {found.unparsed} verdicts unread, {found.failed} failed.")
    say(found.words)


def _told(rate: "Rate | None") -> str:
    return "–" if rate is None else f"{100 * rate.value:.0f} % ({100 * rate.low:.0f}–{100 * rate.high:.0f})"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _QUESTION else line[: _QUESTION - 1] + "…"


class _Bar:
    """A progress bar where a person looks on; nothing otherwise."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> "_Bar":
        if self._shown:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            from models.cli import console

            columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, transient=True, console=console())
            self._progress.start()
            self._task = self._progress.add_task("starting", total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def tell(self, done: float, doing: str) -> None:
        """Shows a share of 0 to 1 and a line."""
        if self._progress:
            self._progress.update(self._task, completed=done, description=doing)
