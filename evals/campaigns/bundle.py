"""A campaign as files: its prompts, answers, votes and verdict, from which another machine computes the same verdict.

campaign.json           the campaign: question, models, recordings, sizes, margin, seed
prompts.jsonl           the prompts that were voted on, each with the SHA-256 of its messages
pairs.jsonl             each pair of answers that was voted on
votes.jsonl             each vote with its battle: sides, probability, time, criteria, comment; voters without a name
recordings/<id>.jsonl   the recordings that answered for a model: head with SHA-256, then every sample
report.json             the verdicts
manifest.json           time of the export, versions of the programs, the SHA-256 of each file

Left out are recordings of training prompts, and votes on recorded answers to them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.campaign_tables import CriterionVoteRow, RecordingRow
from evals.campaigns.bundle_files import BundleFiles, json_bytes, jsonl_bytes, read_files, versions, write_files
from evals.campaigns.campaign import Campaign
from evals.campaigns.lifecycle import load_in
from evals.campaigns.report import report_of
from evals.recordings.recorded_models import parse_recorded_name, usable_recordings
from evals.recordings.recording_export import recording_rows
from evals.recordings.recording_store import answers_sha256, find_recording
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.counted_votes import counted
from evals.votes.imports.rows import UNKNOWN_VOTER
from evals.votes.prompts import prompt_digest
from evals.votes.training_prompts import no_training_record
from evals.votes.votes import Votes, first_score, from_rows
from models.chat.messages import Message
from models.database import Database, utcnow
from models.errors import Invalid, ParleyError

_TIMES = ("created", "opens", "closes", "opened", "closed")
_RECORDINGS = "recordings/"
_LISTED = 3  # differences that an error lists

_Row = dict[str, Any]


@dataclass(frozen=True)
class WrittenBundle:
    """A bundle that was written: its number of rated votes, and its SHA-256, to be published with it."""

    votes: int
    sha256: str


@dataclass(frozen=True)
class CheckedBundle:
    """A bundle that was checked: its campaign, its number of rated votes, and its report, also in words.

    Compare `sha256` with the value that the exporter has published.
    """

    campaign: Campaign
    votes: int
    text: str
    report: Mapping[str, Any]
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The checked report as plain JSON values."""
        return {"checked": True, "sha256": self.sha256, **self.report}


def write_bundle(database: Database, name: str, path: Path) -> WrittenBundle:
    """Writes a campaign to a new folder, or to a new .zip file.

    Raises:
        NotFound: there is no such campaign.
        Conflict: `path` exists.
        Invalid: it cannot be written.
    """
    exported = utcnow()
    with database.read() as session:
        campaign = load_in(session, name)
        votes, pairs, prompts = _voted(session, campaign)
    report = _report(campaign, votes, pairs, exported)
    files = {
        "campaign.json": json_bytes(campaign.to_json()),
        "prompts.jsonl": jsonl_bytes(prompts),
        "pairs.jsonl": jsonl_bytes(pairs),
        "votes.jsonl": jsonl_bytes(votes),
        "report.json": json_bytes(report),
    }
    models = {*campaign.models, *(pair[model] for pair in pairs for model in ("model_1", "model_2"))}
    for recording, rows in _recordings(database, campaign, models):
        files[f"{_RECORDINGS}{recording['id']}.jsonl"] = jsonl_bytes([{"recording": recording}, *rows])
    sha256 = write_files(path, files, {"exported": exported.isoformat()})
    return WrittenBundle(report["votes"], sha256)


def check_bundle(path: Path) -> CheckedBundle:
    """Checks every file's hash, and computes the verdicts again from the votes.

    Raises:
        NotFound: there is no such file or folder.
        Invalid: it is not a bundle, a byte was changed, its files do not fit together, or its votes do not give its
            verdicts; the message says what.
    """
    bundle = read_files(path)
    try:
        _check_prompts(bundle)
        _check_recordings(bundle)
        _check_votes(bundle)
        campaign = _campaign(bundle.value("campaign.json"))
        exported = datetime.fromisoformat(bundle.manifest["exported"])
        report = _report(campaign, bundle.rows("votes.jsonl"), bundle.rows("pairs.jsonl"), exported)
        different = list(_differences(json.loads(json.dumps(report)), bundle.value("report.json")))
    except ParleyError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise Invalid(
            f"{path} is not a complete export of a campaign: {type(error).__name__}: {error}.", param="file"
        ) from error
    if different:
        exported_by, here = bundle.manifest.get("versions"), versions()
        hint = "" if exported_by == here else f" It was exported with {_listed(exported_by)}; this is {_listed(here)}."
        raise Invalid(
            f"The votes in {path} do not give the verdict in it: report.json differs in "
            f"{', '.join(different[:_LISTED])}.{hint}",
            param="file",
        )
    return CheckedBundle(campaign, report["votes"], report["text"], report, bundle.sha256)


def _voted(session: Session, campaign: Campaign) -> tuple[list[_Row], list[_Row], list[_Row]]:
    """The votes in their order, and the pairs and prompts that they are about.

    Votes are numbered, and voters in the order of their first vote.
    """
    query = (
        select(VoteRow, BattleRow, PairRow, PromptRow)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(BattleRow.campaign == campaign.name, no_training_record(session))
        .order_by(VoteRow.created, VoteRow.battle_id)
    )
    conditions = (*counted(), BattleRow.again.is_(False))
    rated = set(session.scalars(query.with_only_columns(VoteRow.battle_id).where(*conditions)))
    criteria = _criteria(session, campaign)
    voters = {UNKNOWN_VOTER: UNKNOWN_VOTER}
    votes: list[_Row] = []
    pairs: dict[str, _Row] = {}
    prompts: dict[str, _Row] = {}
    for vote, battle, pair, prompt in session.execute(query):
        columns = ("id", "digest", "messages", "category", "held_out", "source")
        prompts[prompt.id] = {name: getattr(prompt, name) for name in columns}
        columns = ("id", "model_1", "model_2", "answer_1", "answer_2")
        pairs[pair.id] = {name: getattr(pair, name) for name in columns} | {"prompt": prompt.id}
        votes.append(
            {
                "id": len(votes) + 1,  # an imported vote's own id may be a hash over its voter
                "pair": pair.id,
                "voter": voters.setdefault(vote.voter, f"voter {len(voters)}"),
                "choice": vote.choice,
                "criteria": criteria.get(vote.battle_id, {}),
                "model_1_on_the_left": not battle.flipped,
                "rated": vote.battle_id in rated,
                "again": battle.again,
                "gold": battle.gold,
                "probability": battle.probability,
                "comment": battle.comment,
                "created": vote.created.isoformat(),
            }
        )
    return votes, list(pairs.values()), list(prompts.values())


def _criteria(session: Session, campaign: Campaign) -> dict[str, dict[str, str]]:
    """The choices by battle and criterion."""
    query = (
        select(CriterionVoteRow)
        .join(BattleRow, BattleRow.id == CriterionVoteRow.battle_id)
        .where(BattleRow.campaign == campaign.name)
        .order_by(CriterionVoteRow.battle_id, CriterionVoteRow.criterion)
    )
    choices: dict[str, dict[str, str]] = {}
    for row in session.scalars(query):
        choices.setdefault(row.battle_id, {})[row.criterion] = row.choice
    return choices


def _recordings(database: Database, campaign: Campaign, models: Iterable[str]) -> Iterator[tuple[_Row, list[_Row]]]:
    """The recordings that answered for these models: what their hash is over, and all samples."""
    ids = set(campaign.recordings.values())
    for model in models:
        if model not in campaign.recordings and (recorded := parse_recorded_name(model)):
            ids |= {recording.id for recording in usable_recordings(database, recorded)}
    for recording in (find_recording(database, each) for each in sorted(ids)):
        if recording.training:
            continue
        with database.read() as session:
            row = session.get_one(RecordingRow, recording.id)
            hashed = {"parameters": dict(row.parameters), "prompts_hash": row.prompts_hash}
        yield recording.to_json() | hashed, list(recording_rows(database, recording))


def _report(campaign: Campaign, votes: list[_Row], pairs: list[_Row], now: datetime) -> _Row:
    """The report of a bundle's rows, read as they were at the export."""
    by_id = {pair["id"]: pair for pair in pairs}
    rated = [vote for vote in votes if vote["rated"]]
    overall = _votes(by_id, ((vote, vote["choice"]) for vote in rated))
    by_criterion = {
        criterion: _votes(by_id, ((v, v["criteria"][criterion]) for v in rated if criterion in v["criteria"]))
        for criterion in campaign.criteria
    }
    return report_of(campaign, overall, by_criterion, now).to_json() | {"campaign": campaign.name}


def _votes(pairs: Mapping[str, _Row], rows: Iterable[tuple[_Row, str]]) -> Votes:
    return from_rows(
        (
            (pair := pairs[vote["pair"]])["model_1"],
            pair["model_2"],
            first_score(choice, not vote["model_1_on_the_left"]),
            pair["prompt"],
            vote["voter"],
        )
        for vote, choice in rows
    )


def _campaign(stored: _Row) -> Campaign:
    values: dict[str, Any] = {name: stored[name] for name in Campaign.__dataclass_fields__}
    values |= {name: datetime.fromisoformat(values[name]) for name in _TIMES if values[name]}
    values |= {"models": tuple(values["models"]), "criteria": tuple(values["criteria"])}
    return Campaign(**values)


def _check_prompts(bundle: BundleFiles) -> None:
    for prompt in bundle.rows("prompts.jsonl"):
        if _digest(prompt) != prompt["digest"]:
            raise Invalid(
                f"prompts.jsonl: the prompt {prompt['id']} does not have the SHA-256 in its row.", param="file"
            )


def _check_recordings(bundle: BundleFiles) -> None:
    for name in bundle.files:
        if not name.startswith(_RECORDINGS):
            continue
        first, *rows = bundle.rows(name)
        head = first["recording"]
        about = [head["model"], head["parameters"], head["samples"], head["prompts_hash"]]
        columns = ("prompt_sha256", "sample", "text", "finish_reason", "logprobs")
        if answers_sha256(about, [tuple(row[column] for column in columns) for row in rows]) != head["sha256"]:
            raise Invalid(f"{name}: the answers do not have the SHA-256 of the recording.", param="file")
        if any(_digest(row) != row["prompt_sha256"] for row in rows):
            raise Invalid(f"{name}: a prompt does not have the SHA-256 in its row.", param="file")


def _check_votes(bundle: BundleFiles) -> None:
    prompts = {prompt["id"] for prompt in bundle.rows("prompts.jsonl")}
    pairs = {pair["id"]: pair["prompt"] for pair in bundle.rows("pairs.jsonl")}
    for vote in bundle.rows("votes.jsonl"):
        if pairs.get(vote["pair"]) not in prompts:
            raise Invalid(f"votes.jsonl: the pair or prompt of the vote {vote['id']} is missing.", param="file")
        if vote["rated"] and (vote["gold"] or vote["again"]):
            raise Invalid(f"votes.jsonl: the vote {vote['id']} is rated, but gold or repeated.", param="file")


def _digest(row: _Row) -> str:
    return prompt_digest([Message.model_validate(message) for message in row["messages"]])


def _differences(computed: Any, stored: Any, at: str = "") -> Iterator[str]:
    """The places in which two JSON values differ, such as `verdicts.0.state`."""
    if isinstance(computed, dict) and isinstance(stored, dict) and computed.keys() == stored.keys():
        for name in sorted(computed):
            yield from _differences(computed[name], stored[name], f"{at}.{name}".lstrip("."))
    elif isinstance(computed, list) and isinstance(stored, list) and len(computed) == len(stored):
        for i, (computed_item, stored_item) in enumerate(zip(computed, stored, strict=True)):
            yield from _differences(computed_item, stored_item, f"{at}.{i}")
    elif computed != stored:
        yield at or "all of it"


def _listed(known: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in dict(known or {}).items())
