"""Gold pairs: answers of which one is known to be better. They show who reads, and count in no rating."""

from dataclasses import dataclass

from sqlalchemy import func, select

from evals.campaign_tables import GoldPairRow
from evals.campaigns.lifecycle import locked_row
from evals.tables import BattleRow, PairRow, VoteRow
from evals.votes.votes import first_score
from models.database import Database, new_ulid
from models.errors import Conflict, Invalid

_BETTER, _WORSE = "gold:better", "gold:worse"  # in place of models; in sorted order, as a pair's models are


@dataclass(frozen=True)
class GoldResult:
    """How often a voter chose the better answer of a gold pair, of how many they voted on."""

    voter: str
    right: int
    votes: int


def add_gold_pair(database: Database, campaign: str, prompt_id: str, better: str, worse: str) -> str:
    """Adds a gold pair to a draft; returns the pair's id. `better` and `worse` are two answers to the prompt.

    Raises:
        NotFound: there is no such campaign.
        Invalid: an answer is empty, or both are the same.
        Conflict: the campaign has opened.
    """
    if not better.strip() or not worse.strip() or better == worse:
        raise Invalid("A gold pair needs two different answers.", param="answers")
    with database.write() as session:
        if locked_row(session, campaign).opened is not None:
            raise Conflict(f"The campaign {campaign!r} has opened, so its gold pairs are fixed.", code="fixed")
        pair = PairRow(
            id=new_ulid(), prompt_id=prompt_id, model_1=_BETTER, model_2=_WORSE, answer_1=better, answer_2=worse
        )
        session.add(pair)
        session.flush()
        session.add(GoldPairRow(campaign=campaign, pair_id=pair.id, better=1))
        return pair.id


def count_gold_pairs(database: Database, campaign: str) -> int:
    """The number of a campaign's gold pairs."""
    query = select(func.count()).select_from(GoldPairRow).where(GoldPairRow.campaign == campaign)
    with database.read() as session:
        return session.scalar(query) or 0


def gold_results(database: Database, campaign: str) -> list[GoldResult]:
    """The voters' results on gold pairs, by voter."""
    query = (
        select(VoteRow.voter, VoteRow.choice, BattleRow.flipped, GoldPairRow.better)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .join(GoldPairRow, (GoldPairRow.pair_id == BattleRow.pair_id) & (GoldPairRow.campaign == BattleRow.campaign))
        .where(BattleRow.campaign == campaign, BattleRow.gold.is_(True))
        .order_by(VoteRow.voter)
    )
    tally: dict[str, list[bool]] = {}
    with database.read() as session:
        for voter, choice, flipped, better in session.execute(query):
            score = first_score(choice, flipped)
            tally.setdefault(voter, []).append(score == (1.0 if better == 1 else 0.0))
    return [GoldResult(voter, sum(right), len(right)) for voter, right in tally.items()]
