"""Import of an outside judge's verdicts, so that the judge can be compared with this team's people.

A row is one verdict on two answers in the order in which they were shown: the columns of a file of votes
(`evals.votes.imports`), with the first model as model_a. A pair in both orders is two rows.
"""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.judges.rubric import IMPORTED_RUBRIC, store_rubric
from evals.tables import JudgmentRow, PairRow, PromptRow, insert_once
from evals.votes.imports.formats import read_votes_file
from evals.votes.imports.keys import prompt_digest
from evals.votes.imports.options import ImportOptions
from evals.votes.imports.rows import BadRow, ImportedVote
from models.database import Database, new_ulid
from models.errors import Invalid

_DEFAULT = ImportOptions()
_VERDICTS = {"left": 1, "right": 2, "tie": 0, "both_bad": 0}


@dataclass(frozen=True)
class JudgmentImport:
    """The result of an import. `pairs` have verdicts in both orders, of which `flips` changed with the order.

    `one_order` pairs were judged in one order only and are not compared with people. `unknown` rows are about pairs
    that are not stored here; `known` rows were imported before.
    """

    judge: str
    new: int
    known: int
    unknown: int
    pairs: int
    flips: int
    one_order: int
    bad: tuple[BadRow, ...]

    @property
    def flip_rate(self) -> float | None:
        """The share of pairs whose verdict changed with the order; None if no pair was judged in both."""
        return self.flips / self.pairs if self.pairs else None


def import_judgments(database: Database, path: Path, judge: str, options: ImportOptions = _DEFAULT) -> JudgmentImport:
    """Stores an outside judge's verdicts on stored pairs, under the rubric "imported"; the first verdict on one counts.

    Args:
        judge: the name to store them under.

    Raises:
        NotFound: there is no such file.
        Invalid: it cannot be read, or none of its rows is about a stored pair.
    """
    read = read_votes_file(path, options)
    store_rubric(database, IMPORTED_RUBRIC)
    new = known = unknown = 0
    orders: dict[str, dict[str, int]] = {}
    with database.write() as session:
        for row in read.votes:
            pair_id = _pair(session, row)
            if pair_id is None:
                unknown += 1
                continue
            shown, verdict = _as_stored(row)
            key = {"pair_id": pair_id, "judge": judge, "rubric_hash": IMPORTED_RUBRIC.hash, "shown": shown}
            if insert_once(session, JudgmentRow(id=new_ulid(), **key, verdict=verdict, raw=row.choice)):
                new += 1
            else:
                known += 1
                verdict = session.scalars(select(JudgmentRow.verdict).filter_by(**key)).one() or 0
            orders.setdefault(pair_id, {})[shown] = verdict
    if not orders and (unknown or read.bad):
        reason = (
            read.bad[0].reason if read.bad else "the prompts, models and answers must be those that people voted on"
        )
        raise Invalid(f"{path}: none of its rows is about a stored pair of answers ({reason}).", param="file")
    both = [verdicts for verdicts in orders.values() if len(verdicts) == 2]
    return JudgmentImport(
        judge=judge,
        new=new,
        known=known,
        unknown=unknown,
        pairs=len(both),
        flips=sum(len(set(verdicts.values())) == 2 for verdicts in both),
        one_order=len(orders) - len(both),
        bad=read.bad,
    )


def _as_stored(row: ImportedVote) -> tuple[str, int]:
    """The order of the answers, and the verdict on the stored pair, whose models are sorted."""
    verdict = _VERDICTS[row.choice]
    if row.left < row.right:
        return "12", verdict
    return "21", 3 - verdict if verdict else 0


def _pair(session: Session, row: ImportedVote) -> str | None:
    """The stored pair that a row is about: the same prompt, models and answers; answers may be left out if one fits."""
    model_1, model_2 = sorted((row.left, row.right))
    query = (
        select(PairRow.id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(PromptRow.digest == prompt_digest(row.content), PairRow.model_1 == model_1, PairRow.model_2 == model_2)
        .order_by(PairRow.id)
    )
    answers = {row.left: row.left_answer, row.right: row.right_answer}
    if answers[model_1] or answers[model_2]:
        query = query.where(PairRow.answer_1 == answers[model_1], PairRow.answer_2 == answers[model_2])
    found = list(session.scalars(query.limit(2)))
    return found[0] if len(found) == 1 or (found and answers[model_1]) else None
