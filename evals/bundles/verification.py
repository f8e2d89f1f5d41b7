"""A bundle's verdicts computed again from its votes on any machine, and compared to the last digit."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evals.bundles.bundle_content import OVERALL, verdict_by_rule
from evals.bundles.bundle_files import BundleFiles, read_files, versions
from evals.ratings.verdict import Verdict
from evals.recordings.recording_store import answers_sha256
from evals.votes.prompts import prompt_digest
from evals.votes.votes import Votes, first_score, from_rows
from models.errors import Invalid
from models.messages import Message


@dataclass(frozen=True)
class BundledVerdict:
    """A verdict that was computed from a bundle; `question` is "overall" or a criterion."""

    question: str
    verdict: Verdict


@dataclass(frozen=True)
class Verification:
    """The verdicts of an unchanged bundle, and its SHA-256, to compare with the one that the exporter has published."""

    sha256: str
    votes: int
    verdicts: tuple[BundledVerdict, ...]


def verify_bundle(path: Path) -> Verification:
    """Checks every file, and computes the verdicts again.

    Raises:
        NotFound: there is no bundle.
        Invalid: something was changed, does not fit together, or gives another verdict; the message says what.
    """
    bundle = read_files(path)
    try:
        _check_prompts(bundle)
        _check_recordings(bundle)
        questions = _votes_by_question(bundle)
        verdicts = tuple(_verdict(entry, questions, bundle) for entry in bundle.value("verdicts.json"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, Invalid):
            raise
        raise Invalid(f"{path} is not a whole bundle: {type(error).__name__} at {error}.", param="file") from error
    return Verification(bundle.sha256, len(bundle.rows("votes.jsonl")), verdicts)


def _verdict(entry: dict[str, Any], questions: dict[str, Votes], bundle: BundleFiles) -> BundledVerdict:
    stored = entry["verdict"]
    votes = questions.get(entry["question"]) or from_rows([])
    computed = verdict_by_rule(votes, stored["model_a"], stored["model_b"], entry["rule"])
    values = json.loads(json.dumps(computed.to_json()))
    if values != stored:
        different = sorted(name for name in {*values, *stored} if values.get(name) != stored.get(name))
        theirs, ours = bundle.manifest.get("versions"), versions()
        hint = "" if theirs == ours else f" It was exported with {_listed(theirs)}; here are {_listed(ours)}."
        raise Invalid(
            f"The verdict on {stored['model_a']} and {stored['model_b']} is not the one in the bundle: "
            f"{', '.join(different)} differ.{hint}",
            param="file",
        )
    return BundledVerdict(entry["question"], computed)


def _votes_by_question(bundle: BundleFiles) -> dict[str, Votes]:
    """The votes that count. Each must be a vote of votes.jsonl on a pair of pairs.jsonl."""
    pairs = {pair["id"]: pair for pair in bundle.rows("pairs.jsonl")}
    cast: Counter[tuple[str, ...]] = Counter()
    for vote in bundle.rows("votes.jsonl"):
        for question, choice in {OVERALL: vote["choice"], **vote["criteria"]}.items():
            cast[_key(question, vote["pair_id"], vote["voter"], first_score(choice, vote["flipped"]))] += 1
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in bundle.rows("counted.jsonl"):
        pair = pairs[row["pair_id"]]
        key = _key(row["question"], row["pair_id"], row["voter"], row["score"])
        cast[key] -= 1
        fits = (pair["model_1"], pair["model_2"], pair["prompt_id"]) == (row["first"], row["second"], row["prompt_id"])
        if cast[key] < 0 or not fits:
            raise Invalid(f"counted.jsonl counts a vote of {row['voter']} that is not in votes.jsonl.", param="file")
        rows.setdefault(row["question"], []).append(row)
    return {question: _votes(of_question) for question, of_question in rows.items()}


def _key(question: str, pair_id: str, voter: str, score: float) -> tuple[str, ...]:
    return question, pair_id, voter, str(float(score))


def _votes(rows: Sequence[dict[str, Any]]) -> Votes:
    votes = from_rows((row["first"], row["second"], row["score"], row["prompt_id"], row["voter"]) for row in rows)
    place = {pair_id: i for i, pair_id in enumerate(dict.fromkeys(row["pair_id"] for row in rows))}
    return replace(
        votes,
        pair=np.array([place[row["pair_id"]] for row in rows], dtype=np.int64),
        both_bad=np.array([row["both_bad"] for row in rows], dtype=bool),
        first_left=np.array([row["first_left"] for row in rows], dtype=bool),
    )


def _check_prompts(bundle: BundleFiles) -> None:
    for prompt in bundle.rows("prompts.jsonl"):
        if prompt_digest([Message.model_validate(message) for message in prompt["messages"]]) != prompt["digest"]:
            raise Invalid(f"The prompt {prompt['id']} is not the one that its hash belongs to.", param="file")


def _check_recordings(bundle: BundleFiles) -> None:
    for name in bundle.files:
        if not name.startswith("recordings/"):
            continue
        first, *rows = bundle.rows(name)
        head = first["recording"]
        answers = [
            (row["prompt_sha256"], row["sample"], row["text"], row["finish_reason"], row["logprobs"]) for row in rows
        ]
        about = [head["model"], head["parameters"], head["samples"], head["prompts_hash"]]
        if answers_sha256(about, answers) != head["sha256"]:
            raise Invalid(f"The answers in {name} are not those that the recording's hash belongs to.", param="file")


def _listed(known: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in dict(known or {}).items())
