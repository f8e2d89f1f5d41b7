"""Training: from conversations to a model that can be served.

    from train import check, train

    report = check("conversations.jsonl")          # every problem, with its line and a fix
    result = train("conversations.jsonl", base="demo-base", name="shop-v1", settings=settings)
    print(result.loss_before, "→", result.loss_after, result.model)

| name | what it does |
|---|---|
| `check` | reads training data of any known format and reports its problems, line by line |
| `convert`, `split` | any format to OpenAI's chat JSONL; training and validation parts, by seed |
| `count` | tokens by a model's tokenizer: all, and those that are learnt |
| `quote`, `find_price` | the cost of a training at a provider, from a dated table |
| `plan`, `compare_with_run` | the memory and time that a local run needs; the plan compared with a run |
| `synthesise`, `SynthesisOptions` | more examples like yours, written by any served model |
| `advise` | whether to start with a prompt, retrieval or fine-tuning, and why |
| `train`, `TrainingRequest` | SFT on the assistant's messages or DPO on pairs; LoRA, QLoRA or full tuning |
| `train_on_nodes`, `Node` | training on several machines, called on each |
| `resume` | continues an interrupted run, with the same result |
| `open_cloud`, `submit_job`, `follow` | training at OpenAI or Together AI, with exactly one job |
| `plan_rescue`, `carry_out` | retrains a fine-tune of OpenAI here: the plan, and its execution |
| `merge` | base + adapter → plain weights, refused if they do not match |
| `publish`, `Publication` | registers a finished run's adapter, or its merged weights, completely or not at all |
| `check_model` | compares a registered model with float32 base + adapter, here and through vLLM, and lists it |
| `write_card`, `read_curves` | a model's card, and a run's loss curves |
| `prepare_push`, `push` | the files of a model to push to a hub, and the push |
| `Hyperparameters`, `Columns` | how to train; the column names of a table |
| `Conversation`, `Example`, `Problem`, `CheckedData`, `TrainingResult` | data classes |

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
    "count": "planning.token_counts", "Counts": "planning.token_counts",
    "quote": "planning.pricing", "find_price": "planning.pricing", "Quote": "planning.pricing",
    "plan": "planning.plan", "Plan": "planning.plan",
    "compare_with_run": "planning.plan", "RunComparison": "planning.plan",
    "synthesise": "data.synthesis", "Synthesis": "data.synthesis", "SynthesisOptions": "data.synthesis_prompts",
    "advise": "data.advice", "Answers": "data.advice", "Advice": "data.advice",
    "Hyperparameters": "hyperparameters",
    "train": "training", "TrainingRequest": "request", "TrainingResult": "run.folder",
    "resume": "training", "train_on_nodes": "nodes", "Node": "run.node",
    "open_cloud": "clouds.providers", "submit_job": "clouds.submission",
    "follow": "clouds.follower",
    "plan_rescue": "clouds.rescue_plan", "RescueRequest": "clouds.rescue_plan", "carry_out": "clouds.rescue",
    "merge": "publication.merge", "MergeReport": "publication.merge",
    "publish": "publication.publish", "Publication": "publication.publish", "publish_merge": "publication.publish",
    "check_model": "publication.acceptance", "write_card": "publication.cards", "read_curves": "run.curves",
    "prepare_push": "publication.push", "push": "publication.push",
}  # fmt: skip

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'train' has no attribute {name!r}")
    return getattr(import_module(f"train.{_HOMES[name]}"), name)
