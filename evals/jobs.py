"""What the worker runs for this room: judging. The command line runs the same function in the foreground."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from evals.judging import judge_models
from evals.report import JudgeReport
from evals.steps import Report
from models.completer import GatewayCompleter, gateway_completer
from models.database import Database
from models.errors import Invalid, Unauthorized
from models.jobs import Job
from models.keys import keys_configured
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec
from models.worker import JobContext


def run_judge_job(job: Job, context: JobContext) -> dict[str, Any]:
    """The worker's handler of kind "judge"; params: judge, model_a, model_b, prompts (a number or ids).

    The result is `JudgeReport.to_json()`.
    """
    try:
        judge, model_a, model_b = (str(job.params[name]) for name in ("judge", "model_a", "model_b"))
    except KeyError as error:
        raise Invalid(f"A judge job needs {error.args[0]!r}.", param=str(error.args[0])) from error
    wanted = job.params.get("prompts")
    found = judge_served(context.settings, context.database, judge, (model_a, model_b), wanted, context.report)
    return found.to_json()


def judge_served(
    settings: Settings,
    database: Database,
    judge: str,
    models: tuple[str, str],
    prompts: int | Sequence[str] | None = None,
    report: Report | None = None,
) -> JudgeReport:
    """Judges two served models by a served judge, through the gateway; names may be aliases.

    Raises:
        NotFound: a model is not in the registry, or there are no prompts.
        Unauthorized: keys are on, and the settings have none for the gateway.
        Unavailable: the gateway or a model cannot be reached.
    """
    if settings.page_key is None and keys_configured(database):
        raise Unauthorized("Keys are on: put one into the variable PARLEY_PAGE_KEY, and judging may ask the gateway.")
    registry = Registry(database)
    # Verdicts are stored under ids: an alias that moves later must not take them along.
    specs = [registry.resolve(name) for name in (judge, *models)]
    by_id = {spec.id: spec for spec in registry.list(include_candidates=True, include_retired=True)}
    judge_spec, spec_a, spec_b = specs

    async def run() -> JudgeReport:
        completers: dict[str, GatewayCompleter] = {}

        def completer_for(model: str) -> GatewayCompleter:
            return completers.setdefault(model, gateway_completer(settings, model))

        try:
            return await judge_models(
                database,
                completer_for,
                judge_spec.id,
                (spec_a.id, spec_b.id),
                prompts,
                report=report,
                notes=_notes(judge_spec, (spec_a, spec_b), by_id),
            )
        finally:
            for completer in completers.values():
                await completer.close()

    return asyncio.run(run())


def _notes(judge: ModelSpec, models: tuple[ModelSpec, ModelSpec], by_id: Mapping[str, ModelSpec]) -> list[str]:
    """What a reader of the report should know about the judge itself."""
    notes = []
    if judge.toy:
        notes.append(f"{judge.id} is a toy: it shows how judging works, not which model is better.")
    kin = [spec.id for spec in models if _family(spec, by_id) == _family(judge, by_id)]
    if kin:
        notes.append(f"{judge.id} is of the same family as {' and '.join(kin)}: judges favour their own.")
    return notes


def _family(spec: ModelSpec, by_id: Mapping[str, ModelSpec]) -> str:
    """The id at the bottom of a model's line of bases."""
    seen = {spec.id}
    while spec.base and spec.base in by_id and spec.base not in seen:
        spec = by_id[spec.base]
        seen.add(spec.id)
    return spec.base or spec.id
