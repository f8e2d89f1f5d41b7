"""All answers of a campaign, requested in advance so that raters do not wait.

Each model is asked each prompt once (and once more for each further sample); every pair shares the answers. Stored
answers are not asked for again, so a run that was killed resumes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignPromptRow, CampaignRow, RecordedAnswerRow
from evals.campaigns.answers import answer_parameters
from evals.campaigns.lifecycle import PREPARE, load_campaign
from evals.scorers.sample import Sample
from evals.tables import AnswerRow, PromptRow
from evals.tasks.answer_cache import parameters_hash
from evals.tasks.runner import Batch, Progress, ask_all
from evals.tasks.task import TaskSample, prompt_hash
from evals.votes.prompts import Prompt, as_prompt
from models.chat.messages import Completer
from models.database import Database
from models.errors import Conflict
from models.jobs.jobs import enqueue
from models.spec import is_recorded_name

_CONCURRENCY = 16  # requests in flight for each model, so that the model can also answer raters who are voting


@dataclass(frozen=True)
class Prepared:
    """How many of the answers that the campaign needs from a model are stored."""

    model: str
    answers: int
    wanted: int
    recorded: bool = False

    @property
    def gap(self) -> str | None:
        """What a record lacks, in a sentence: nothing will add it while the campaign is open."""
        if not self.recorded or self.answers >= self.wanted:
            return None
        return (
            f"{self.model} has {self.answers:,} of {self.wanted:,} answers on record: its pairs on the other questions "
            "cannot be shown."
        )


async def prepare_campaign(
    database: Database,
    completer_for: Callable[[str], Completer],
    name: str,
    report: Callable[[int, int, int], None] | None = None,
) -> tuple[Prepared, ...]:
    """Asks for every answer that is missing; recorded models are not asked.

    Args:
        completer_for: a model's completer, which must not retry by itself.
        report: called with the numbers of stored answers, of all answers, and of failed requests.

    Raises:
        NotFound: there is no such campaign.
    """
    campaign = load_campaign(database, name)
    with database.read() as session:
        prompts = campaign_prompts(session, session.get_one(CampaignRow, name))
    samples = [TaskSample(prompt.id, prompt.messages, Sample(prompt=prompt.id)) for prompt in prompts]
    live = [model for model in campaign.models if not is_recorded_name(model)]
    total = len(live) * len(samples) * campaign.samples
    failed = 0

    def answered(sample: int, progress: Progress) -> None:
        if report is not None:
            report(sample * len(live) * len(samples) + progress.done, total, failed + progress.failed)

    for sample in range(campaign.samples if live and samples else 0):
        batch = Batch(live, samples, answer_parameters(sample), _CONCURRENCY)
        run = await ask_all(database, completer_for, batch, partial(answered, sample))
        failed += sum(outcome.answer is None for outcomes in run.outcomes.values() for outcome in outcomes)
    return preparation(database, name)


def queue_preparation(database: Database, name: str) -> str:
    """Makes the worker request the missing answers again, after some failed; returns the job's id.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it is not open, so nobody waits for its answers.
    """
    state = load_campaign(database, name).state
    if state not in ("open", "scheduled"):
        raise Conflict(f"The campaign {name!r} is {state}: answers are asked for only while it is open.", code=state)
    return enqueue(database, PREPARE, {"campaign": name})


def preparation(database: Database, name: str) -> tuple[Prepared, ...]:
    """How many of a campaign's answers are prepared, by model; none for an open-ended one.

    Raises:
        NotFound: there is no such campaign.
    """
    campaign = load_campaign(database, name)
    if campaign.open_ended:
        return ()
    with database.read() as session:
        prompts = campaign_prompts(session, session.get_one(CampaignRow, name))
        hashes = {prompt_hash(prompt.messages) for prompt in prompts}
        parameters = [parameters_hash(answer_parameters(sample)) for sample in range(campaign.samples)]
        prepared = []
        for model in campaign.models:
            if recording := campaign.recordings.get(model):
                query = select(RecordedAnswerRow.prompt_id).where(
                    RecordedAnswerRow.recording_id == recording, RecordedAnswerRow.text.is_not(None)
                )
                recorded = set(session.scalars(query)) & {prompt.id for prompt in prompts}
                wanted = campaign.prompts * campaign.samples
                prepared.append(Prepared(model, len(recorded) * campaign.samples, wanted, recorded=True))
                continue
            requested = select(AnswerRow.prompt_hash).where(
                AnswerRow.model == model, AnswerRow.parameters_hash.in_(parameters)
            )
            answers = sum(each in hashes for each in session.scalars(requested))
            prepared.append(Prepared(model, answers, campaign.prompts * campaign.samples))
        return tuple(prepared)


def campaign_prompts(session: Session, campaign: CampaignRow) -> list[Prompt]:
    """The prompts of a campaign that is not open-ended, in their order."""
    query = (
        select(PromptRow)
        .join(CampaignPromptRow, CampaignPromptRow.prompt_id == PromptRow.id)
        .where(CampaignPromptRow.campaign == campaign.name)
        .order_by(CampaignPromptRow.place)
    )
    return [as_prompt(row) for row in session.scalars(query)]
