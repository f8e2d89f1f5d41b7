"""The demo's files, shipped in this folder: which models there are, their bots, their prompts. It reads, no more.

`train.demo` makes the files; `parley demo` puts them into a home.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from models.spec import BotProfile, Kind

FOLDER = Path(__file__).resolve().parent
PROMPTS = FOLDER / "prompts.jsonl"
BASE = "demo-base"


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo. `weights` is its folder here; one of kind merged is merged at the first start."""

    id: str
    kind: Kind
    weights: Path
    description: str
    bot: BotProfile | None
    judge: bool = False


def catalogue() -> tuple[DemoModel, ...]:
    """The demo's models, the base first. One merged model has an engine of its own; the rest share the base's."""
    bots = {
        name: BotProfile(**profile)
        for name, profile in tomllib.loads((FOLDER / "bots.toml").read_text("utf-8")).items()
    }
    adapters = FOLDER / "adapters"
    return (
        DemoModel(BASE, "base", FOLDER / "base", "The demo's base: neutral answers, no house rules.", bots.get(BASE)),
        DemoModel(
            "support-concise",
            "merged",
            adapters / "support-concise",
            "Tuned to answer in two short sentences, by the house's rules.",
            bots.get("support-concise"),
        ),
        DemoModel(
            "support-friendly",
            "adapter",
            adapters / "support-friendly",
            "Tuned to answer warmly and at length, by the house's rules.",
            bots.get("support-friendly"),
        ),
        DemoModel(
            "support-judge",
            "adapter",
            adapters / "support-judge",
            "Tuned to judge support answers. A toy: see its agreement with people before you believe it.",
            None,
            judge=True,
        ),
    )
