"""How this room reaches served models: by name in the registry, then through the gateway as any client does.

It knows no question. A completer is made for each model when it is first asked, and all are closed at the end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from evals.judges.model_families import kin
from models.completer import GatewayCompleter, gateway_completer
from models.database import Database
from models.errors import Unauthorized
from models.judge_format import Rubric
from models.keys import keys_configured
from models.messages import Completer
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec

Found = TypeVar("Found")


def resolved(settings: Settings, database: Database, *names: str) -> list[ModelSpec]:
    """The versions that these names mean now: what is stored belongs to ids, which no alias takes along.

    Raises:
        NotFound: a model is not in the registry.
        Unauthorized: keys are on, and the settings have none for the gateway.
    """
    if settings.page_key is None and keys_configured(database):
        raise Unauthorized("Keys are on: put one into the variable PARLEY_PAGE_KEY, and this may ask the gateway.")
    registry = Registry(database)
    return [registry.resolve(name) for name in names]


def through_gateway(
    settings: Settings,
    run: Callable[[Callable[[str], Completer]], Awaitable[Found]],
    *,
    timeout_s: float = 120.0,
    retries: int = 2,
    many: bool = False,
) -> Found:
    """Runs with a completer for each model that is asked, and closes them; the options are `gateway_completer`'s."""

    async def closing() -> Found:
        completers: dict[str, GatewayCompleter] = {}

        def completer_for(model: str) -> GatewayCompleter:
            if model not in completers:
                completers[model] = gateway_completer(settings, model, timeout_s, retries, many=many)
            return completers[model]

        try:
            return await run(completer_for)
        finally:
            for completer in completers.values():
                await completer.close()

    return asyncio.run(closing())


def agreement_note(database: Database, judge: str, rubric: Rubric) -> str:
    """For what people's votes say that this judge may be trusted by this rubric, in words."""
    from evals.judges.calibration import opinions
    from evals.judges.human_agreement import groups, in_words

    found = groups(opinions(database, judge, rubric.hash))
    if not found:
        return (
            f"How far {judge} agrees with people by the rubric {rubric.name} is not known: vote at /vote, then "
            f"`parley judge calibrate {judge} --rubric {rubric.name}`."
        )
    return in_words(judge, found)


def judge_notes(database: Database, judge: ModelSpec, models: Sequence[ModelSpec]) -> list[str]:
    """What a reader of a result should know about its judge: that it is a toy, or of the family that it judges."""
    by_id: Mapping[str, ModelSpec] = {
        spec.id: spec for spec in Registry(database).list(include_candidates=True, include_retired=True)
    }
    notes = []
    if judge.toy:
        notes.append(f"{judge.id} is a toy: it shows how judging works, not which model is better.")
    notes += [
        f"{judge.id} is of the same family as {name} ({shared}): judges favour their own."
        for name, shared in kin(judge, tuple(models), by_id)
    ]
    return notes
