"""Campaigns over scripted models for this folder's tests."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from evals.campaigns.ballots import Ballot, cast_vote
from evals.campaigns.battles import Battle, BattleOptions, next_battle
from evals.campaigns.campaign import Campaign, NewCampaign, PromptSource
from evals.campaigns.lifecycle import create_campaign, open_campaign
from models.chat.messages import Completer
from models.database import Database
from models.registry.registry import Registry, parse_spec
from tests.evals.scripted import Scripted, echo

MODELS = ("model-one", "model-two", "model-three")
MARKED = Scripted({"model-one": lambda q: f"α {q}", "model-two": lambda q: f"β {q}"})


def register(database: Database, *names: str, **fields: object) -> None:
    """Registers hosted models that receive no requests."""
    for name in names:
        upstream = {"base_url": "http://127.0.0.1:9/v1", "model": f"{name}-upstream"}
        Registry(database).register(parse_spec(id=name, kind="hosted", upstream=upstream, **fields))


def draft(database: Database, folder: Path, prompts: int = 6, models: tuple[str, ...] = MODELS, **fields) -> Campaign:
    """A campaign "acceptance" that has not opened."""
    known = {spec.id for spec in Registry(database).list()}
    register(database, *(name for name in models if name not in known and not name.endswith("@recorded")))
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Where is order {i}?"}) + "\n" for i in range(prompts)))
    values = {"name": "acceptance", "models": models, "prompts": PromptSource(file=file), "votes_per_pair": None}
    return create_campaign(database, NewCampaign(**values | {"access": "open"} | fields), folder)


def opened(database: Database, folder: Path, prompts: int = 6, models: tuple[str, ...] = MODELS, **fields) -> Campaign:
    """The same campaign, opened."""
    return open_campaign(database, draft(database, folder, prompts, models, **fields).name)


def battle(
    database: Database,
    voter: str = "ann",
    completer_for: Callable[[str], Completer] | None = None,
    name: str = "acceptance",
    **options,
) -> Battle:
    """The voter's next battle."""
    completer_for = completer_for or echo(*MODELS)
    return asyncio.run(next_battle(database, voter, completer_for, name, BattleOptions(**options)))


def voted_campaign(database: Database, folder: Path, prompts: int = 20) -> Database:
    """A campaign in which 6 people prefer the first of two models on these prompts, except in one vote each."""
    opened(database, folder, prompts, MODELS[:2], criteria=["tone"], reveal="never", votes_per_pair=6)
    for voter in (f"voter-{i}" for i in range(6)):
        for i in range(prompts):
            shown = battle(database, voter, MARKED)
            better = "α" if i < prompts - 1 else "β"
            choice = "left" if shown.left.startswith(better) else "right"
            cast_vote(database, shown.id, voter, choice, Ballot({"tone": "tie"}, "Clear."))
    return database
