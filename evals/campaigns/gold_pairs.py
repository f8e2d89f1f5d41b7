"""Gold pairs: the better answer is known. They show which raters read carefully, and count in no rating."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from evals.campaign_tables import GoldPairRow
from evals.campaigns.campaign_prompts import campaign_prompts
from evals.campaigns.lifecycle import locked_row
from evals.tables import BattleRow, PairRow, VoteRow
from evals.votes.prompts import read_jsonl
from evals.votes.votes import first_score
from models.chat.messages import last_question
from models.database import Database, new_ulid
from models.errors import Conflict, Invalid

_BETTER, _WORSE = "gold:better", "gold:worse"  # in place of models; in sorted order, as a pair's models are


@dataclass(frozen=True)
class GoldPair:
    """Two answers to a prompt, one of them known to be better."""

    prompt_id: str
    better: str
    worse: str


@dataclass(frozen=True)
class GoldResult:
    """How many gold pairs a voter voted on, and on how many they chose the better answer."""

    voter: str
    right: int
    votes: int


def add_gold_pairs(database: Database, campaign: str, pairs: Sequence[GoldPair]) -> None:
    """Adds gold pairs to a draft, all or none.

    Raises:
        NotFound: there is no such campaign.
        Invalid: an answer is empty, or both answers are the same.
        Conflict: the campaign has opened.
    """
    if any(not gold.better.strip() or not gold.worse.strip() or gold.better == gold.worse for gold in pairs):
        raise Invalid("A gold pair needs two different answers.", param="answers")
    with database.write() as session:
        if locked_row(session, campaign).opened is not None:
            raise Conflict(f"The campaign {campaign!r} has opened, so its gold pairs are fixed.", code="fixed")
        for gold in pairs:
            pair = PairRow(
                id=new_ulid(),
                prompt_id=gold.prompt_id,
                model_1=_BETTER,
                model_2=_WORSE,
                answer_1=gold.better,
                answer_2=gold.worse,
            )
            session.add(pair)
            session.flush()
            session.add(GoldPairRow(campaign=campaign, pair_id=pair.id, better=1))


def read_gold_pairs(database: Database, campaign: str, path: Path) -> list[GoldPair]:
    """The gold pairs of a JSONL file; `prompt` is a prompt's id or the text of its last question.

    Raises:
        NotFound: there is no such file.
        Invalid: a line is no gold pair, or its prompt is not one of the campaign's.
    """
    prompts = campaign_prompts(database, campaign)
    ids = {last_question(prompt.messages): prompt.id for prompt in prompts} | {each.id: each.id for each in prompts}
    pairs = []
    for number, row in read_jsonl(path):
        texts = [row.get(key) for key in ("prompt", "better", "worse")] if isinstance(row, dict) else [None]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise Invalid(f'{path}, line {number}: write {{"prompt": "…", "better": "…", "worse": "…"}}.', param="file")
        prompt, better, worse = map(str, texts)
        if prompt not in ids:
            raise Invalid(f"{path}, line {number}: the campaign has no prompt {prompt[:60]!r}.", param="file")
        if better == worse:
            raise Invalid(f"{path}, line {number}: both answers are the same.", param="file")
        pairs.append(GoldPair(ids[prompt], better, worse))
    if not pairs:
        raise Invalid(f"{path} has no gold pairs.", param="file")
    return pairs


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
