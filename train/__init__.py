"""Training: conversations in, a model that can be served out.

    from train import check, train

    report = check("conversations.jsonl")          # every problem, with its line and what mends it
    result = train("conversations.jsonl", base="demo-base", name="shop-v1", settings=settings)
    print(result.loss_before, "→", result.loss_after, result.spec)

| name | what it does |
|---|---|
| `check` | reads training data of any known format and says what is wrong with it, line by line |
| `convert`, `split` | any format into OpenAI's chat JSONL; training and validation parts, by seed |
| `count` | tokens by a model's own vocabulary: all, and those that are learnt |
| `quote`, `find_price` | what training would cost at a provider, from a dated table |
| `plan`, `compare_with_run` | the memory and time that a local run needs; the plan beside what a run used |
| `synthesise`, `SynthesisOptions` | more examples like yours, written by any served model |
| `advise` | whether to start with a prompt, retrieval or fine-tuning, and why |
| `train` | SFT on the assistant's words only, or DPO on pairs; LoRA, QLoRA or every weight; publishes the result |
| `resume` | goes on with a run that was interrupted, to the very same end |
| `open_cloud`, `submit_job`, `follow` | training at OpenAI or Together AI, with exactly one job |
| `plan_rescue`, `carry_out` | retrains a fine-tune of OpenAI here: the plan, and its execution |
| `merge` | base + adapter → plain weights, refused where the two do not say the same |
| `publish` | puts a finished run's adapter, or its merged weights, into the registry, whole or not at all |
| `check_model` | compares a registered model with float32 base + adapter, here and through vLLM, and lists it |
| `write_card`, `read_curves` | a model's card and its curves, from what the run left |
| `prepare_push`, `push` | a model to a hub: what would go, then going |
| `Hyperparameters`, `Columns` | how to train; which columns of a CSV hold what |
| `Conversation`, `Example`, `Problem`, `CheckedData`, `TrainingResult` | the nouns |

This index is resolved lazily: `import train` loads neither torch nor transformers. The room imports only `models`.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "check": "data.checks", "CheckedData": "data.checks", "UnusableData": "data.checks",
    "Columns": "data.readers",
    "Conversation": "data.conversations", "Example": "data.conversations", "Problem": "data.conversations",
    "split": "data.splits", "Split": "data.splits", "Preference": "data.conversations",
    "convert": "data.conversion", "Converted": "data.conversion",
    "count": "planning.counting", "Counts": "planning.counting",
    "quote": "planning.pricing", "find_price": "planning.pricing", "Quote": "planning.pricing",
    "plan": "planning.plan", "Plan": "planning.plan",
    "compare_with_run": "planning.plan", "RunComparison": "planning.plan",
    "synthesise": "data.synthesis", "Synthesis": "data.synthesis", "SynthesisOptions": "data.synthesis_prompts",
    "advise": "data.advice", "Answers": "data.advice", "Advice": "data.advice",
    "Hyperparameters": "hyperparameters",
    "train": "training", "TrainingResult": "run.result",
    "resume": "training",
    "open_cloud": "clouds.providers", "submit_job": "clouds.submission", "CloudTraining": "clouds.offer",
    "follow": "clouds.follower",
    "plan_rescue": "clouds.rescue_plan", "RescueRequest": "clouds.rescue_plan", "carry_out": "clouds.rescue",
    "merge": "publication.merge", "MergeReport": "publication.merge",
    "publish": "publication.publish", "publish_merge": "publication.publish",
    "check_model": "publication.listing", "write_card": "publication.cards", "read_curves": "run.curves",
    "prepare_push": "publication.push", "push": "publication.push",
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'train' has no attribute {name!r}")
    return getattr(import_module(f"train.{_HOMES[name]}"), name)
