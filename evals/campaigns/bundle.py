"""A campaign as files: its prompts, answers, votes and verdict, from which another machine computes the same verdict.

campaign.json     the campaign: question, models, recordings, sizes, margin, seed
prompts.jsonl     each prompt, in order
pairs.jsonl       each pair of answers that was voted on
recordings.jsonl  each recording that answered for a model: all its answers and their hash
votes.jsonl       each vote with its battle: sides, probability, time, criteria, comment; voters without a name
report.json       the verdicts
manifest.json     the SHA-256 of each of these files, and the versions of the programs
"""

import hashlib
import json
import platform
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import select

from evals.campaign_tables import CriterionVoteRow
from evals.campaigns.campaign import Campaign
from evals.campaigns.lifecycle import load_campaign
from evals.campaigns.report import report_of
from evals.recordings.recording_export import bundle_row, is_unchanged
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.counted_votes import counted
from evals.votes.imports.rows import UNKNOWN_VOTER
from evals.votes.training_prompts import no_training_record
from evals.votes.votes import Votes, first_score, from_rows
from models.database import Database, utcnow
from models.errors import Conflict, Invalid, NotFound

_FILES = ("campaign.json", "prompts.jsonl", "pairs.jsonl", "votes.jsonl", "recordings.jsonl", "report.json")
_MANIFEST = "manifest.json"
_TIMES = ("created", "opens", "closes", "opened", "closed")


@dataclass(frozen=True)
class CheckedBundle:
    """A bundle that was checked: its campaign, its number of rated votes, and its report in words."""

    campaign: Campaign
    votes: int
    text: str
    report: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The checked report as plain JSON values."""
        return {"checked": True, **self.report}


def write_bundle(database: Database, name: str, path: Path) -> int:
    """Writes a campaign to a new folder, or to a new .zip file; returns the number of rated votes.

    Raises:
        NotFound: there is no such campaign.
        Conflict: `path` exists.
    """
    if path.exists():
        raise Conflict(f"{path} exists already: choose another name.", param="file")
    campaign = load_campaign(database, name)
    exported = utcnow()
    folder = path.with_name(f".{path.name}.pending")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        contents = _contents(database, campaign)
        report = _report(campaign, contents["votes.jsonl"], contents["pairs.jsonl"], exported)
        _write_json(folder / "campaign.json", campaign.to_json())
        for file, rows in contents.items():
            (folder / file).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        _write_json(folder / "report.json", report)
        manifest = {
            "format": 1,
            "exported": exported.isoformat(),
            "versions": {each: version(each) for each in ("parley", "numpy", "scipy")}
            | {"python": platform.python_version()},
            "sha256": {file: _sha256((folder / file).read_bytes()) for file in _FILES},
        }
        _write_json(folder / _MANIFEST, manifest | {"seal": _seal(manifest)})
        if path.suffix.lower() == ".zip":
            packed = folder.with_suffix(".packed")
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in (*_FILES, _MANIFEST):
                    archive.write(folder / file, file)
            packed.rename(path)
        else:
            folder.rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(report["votes"])


def check_bundle(path: Path) -> CheckedBundle:
    """Checks every file's hash, and computes the verdicts again from the votes.

    Raises:
        NotFound: there is no such file or folder.
        Invalid: it is no bundle, a byte was changed, or its votes do not give its verdict.
    """
    files = _read(path)
    manifest = _json(files, _MANIFEST)
    sealed = {name: value for name, value in manifest.items() if name != "seal"}
    if manifest.get("seal") != _seal(sealed) or files[_MANIFEST] != _json_bytes(manifest):
        raise Invalid(f"{_MANIFEST} in {path} was changed after the export: do not rely on it.", param="file")
    for file in _FILES:
        if _sha256(files.get(file, b"")) != manifest.get("sha256", {}).get(file):
            raise Invalid(f"{file} in {path} was changed after the export: do not rely on its verdict.", param="file")
    stored = _json(files, "campaign.json")
    campaign = _campaign(stored)
    votes, pairs = (_jsonl(files[file]) for file in ("votes.jsonl", "pairs.jsonl"))
    for recording in _jsonl(files["recordings.jsonl"]):
        if not is_unchanged(recording):
            raise Invalid(f"The recording of {recording['model']} in {path} does not have its hash.", param="file")
    report = _report(campaign, votes, pairs, datetime.fromisoformat(manifest["exported"]))
    expected = _json(files, "report.json")
    if json.loads(json.dumps(report)) != expected:
        raise Invalid(
            f"The votes in {path} do not give the verdict in it. It was written by {manifest['versions']}.",
            param="file",
        )
    return CheckedBundle(campaign, int(report["votes"]), str(report["text"]), report)


def _contents(database: Database, campaign: Campaign) -> dict[str, list[dict[str, Any]]]:
    """The rows of the JSONL files. Voters are numbered in the order of their first vote."""
    query = (
        select(VoteRow, BattleRow, PairRow, PromptRow)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(BattleRow.campaign == campaign.name)
        .order_by(VoteRow.created, VoteRow.battle_id)
    )
    criteria_of = (
        select(CriterionVoteRow)
        .join(BattleRow, BattleRow.id == CriterionVoteRow.battle_id)
        .where(BattleRow.campaign == campaign.name)
        .order_by(CriterionVoteRow.battle_id, CriterionVoteRow.criterion)
    )
    prompts: dict[str, dict[str, Any]] = {}
    pairs: dict[str, dict[str, Any]] = {}
    voters: dict[str, str] = {}
    criteria: dict[str, dict[str, str]] = {}
    votes = []
    with database.read() as session:
        for row in session.scalars(criteria_of):
            criteria.setdefault(row.battle_id, {})[row.criterion] = row.choice
        query = query.where(no_training_record(session))
        conditions = (*counted(), BattleRow.again.is_(False))
        rated = set(session.scalars(query.with_only_columns(VoteRow.battle_id).where(*conditions)))
        for vote, battle, pair, prompt in session.execute(query):
            prompts[prompt.id] = {
                "id": prompt.id,
                "sha256": prompt.digest,
                "messages": prompt.messages,
                "category": prompt.category,
            }
            pairs[pair.id] = {
                "id": pair.id,
                "prompt": prompt.id,
                "model_1": pair.model_1,
                "model_2": pair.model_2,
                "answer_1": pair.answer_1,
                "answer_2": pair.answer_2,
            }
            unknown = vote.voter == UNKNOWN_VOTER
            votes.append(
                {
                    "id": vote.battle_id,
                    "pair": pair.id,
                    "voter": UNKNOWN_VOTER if unknown else voters.setdefault(vote.voter, f"voter {len(voters) + 1}"),
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
    return {
        "prompts.jsonl": list(prompts.values()),
        "pairs.jsonl": list(pairs.values()),
        "votes.jsonl": votes,
        "recordings.jsonl": [bundle_row(database, each) for each in sorted(set(campaign.recordings.values()))],
    }


def _report(
    campaign: Campaign, votes: list[dict[str, Any]], pairs: list[dict[str, Any]], now: datetime
) -> dict[str, Any]:
    """The report of a bundle's rows, read as they were at the export."""
    by_id = {pair["id"]: pair for pair in pairs}
    rated = [vote for vote in votes if vote["rated"]]
    overall = _votes(by_id, ((vote, vote["choice"]) for vote in rated))
    by_criterion = {
        criterion: _votes(by_id, ((v, v["criteria"][criterion]) for v in rated if criterion in v["criteria"]))
        for criterion in campaign.criteria
    }
    report = report_of(campaign, overall, by_criterion, now)
    return report.to_json() | {"campaign": campaign.name}


def _votes(pairs: Mapping[str, dict[str, Any]], rows: Iterable[tuple[dict[str, Any], str]]) -> Votes:
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


def _campaign(stored: dict[str, Any]) -> Campaign:
    values: dict[str, Any] = {name: stored[name] for name in Campaign.__dataclass_fields__}
    values |= {name: datetime.fromisoformat(values[name]) for name in _TIMES if values[name]}
    values |= {"models": tuple(values["models"]), "criteria": tuple(values["criteria"])}
    return Campaign(**values)


def _read(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return {file: (path / file).read_bytes() for file in (*_FILES, _MANIFEST) if (path / file).is_file()}
    if not path.is_file():
        raise NotFound(f"There is no file or folder {path}.", param="file")
    try:
        with zipfile.ZipFile(path) as archive:
            return {file: archive.read(file) for file in (*_FILES, _MANIFEST) if file in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error) as error:
        raise Invalid(f"{path} was changed or is not a zip file: {error}.", param="file") from error


def _json(files: Mapping[str, bytes], file: str) -> dict[str, Any]:
    try:
        return json.loads(files[file])
    except (KeyError, ValueError) as error:
        raise Invalid(
            f"{file} is missing or was changed: this is no whole export of a campaign.", param="file"
        ) from error


def _jsonl(content: bytes) -> list[dict[str, Any]]:
    # Not splitlines(), which also splits at U+2028, which a JSON string may contain.
    return [json.loads(line) for line in content.decode().split("\n") if line]


def _write_json(path: Path, value: Any) -> None:
    path.write_bytes(_json_bytes(value))


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _seal(manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of the manifest's own values."""
    return _sha256(json.dumps(dict(manifest), sort_keys=True).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
