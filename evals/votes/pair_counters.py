"""A campaign's counters of its pairs, which determine the next pair, recomputed after imports.

A rater's vote changes them by one when it is cast; see `evals.campaigns.ballots`.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignPairRow
from evals.tables import BattleRow, PairRow, VoteRow
from evals.votes.counted_votes import counted_imports
from evals.votes.votes import first_score
from models.database import Database

_PROMPTS = 200  # in one transaction


class PairPlace(NamedTuple):
    """Two models, in sorted order, on one prompt of a campaign."""

    campaign: str
    model_1: str
    model_2: str
    prompt_id: str


def count_import(database: Database, import_id: str) -> None:
    """Counts the votes of an import where its campaigns show the same models on the same prompts."""
    table = CampaignPairRow
    query = (
        select(BattleRow.campaign, PairRow.model_1, PairRow.model_2, PairRow.prompt_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(
            table,
            (table.campaign == BattleRow.campaign)
            & (table.model_1 == PairRow.model_1)
            & (table.model_2 == PairRow.model_2)
            & (table.prompt_id == PairRow.prompt_id),
        )
        .where(BattleRow.import_id == import_id)
        .distinct()
    )
    by_prompt: dict[str, set[PairPlace]] = defaultdict(set)
    with database.read() as session:
        for row in session.execute(query):
            by_prompt[row.prompt_id].add(PairPlace(*row))
    prompts = sorted(by_prompt)
    for start in range(0, len(prompts), _PROMPTS):
        with database.write() as session:
            recount(session, set().union(*(by_prompt[prompt] for prompt in prompts[start : start + _PROMPTS])))


def recount(session: Session, places: Collection[PairPlace]) -> None:
    """Counts the votes of these pairs again; pairs that the campaign has not shown have no counters.

    A vote counts for the sample with its answers. Where answers are not fixed, or no sample has them, it counts for the
    first sample.
    """
    wanted = set(places)
    prompts = {place.prompt_id for place in wanted}
    table, cells = CampaignPairRow, defaultdict(list)
    query = select(table).where(table.campaign.in_({place.campaign for place in wanted}), table.prompt_id.in_(prompts))
    # Locked before the votes are read, so that a vote that is being cast is counted once.
    for cell in session.scalars(query.order_by(table.prompt_id, table.sample).with_for_update()):
        place = PairPlace(cell.campaign, cell.model_1, cell.model_2, cell.prompt_id)
        if place in wanted:
            cell.voted, cell.points = 0, 0.0
            cells[place].append(cell)
    if not cells:
        return
    votes = (
        select(
            BattleRow.campaign, PairRow.model_1, PairRow.model_2, PairRow.prompt_id, PairRow.id, BattleRow.flipped,
            VoteRow.choice, PairRow.answer_1, PairRow.answer_2,
        )
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(VoteRow, VoteRow.battle_id == BattleRow.id)
        .where(PairRow.prompt_id.in_({place.prompt_id for place in cells}))
        .where(BattleRow.again.is_(False), BattleRow.gold.is_(False), counted_imports())
    )  # fmt: skip
    fixed = {cell.pair_id for some in cells.values() for cell in some if cell.pair_id}
    answers = select(PairRow.id, PairRow.answer_1, PairRow.answer_2).where(PairRow.id.in_(fixed))
    texts = {row.id: (row.answer_1, row.answer_2) for row in session.execute(answers)}
    for *place, pair_id, flipped, choice, first, second in session.execute(votes):
        some = cells.get(PairPlace(*place))
        if some:
            same = [cell for cell in some if cell.pair_id == pair_id]
            same = same or [cell for cell in some if cell.pair_id and texts.get(cell.pair_id) == (first, second)]
            cell = (same or some)[0]
            cell.voted, cell.points = cell.voted + 1, cell.points + first_score(choice, flipped)
