"""The first step of a rescue: the old model's answers are recorded while it still answers, held-out prompts first.

Recordings belong to another room, so `parley.py` passes in the function that makes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from models.database import Database
from models.errors import ParleyError
from models.settings.settings import Settings
from train.clouds.rescue_plan import RescuePlan

Report = Callable[[str], None]


@dataclass(frozen=True)
class RecordingOffer:
    """Prompts whose answers by a hosted model are to be recorded.

    `consent` gets the cost in a sentence and returns whether to record; it is not called where `max_usd` is set.
    `training`: the prompts are training data.
    """

    settings: Settings
    database: Database
    model: str
    prompts: Sequence[dict[str, Any]]
    training: bool
    max_usd: float | None
    consent: Callable[[str], bool]


RecordAnswers = Callable[[RecordingOffer], str | None]
"""Records, and returns what is recorded as text; None without consent."""


@dataclass(frozen=True)
class RecordingChoice:
    """What the person who rescues has chosen: a limit in US dollars or a question, and training prompts or not."""

    max_usd: float | None = None
    training: bool = False
    consent: Callable[[str], bool] = lambda cost: False


def record_old(
    plan: RescuePlan, settings: Settings, database: Database, choice: RecordingChoice, record: RecordAnswers
) -> list[str]:
    """Offers to record the old model's answers; returns a line for each set of prompts.

    A recording that fails does not stop the rescue: it can be repeated as long as the old model answers.
    """
    if not plan.answers:
        return []
    lines = []
    sets = [("held-out", plan.prompts), *([("training", plan.training_prompts)] if choice.training else [])]
    for name, prompts in sets:
        if not prompts:
            continue
        offer = RecordingOffer(
            settings, database, plan.old, prompts, name == "training", choice.max_usd, choice.consent
        )
        try:
            recorded = record(offer)
        except ParleyError as error:
            lines.append(f"The answers of {plan.old} to {name} questions were not recorded: {error}")
        else:
            lines.append(
                f"{plan.old}, {name} questions: {recorded}"
                if recorded
                else f"The answers of {plan.old} to {name} questions are not recorded. Before it is switched off, run: "
                f"parley record {plan.old}"
            )
    return lines
