"""Votes as rows and as files, and preference pairs from them: what the command and the page export.

A row is a vote as it was shown, oldest first. Exported votes can be imported again, here or elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import and_, select

from evals.campaign_tables import CampaignRow, ExcludedVoterRow, RaterRow
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.preference_pairs import openai_preferences, preferences
from evals.votes.row_files import ExportFormat, write_rows
from models.database import Database
from models.errors import Invalid, NotFound

Contents = Literal["votes", "preferences", "openai"]
NOUNS: dict[Contents, str] = {"votes": "votes", "preferences": "preference pairs", "openai": "preference pairs"}
_WINNERS = {"left": "model_a", "right": "model_b"}


@dataclass(frozen=True)
class VoteExport:
    """What is exported, and how.

    Attributes:
        contents: votes; preference pairs for TRL and `datasets`; or preference pairs in the format in which OpenAI
            fine-tunes by DPO.
        form: the file's format; by default from its ending.
        campaign: only this campaign's votes.
        skipped: also the pairs that a rater skipped, as rows without a winner.
    """

    contents: Contents = "votes"
    form: ExportFormat | None = None
    campaign: str | None = None
    skipped: bool = False


def export_votes(database: Database, path: Path, export: VoteExport) -> int:
    """Writes votes or preference pairs, whole or not at all; returns the number of rows.

    Raises:
        NotFound: there is no such campaign.
        Invalid: the file cannot be written, or OpenAI's format is asked for in another file than JSONL.
        NoSpace: the disk is full.
    """
    if export.campaign is not None:
        with database.read() as session:
            if session.get(CampaignRow, export.campaign) is None:
                raise NotFound(f"There is no campaign {export.campaign!r}.", param="campaign")
    if export.contents == "openai" and (export.form or path.suffix.lower().removeprefix(".")) != "jsonl":
        raise Invalid("OpenAI reads preference pairs from JSONL: use the ending .jsonl.", param="file")
    match export.contents:
        case "votes":
            rows = vote_rows(database, export.campaign, skipped=export.skipped)
        case "preferences":
            rows = preferences(database, export.campaign)
        case "openai":
            rows = openai_preferences(database, export.campaign)
    return write_rows(rows, path, export.form, NOUNS[export.contents])


def vote_rows(database: Database, campaign: str | None = None, *, skipped: bool = False) -> list[dict[str, Any]]:
    """Every vote, oldest first: model_a was on the left; winner is model_a, model_b, tie or both_bad.

    `again` is true if the pair was shown to the voter again on purpose; such a vote does not count in a rating, nor
    does one of an excluded voter. `link` is invite or open, None for an import. `probability`: that of drawing these
    two models.

    Args:
        campaign: only this campaign's votes.
        skipped: also the pairs that were skipped, with a `skip_reason` and no winner.
    """
    choice = VoteRow.choice.label("vote_choice")
    cast = VoteRow.created.label("vote_created")
    query = (
        select(
            BattleRow, PairRow, PromptRow.messages, PromptRow.category, PromptRow.source, PromptRow.held_out, choice,
            cast, RaterRow.link, ExcludedVoterRow.voter.label("excluded"),
        )
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .join(VoteRow, VoteRow.battle_id == BattleRow.id, isouter=skipped)
        .outerjoin(RaterRow, and_(RaterRow.campaign == BattleRow.campaign, RaterRow.voter == BattleRow.voter))
        .outerjoin(ExcludedVoterRow, ExcludedVoterRow.voter == BattleRow.voter)
        .order_by(VoteRow.created, BattleRow.id)
    )  # fmt: skip
    if skipped:
        query = query.where(VoteRow.battle_id.is_not(None) | BattleRow.skip_reason.is_not(None))
    if campaign is not None:
        query = query.where(BattleRow.campaign == campaign)
    with database.read() as session:
        return [_row(row) for row in session.execute(query)]


def _row(row: Sequence[Any]) -> dict[str, Any]:
    battle, pair, messages, category, source, held_out, choice, cast, link, excluded = row
    sides = [(pair.model_1, pair.answer_1), (pair.model_2, pair.answer_2)]
    left, right = sides[::-1] if battle.flipped else sides
    return {
        "id": battle.id,
        "model_a": left[0],
        "model_b": right[0],
        "winner": _WINNERS.get(choice, choice),
        "voter": battle.voter,
        "again": battle.again,
        "created": (cast or battle.created).isoformat(),
        "category": category,
        "source": source,
        "held_out": held_out,
        "campaign": battle.campaign,
        "link": link,
        "probability": battle.probability,
        "gold": battle.gold,
        "excluded": excluded is not None,
        "skip_reason": battle.skip_reason,
        "comment": battle.comment,
        "messages": messages,
        "answer_a": left[1],
        "answer_b": right[1],
    }
