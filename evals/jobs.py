"""What the worker runs for this room: judging. The command line runs the same functions in the foreground."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from evals.calibrating import Calibration, calibrate
from evals.families import kin
from evals.grading import Grades, grade_models
from evals.judging import judge_models
from evals.report import JudgeReport
from evals.rubric import find_rubric
from evals.steps import Report
from models.completer import GatewayCompleter, gateway_completer
from models.database import Database
from models.errors import Invalid, Unauthorized
from models.jobs import Job
from models.judge_format import DEFAULT_RUBRIC, Rubric
from models.keys import keys_configured
from models.messages import Completer
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec
from models.worker import JobContext

Found = TypeVar("Found")


def run_judge_job(job: Job, context: JobContext) -> dict[str, Any]:
    """The worker's handler of kind "judge"; params: judge, model_a, model_b, prompts, rubric.

    `prompts` is a number or ids, `rubric` a name. The result is `JudgeReport.to_json()`.
    """
    try:
        judge, model_a, model_b = (str(job.params[name]) for name in ("judge", "model_a", "model_b"))
    except KeyError as error:
        raise Invalid(f"A judge job needs {error.args[0]!r}.", param=str(error.args[0])) from error
    wanted = job.params.get("prompts")
    rubric = find_rubric(str(job.params.get("rubric") or DEFAULT_RUBRIC.name), context.database)
    found = judge_served(
        context.settings, context.database, judge, (model_a, model_b), wanted, context.report, rubric=rubric
    )
    return found.to_json()


def judge_served(
    settings: Settings,
    database: Database,
    judge: str,
    models: tuple[str, str],
    prompts: int | Sequence[str] | None = None,
    report: Report | None = None,
    *,
    rubric: Rubric = DEFAULT_RUBRIC,
    samples: int = 1,
    references: Mapping[str, str] | None = None,
) -> JudgeReport:
    """Judges two served models by a served judge, through the gateway; names may be aliases.

    Raises:
        NotFound: a model is not in the registry, or there are no prompts.
        Unauthorized: keys are on, and the settings have none for the gateway.
        Unavailable: the gateway or a model cannot be reached.
    """
    judge_spec, spec_a, spec_b = _resolved(settings, database, judge, *models)
    by_id = {spec.id: spec for spec in Registry(database).list(include_candidates=True, include_retired=True)}

    async def run(completer_for: Callable[[str], Completer]) -> JudgeReport:
        return await judge_models(
            database,
            completer_for,
            judge_spec.id,
            (spec_a.id, spec_b.id),
            prompts,
            rubric,
            report,
            notes=_notes(judge_spec, (spec_a, spec_b), by_id),
            samples=samples,
            references=references,
        )

    return _through_gateway(settings, run)


def grade_served(
    settings: Settings,
    database: Database,
    judge: str,
    models: tuple[str, str],
    prompts: int | Sequence[str] | None = None,
    report: Report | None = None,
    *,
    rubric: Rubric = DEFAULT_RUBRIC,
    samples: int = 1,
    references: Mapping[str, str] | None = None,
) -> tuple[Grades, Grades]:
    """Grades two served models' answers one by one; as `judge_served` otherwise."""
    judge_spec, spec_a, spec_b = _resolved(settings, database, judge, *models)

    async def run(completer_for: Callable[[str], Completer]) -> tuple[Grades, Grades]:
        return await grade_models(
            database,
            completer_for,
            judge_spec.id,
            (spec_a.id, spec_b.id),
            prompts,
            rubric,
            report,
            samples=samples,
            references=references,
        )

    return _through_gateway(settings, run)


def calibrate_served(
    settings: Settings,
    database: Database,
    judge: str,
    report: Report | None = None,
    *,
    rubric: Rubric = DEFAULT_RUBRIC,
    ask: bool = True,
) -> Calibration:
    """Holds a served judge against the votes; without `ask` only what it has judged already.

    Raises:
        NotFound: the judge is not in the registry, or nobody has voted.
        Unauthorized, Unavailable: see `judge_served`.
    """
    if not ask:
        return asyncio.run(calibrate(database, None, Registry(database).resolve(judge).id, rubric))
    (spec,) = _resolved(settings, database, judge)

    async def run(completer_for: Callable[[str], Completer]) -> Calibration:
        return await calibrate(database, completer_for, spec.id, rubric, report)

    return _through_gateway(settings, run)


def _resolved(settings: Settings, database: Database, *names: str) -> list[ModelSpec]:
    """The versions that these names mean now: verdicts are stored under ids, which no alias takes along."""
    if settings.page_key is None and keys_configured(database):
        raise Unauthorized("Keys are on: put one into the variable PARLEY_PAGE_KEY, and judging may ask the gateway.")
    registry = Registry(database)
    return [registry.resolve(name) for name in names]


def _through_gateway(settings: Settings, run: Callable[[Callable[[str], Completer]], Awaitable[Found]]) -> Found:
    """Runs with a completer for each model that is asked, and closes them."""

    async def closing() -> Found:
        completers: dict[str, GatewayCompleter] = {}

        def completer_for(model: str) -> GatewayCompleter:
            return completers.setdefault(model, gateway_completer(settings, model))

        try:
            return await run(completer_for)
        finally:
            for completer in completers.values():
                await completer.close()

    return asyncio.run(closing())


def _notes(judge: ModelSpec, models: tuple[ModelSpec, ModelSpec], by_id: Mapping[str, ModelSpec]) -> list[str]:
    """What a reader of the report should know about the judge itself."""
    notes = []
    if judge.toy:
        notes.append(f"{judge.id} is a toy: it shows how judging works, not which model is better.")
    notes += [
        f"{judge.id} is of the same family as {name} ({shared}): judges favour their own."
        for name, shared in kin(judge, models, by_id)
    ]
    return notes
