"""The demo's files in this folder: its models, their bots, its prompts.

`train.demo` creates the files; `parley demo` installs them in a home.
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
    """One model of the demo. `weights` is its folder here; a merged model is merged at the first start."""

    id: str
    kind: Kind
    weights: Path
    description: str
    bot: BotProfile | None
    judge: bool = False


def catalogue() -> tuple[DemoModel, ...]:
    """The demo's models, the base first. The merged model has an engine of its own; the others share the base's."""
    bots = {
        name: BotProfile(**profile)
        for name, profile in tomllib.loads((FOLDER / "bots.toml").read_text("utf-8")).items()
    }
    adapters = FOLDER / "adapters"
    return (
        DemoModel(BASE, "base", FOLDER / "base", "The demo's base: neutral answers, no house style.", bots.get(BASE)),
        DemoModel(
            "support-concise",
            "merged",
            adapters / "support-concise",
            "Fine-tuned to answer in two short sentences, in the house style.",
            bots.get("support-concise"),
        ),
        DemoModel(
            "support-friendly",
            "adapter",
            adapters / "support-friendly",
            "Fine-tuned to answer warmly and at length, in the house style.",
            bots.get("support-friendly"),
        ),
        DemoModel(
            "support-judge",
            "adapter",
            adapters / "support-judge",
            "Fine-tuned to judge support answers. A toy: check its agreement with people before you trust it.",
            None,
            judge=True,
        ),
    )
