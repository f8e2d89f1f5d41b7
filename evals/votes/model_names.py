"""Models that have two names in the votes: hints, and the merging of one name into the other."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignPairRow, CampaignRow, GoldPairRow
from evals.tables import BattleRow, JudgmentRow, PairRow, VoteRow
from models.database import Database
from models.errors import Conflict, Invalid, NotFound
from models.registry.registry import Registry

_BATCH = 500  # pairs renamed in one transaction
_HINTS = 5  # the most that are shown
_ASIDE = {"12": "ab", "21": "ba", "1": "a", "2": "b"}  # while both orders of a pair's judgments change places
_SWAPPED = {"ab": "21", "ba": "12", "a": "2", "b": "1"}


def similar_names(database: Database, models: Sequence[str]) -> list[str]:
    """A sentence for each group of stored names, one of them in `models`, that differ in case or punctuation only.

    Names that were compared with each other are different models, and not mentioned.
    """
    groups: dict[str, set[str]] = defaultdict(set)
    compared = _voted_pairs(database)
    for name in {name for pair in compared for name in pair} | set(models):
        groups[_letters(name)].add(name)
    hints = []
    for names in sorted(map(sorted, groups.values())):
        if len(names) > 1 and set(names) & set(models) and not any(set(pair) <= set(names) for pair in compared):
            alike = len({unicodedata.normalize("NFC", _visible(name)) for name in names}) < len(names)
            quoted = " and ".join(ascii(name) if alike else f'"{name}"' for name in names)
            hints.append(
                f"{quoted} may be one model: if so, merge them with `parley votes merge '{names[1]}' '{names[0]}'`."
            )
    return hints[:_HINTS]


def _letters(name: str) -> str:
    """A name without case, punctuation, invisible characters and Unicode's different forms."""
    return re.sub(r"[\s._-]+", "", unicodedata.normalize("NFKC", _visible(name)).casefold())


def _visible(name: str) -> str:
    return "".join(char for char in name if unicodedata.category(char) != "Cf")


def _voted_pairs(database: Database) -> set[tuple[str, str]]:
    """The pairs of models that have votes."""
    query = select(PairRow.model_1, PairRow.model_2).distinct()
    voted = query.join(BattleRow, BattleRow.pair_id == PairRow.id).join(VoteRow, VoteRow.battle_id == BattleRow.id)
    with database.read() as session:
        return {(first, second) for first, second in session.execute(voted)}


def merge_model(database: Database, old: str, new: str) -> int:
    """Renames a model in all pairs, with their votes and judgments; returns the number of its pairs.

    Raises:
        NotFound: no pair has the old name.
        Invalid: the names are equal, or the new one is empty or too long.
        Conflict: the old name is registered, or the two were compared with each other, so they are different models.
    """
    if old == new or not 0 < len(new) <= 255:
        raise Invalid("Name two different models: the old name, then the new one.", param="new")
    if any(spec.id == old for spec in Registry(database).list(include_candidates=True, include_retired=True)):
        raise Conflict(f"{old!r} is a registered model and keeps its name: merge the other name into it.", param="old")
    both = select(func.count()).where(
        or_((PairRow.model_1 == old) & (PairRow.model_2 == new), (PairRow.model_1 == new) & (PairRow.model_2 == old))
    )
    query = select(PairRow).where(or_(PairRow.model_1 == old, PairRow.model_2 == old)).limit(_BATCH)
    renamed = 0
    while True:
        with database.write() as session:
            if against := session.scalar(both):
                raise Conflict(
                    f"{against} pairs compare {old!r} with {new!r}, so they are different models.",
                    param="old",
                )
            pairs = session.scalars(query).all()
            _rename(session, pairs, old, new)
        renamed += len(pairs)
        if len(pairs) < _BATCH:
            break
    if not renamed:
        raise NotFound(f"There are no votes on a model {old!r}.", param="old")
    _rename_in_campaigns(database, old, new)
    return renamed


def _rename(session: Session, pairs: Sequence[PairRow], old: str, new: str) -> None:
    """Renames the model in a pair, and swaps the sides if its models are then not in sorted order."""
    swapped = []
    for pair in pairs:
        first, second = (new if name == old else name for name in (pair.model_1, pair.model_2))
        if first > second:
            swapped.append(pair.id)
            first, second = second, first
            pair.answer_1, pair.answer_2 = pair.answer_2, pair.answer_1
        pair.model_1, pair.model_2 = first, second
    session.flush()
    if not swapped:
        return
    session.execute(update(BattleRow).where(BattleRow.pair_id.in_(swapped)).values(flipped=~BattleRow.flipped))
    session.execute(update(GoldPairRow).where(GoldPairRow.pair_id.in_(swapped)).values(better=3 - GoldPairRow.better))
    _swap_judgments(session, swapped)


def _swap_judgments(session: Session, pair_ids: Sequence[str]) -> None:
    judgments = session.scalars(select(JudgmentRow).where(JudgmentRow.pair_id.in_(pair_ids))).all()
    for judgment in judgments:
        compares = len(judgment.shown) == 2
        judgment.shown = _ASIDE[judgment.shown]
        if compares:
            judgment.verdict = {1: 2, 2: 1}.get(judgment.verdict or 0, judgment.verdict)
            judgment.expected = None if judgment.expected is None else 1.0 - judgment.expected
        if judgment.scores:
            names = {"1": "2", "2": "1"}
            judgment.scores = {names.get(name, name): value for name, value in judgment.scores.items()}
    session.flush()
    for judgment in judgments:
        judgment.shown = _SWAPPED[judgment.shown]
    session.flush()


def _rename_in_campaigns(database: Database, old: str, new: str) -> None:
    with database.write() as session:
        for row in session.scalars(select(CampaignRow)):
            if old in row.models:
                row.models = sorted({new if name == old else name for name in row.models})
        cells = select(CampaignPairRow).where(or_(CampaignPairRow.model_1 == old, CampaignPairRow.model_2 == old))
        for cell in session.scalars(cells).all():
            first, second = (new if name == old else name for name in (cell.model_1, cell.model_2))
            points = cell.points if first < second else cell.voted - cell.points
            key = (cell.campaign, *sorted((first, second)), cell.prompt_id, cell.sample)
            session.delete(cell)
            session.flush()
            if (same := session.get(CampaignPairRow, key)) is None:
                columns = dict(zip(("campaign", "model_1", "model_2", "prompt_id", "sample"), key, strict=True))
                same = CampaignPairRow(**columns, pair_id=cell.pair_id, shown=0, voted=0, points=0.0)
                session.add(same)
            same.shown, same.voted, same.points = same.shown + cell.shown, same.voted + cell.voted, same.points + points
