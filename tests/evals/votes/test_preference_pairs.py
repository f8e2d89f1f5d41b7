"""Votes as preference pairs: decisive, by majority, never held out; `datasets` loads them."""

import asyncio
import json
from pathlib import Path

import pytest

from evals.campaigns.ballots import cast_vote
from evals.votes.preference_pairs import export_preferences, preferences
from evals.votes.prompts import add_prompts
from models.database import Database
from tests.evals.battles import next_battle
from tests.evals.scripted import Scripted
from tests.stack import ROOT

MODELS = ["model-one", "model-two"]
COMPLETERS = Scripted({"model-one": lambda q: f"1 {q}", "model-two": lambda q: f"2 {q}"})


def vote(database: Database, voter: str, better: str | None) -> None:
    """Takes the side that begins with `better`; None is a tie."""
    shown = asyncio.run(next_battle(database, voter, COMPLETERS, MODELS))
    choice = "both_bad" if better is None else "left" if shown.left.startswith(better) else "right"
    cast_vote(database, shown.id, voter, choice)


@pytest.mark.long
def test_the_majority_decides(any_database: Database) -> None:
    add_prompts(any_database, [{"prompt": "Open?", "category": "hours"}], "test")
    for voter, better in (("ann", "2"), ("bob", "2"), ("cem", "1"), ("dia", None)):
        vote(any_database, voter, better)
    (row,) = preferences(any_database)
    assert row["prompt"] == [{"role": "user", "content": "Open?"}]
    assert row["chosen"] == [{"role": "assistant", "content": "2 Open?"}]
    assert row["rejected"] == [{"role": "assistant", "content": "1 Open?"}]
    assert (row["chosen_model"], row["votes"], row["margin"]) == ("model-two", 4, 0.125)


def test_ties_and_held_out_prompts_are_left_out(database: Database, tmp_path: Path) -> None:
    add_prompts(database, [{"prompt": "Held out?", "held_out": True}], "test")
    vote(database, "ann", "1")
    add_prompts(database, [{"prompt": "Open?"}], "test")
    vote(database, "ann", "1")
    vote(database, "bob", None)
    vote(database, "bob", "2")
    pairs = preferences(database)
    assert all(row["prompt"][0]["content"] == "Open?" for row in pairs)
    path = tmp_path / "pairs.jsonl"
    assert export_preferences(database, path) == len(pairs)
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == pairs


@pytest.mark.training
def test_trl_accepts_the_exported_data_set(database: Database, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl.data_utils import apply_chat_template, is_conversational

    add_prompts(database, [{"prompt": f"Open {i}?"} for i in range(3)], "test")
    for _ in range(3):
        vote(database, "ann", "1")
    export_preferences(database, tmp_path / "pairs")
    rows = load_dataset(str(tmp_path / "pairs"), split="train")
    assert {"prompt", "chosen", "rejected", "voters", "margin", "source"} <= set(rows.column_names)
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "models" / "demo" / "base")
    for row in rows:
        pair = {name: row[name] for name in ("prompt", "chosen", "rejected")}
        assert is_conversational(pair)
        text = apply_chat_template(pair, tokenizer)
        assert row["prompt"][0]["content"] in text["prompt"]
        assert row["chosen"][0]["content"] in text["chosen"] != text["rejected"]
