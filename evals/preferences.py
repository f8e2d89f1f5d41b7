"""Votes as preference pairs: what TRL's preference trainers and `datasets` load, one JSON object a line.

Only decisive pairs, by the majority where a pair was voted on more than once; never a held-out prompt, since a
model trained on it could not be tested with it any more.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from sqlalchemy import select

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes import first_score
from models.database import Database
from models.errors import Invalid, NoSpace
from models.folders import atomic_write


def preferences(database: Database) -> list[dict[str, Any]]:
    """Rows of prompt, chosen, rejected (lists of messages), with models, votes, margin and source beside them.

    `margin` is what the chosen answer's share of the vote is above a half, from 0 to 0.5; a tie counts as half.
    """
    query = (
        select(PairRow, PromptRow, BattleRow.flipped, VoteRow.choice)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(PromptRow.held_out.is_(False))
        .order_by(PairRow.id, VoteRow.created)
    )
    scores: dict[str, list[float]] = defaultdict(list)
    shown: dict[str, tuple[PairRow, PromptRow]] = {}
    with database.read() as session:
        for pair, prompt, flipped, choice in session.execute(query):
            scores[pair.id].append(first_score(choice, flipped))
            shown[pair.id] = (pair, prompt)
    rows = []
    for pair_id, (pair, prompt) in shown.items():
        mean = sum(scores[pair_id]) / len(scores[pair_id])
        if mean == 0.5 or pair.answer_1 == pair.answer_2:
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
                "margin": abs(mean - 0.5),
                "category": prompt.category,
                "source": prompt.source,
            }
        )
    return rows


def export_preferences(database: Database, path: Path) -> int:
    """Writes `preferences` as JSONL, whole or not at all; returns how many rows.

    Raises:
        Invalid: the file cannot be written there. NoSpace: the disk is full.
    """
    rows = preferences(database)
    if path.is_dir():
        raise Invalid(f"{path} is a folder: name a file.", param="file")
    try:
        atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    except NoSpace:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param="file") from error
    return len(rows)
