"""What a bundle contains, collected from the database: a campaign's votes, answers, prompts, records and verdicts.

campaign.json           the campaign's settings with its seed, as its owner fixed them
prompts.jsonl           the prompts, each with the hash of its messages
pairs.jsonl             the answers that were compared
votes.jsonl             every vote of the campaign, whether it counts or not
counted.jsonl           the votes that count, as the verdict takes them: by question, in the order of the votes
recordings/<id>.jsonl   the recordings that answered for a model: head with hash, then every sample
verdicts.json           the verdicts, with the rule for each
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.bundles.bundle_files import json_bytes, jsonl_bytes, write_files
from evals.campaign_tables import CriterionVoteRow, RecordingRow
from evals.ratings.verdict import MARGIN, PlannedLook, Verdict, compare, planned_verdict
from evals.recordings.recorded_models import parse_recorded_name, usable_recordings
from evals.recordings.recording_export import recording_rows
from evals.recordings.recording_store import find_recording
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.votes import StoredVotes, Votes
from models.database import Database

OVERALL = "overall"


@dataclass(frozen=True)
class BundleContent:
    """What to export.

    Attributes:
        campaign: the campaign's settings as plain JSON values; `name` is required, `recordings` maps models to
            recordings' ids.
        models: the models, each two of which get a verdict.
        questions: the votes that count, by question: "overall", and criteria.
        plan: the planned look of a closed campaign; None for verdicts that may be read at any time.
        margin: of those verdicts.
    """

    campaign: Mapping[str, Any]
    models: Sequence[str]
    questions: Mapping[str, StoredVotes]
    plan: PlannedLook | None = None
    margin: float = MARGIN


def write_bundle(path: Path, database: Database, content: BundleContent) -> str:
    """Writes a bundle: a new folder, or a zip if the path ends in .zip. Returns its SHA-256.

    Raises:
        Invalid: the path exists or cannot be written.
    """
    rule = {"look": "planned" if content.plan else "anytime", "margin": content.margin, "votes": None}
    if content.plan:
        rule |= {"margin": content.plan.margin, "votes": content.plan.votes}
    with database.read() as session:
        votes, pairs, prompts = _voted(session, str(content.campaign["name"]))
        recordings = _recordings(session, database, content)
    prompt_of = {pair["id"]: pair["prompt_id"] for pair in pairs}
    counted = [
        {"question": question, **row}
        for question, stored in content.questions.items()
        for row in counted_rows(stored, prompt_of)
    ]
    verdicts = [
        {"question": question, "rule": rule, "verdict": verdict_by_rule(stored.votes, a, b, rule).to_json()}
        for question, stored in content.questions.items()
        for a, b in combinations(content.models, 2)
    ]
    files = {
        "campaign.json": json_bytes(dict(content.campaign)),
        "prompts.jsonl": jsonl_bytes(prompts),
        "pairs.jsonl": jsonl_bytes(pairs),
        "votes.jsonl": jsonl_bytes(votes),
        "counted.jsonl": jsonl_bytes(counted),
        "verdicts.json": json_bytes(verdicts),
    }
    for head, rows in recordings:
        files[f"recordings/{head['id']}.jsonl"] = jsonl_bytes([{"recording": head}, *rows])
    return write_files(path, files)


def verdict_by_rule(votes: Votes, model_a: str, model_b: str, rule: Mapping[str, Any]) -> Verdict:
    """The verdict by a rule of verdicts.json."""
    if rule["look"] == "planned":
        return planned_verdict(votes, model_a, model_b, PlannedLook(rule["margin"], rule["votes"]))
    return compare(votes, model_a, model_b, rule["margin"])


def counted_rows(stored: StoredVotes, prompt_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """The votes as the verdict takes them. `score` is the first model's share of the win."""
    votes = stored.votes
    assert votes.pair is not None
    assert votes.both_bad is not None
    assert votes.first_left is not None
    return [
        {
            "first": votes.models[votes.first[i]],
            "second": votes.models[votes.second[i]],
            "score": float(votes.score[i]),
            "both_bad": bool(votes.both_bad[i]),
            "first_left": bool(votes.first_left[i]),
            "pair_id": stored.pair_ids[votes.pair[i]],
            "prompt_id": prompt_of[stored.pair_ids[votes.pair[i]]],
            "voter": votes.voter_name(int(votes.voter[i])),
        }
        for i in range(len(votes))
    ]


def _voted(session: Session, campaign: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """The campaign's votes in their order, and the pairs and prompts that they are about."""
    query = (
        select(VoteRow, BattleRow, PairRow, PromptRow)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(BattleRow.campaign == campaign)
        .order_by(VoteRow.created, VoteRow.battle_id)
    )
    of_campaign = select(BattleRow.id).where(BattleRow.campaign == campaign)
    criteria: dict[str, dict[str, str]] = {}
    for row in session.scalars(select(CriterionVoteRow).where(CriterionVoteRow.battle_id.in_(of_campaign))):
        criteria.setdefault(row.battle_id, {})[row.criterion] = row.choice
    votes, pairs, prompts = [], {}, {}
    for vote, battle, pair, prompt in session.execute(query):
        votes.append(
            {
                "battle_id": vote.battle_id,
                "pair_id": pair.id,
                "voter": vote.voter,
                "choice": vote.choice,
                "criteria": criteria.get(vote.battle_id, {}),
                "flipped": battle.flipped,
                "again": battle.again,
                "gold": battle.gold,
                "probability": battle.probability,
                "comment": battle.comment,
                "created": vote.created.isoformat(),
            }
        )
        names = ("id", "prompt_id", "model_1", "model_2", "answer_1", "answer_2")
        pairs[pair.id] = {name: getattr(pair, name) for name in names}
        names = ("id", "digest", "messages", "category", "held_out", "source")
        prompts[prompt.id] = {name: getattr(prompt, name) for name in names}
    return votes, list(pairs.values()), list(prompts.values())


def _recordings(
    session: Session, database: Database, content: BundleContent
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The recordings that answered for the models, with all samples and what their hash is over."""
    fixed = dict(content.campaign.get("recordings") or {})
    ids = set(fixed.values())
    for name in filter(None, map(parse_recorded_name, content.models)):
        if str(name) not in fixed:
            ids |= {recording.id for recording in usable_recordings(database, name)}
    found = []
    for recording_id in sorted(ids):
        row = session.get_one(RecordingRow, recording_id)
        recording = find_recording(database, recording_id)
        head = recording.as_json() | {"parameters": dict(row.parameters), "prompts_hash": row.prompts_hash}
        found.append((head, list(recording_rows(database, recording))))
    return found
