"""A campaign's prompts, and where they come from: a file, a task's samples, or stored prompts."""

from pathlib import Path

from sqlalchemy import select

from evals.campaign_tables import CampaignPromptRow
from evals.campaigns.campaign import PromptSource
from evals.tables import PromptRow
from evals.tasks.task_sources import open_task
from evals.votes.prompts import Prompt, as_prompt, prompt_ids_of, prompts, read_jsonl
from models.chat.messages import as_dicts
from models.database import Database
from models.errors import Invalid, NotFound


def campaign_prompts(database: Database, campaign: str) -> list[Prompt]:
    """A campaign's own prompts in their order; none for an open-ended campaign, which takes the stored ones."""
    query = (
        select(PromptRow)
        .join(CampaignPromptRow, CampaignPromptRow.prompt_id == PromptRow.id)
        .where(CampaignPromptRow.campaign == campaign)
        .order_by(CampaignPromptRow.place)
    )
    with database.read() as session:
        return [as_prompt(row) for row in session.scalars(query)]


def source_prompt_ids(database: Database, source: PromptSource, runs: Path) -> list[str]:
    """The ids of the prompts in their order, stored first if they are new.

    Args:
        runs: the folder of the training runs.

    Raises:
        NotFound: there is no such file, task or prompt.
        Invalid: a row is not a prompt, or there is none.
    """
    if source.stored is not None:
        held_out = True if source.stored == "held-out" else None
        category = source.stored.removeprefix("category:") if source.stored.startswith("category:") else None
        ids = [prompt.id for prompt in prompts(database, category=category, held_out=held_out)]
        if not ids:
            raise NotFound(
                "There are no such stored prompts: add some with `parley prompts add FILE`.", param="prompts"
            )
        return ids
    if source.file is not None:
        rows = [row for _, row in read_jsonl(source.file)]
    else:
        assert source.task is not None, "a source has exactly one of the three"
        task = open_task(source.task, database, runs)
        if task.bad:
            raise Invalid(f"{len(task.bad)} rows of {task.name} are not samples. {task.bad[0]}", param="prompts")
        rows = [
            {
                "messages": as_dicts(sample.messages),
                "category": sample.sample.category,
                "topics": [list(group) for group in sample.sample.topics],
                "held_out": True,
            }
            for sample in task.samples
            if sample.turn == 1
        ]
    if not rows:
        raise Invalid("The file has no prompts.", param="prompts")
    return prompt_ids_of(database, rows)
