"""Votes as preference pairs for TRL's trainers and `datasets`: prompt, chosen, rejected, as messages.

Only decisive pairs, by majority if a pair has several votes; never a held-out prompt, because a model that is trained
on a prompt cannot be tested with it.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from sqlalchemy import select

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.counted_votes import counted
from evals.votes.row_files import ExportFormat, write_rows
from evals.votes.votes import first_score
from models.database import Database


def preferences(database: Database, campaign: str | None = None) -> list[dict[str, Any]]:
    """Rows of prompt, chosen, rejected (lists of messages), with models, votes, margin and source.

    `margin` is the chosen answer's share of the votes above one half, from 0 to 0.5; a tie counts as half.
    """
    query = (
        select(PairRow, PromptRow, BattleRow.flipped, VoteRow.choice, VoteRow.voter)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(PromptRow.held_out.is_(False), BattleRow.again.is_(False), *counted())
        .order_by(PairRow.id, VoteRow.created)
    )
    if campaign is not None:
        query = query.where(BattleRow.campaign == campaign)
    scores: dict[str, list[float]] = defaultdict(list)
    voters: dict[str, set[str]] = defaultdict(set)
    shown: dict[str, tuple[PairRow, PromptRow]] = {}
    with database.read() as session:
        for pair, prompt, flipped, choice, voter in session.execute(query):
            voters[pair.id].add(voter)
            scores[pair.id].append(first_score(choice, flipped))
            shown[pair.id] = (pair, prompt)
    rows = []
    for pair_id, (pair, prompt) in shown.items():
        mean = sum(scores[pair_id]) / len(scores[pair_id])
        # An imported vote may have no answers.
        if mean == 0.5 or pair.answer_1 == pair.answer_2 or not (pair.answer_1 and pair.answer_2):
            continue
        sides = [(pair.answer_1, pair.model_1), (pair.answer_2, pair.model_2)]
        chosen, rejected = sides if mean > 0.5 else sides[::-1]
        rows.append(
            {
                "prompt": prompt.messages,
                "chosen": [{"role": "assistant", "content": chosen[0]}],
                "rejected": [{"role": "assistant", "content": rejected[0]}],
                "chosen_model": chosen[1],
                "rejected_model": rejected[1],
                "votes": len(scores[pair_id]),
                "voters": sorted(voters[pair_id]),
                "margin": abs(mean - 0.5),
                "category": prompt.category,
                "source": prompt.source,
            }
        )
    return rows


def openai_preferences(database: Database, campaign: str | None = None) -> list[dict[str, Any]]:
    """The same pairs in the format of OpenAI's fine-tuning by DPO (its guide to direct preference optimization)."""
    return [
        {
            "input": {"messages": row["prompt"]},
            "preferred_output": row["chosen"],
            "non_preferred_output": row["rejected"],
        }
        for row in preferences(database, campaign)
    ]


def export_preferences(database: Database, path: Path, form: ExportFormat | None = None) -> int:
    """Writes `preferences`, whole or not at all; returns the number of rows.

    Args:
        form: csv, jsonl, parquet or datasets; by default from the path's ending.

    Raises:
        Invalid: the file cannot be written.
        NoSpace: the disk is full.
    """
    return write_rows(preferences(database), path, form, "preference pairs")
