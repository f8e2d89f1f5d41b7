"""A model's card: README.md in its folder, with Hugging Face's front matter, written from the run's files.

It describes the data, the method, hyperparameters with their reasons, curves, parity, evaluation and licence. It quotes
no line of the data and no path of this machine. No torch.
"""

import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.chat_templates.tokenizer_files import GENERATION_CONFIG
from models.errors import ParleyError
from models.files.atomic import atomic_write
from models.jobs.jobs import list_jobs
from models.quantities import count_noun
from models.registry.registry import Registry
from models.spec import ModelSpec, Parity
from train.hyperparameters import UNITS
from train.run.curves import draw_svg, read_curves
from train.run.folder import CONFIG, DATA, METRICS, RESULT

CARD, CURVES = "README.md", "curves.svg"
UNKNOWN = "unknown: ask the provider of the base before you share this model"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Licence:
    """The base's licence: its identifier on a hub (None if unknown), and a description."""

    identifier: str | None
    description: str


def write_card(folder: Path, spec: ModelSpec, registry: Registry) -> Path:
    """Writes README.md and, if the folder has the run's metrics, curves.svg; returns the card's path.

    Args:
        folder: the model's. spec: its registered or future spec.
        registry: where its base and its evaluations are looked up.
    """
    run = _Run(
        _read(folder / f"training-{RESULT}"), _read(folder / f"training-{CONFIG}"), _read(folder / f"training-{DATA}")
    )
    base = _base(spec, run, registry)
    metrics = folder / f"training-{METRICS}"
    if metrics.exists():
        atomic_write(folder / CURVES, draw_svg(read_curves(metrics), f"Loss of {spec.id}").encode())
    licence = licence_of(base.location)
    parts = [
        _front_matter(spec, base, licence, run),
        f"# {spec.id}",
        _opening(spec, base),
        _calling(spec, base, folder),
        *([_data(run), _method(run), _curves(run, metrics.exists())] if run.result else []),
        _parity(spec),
        _evaluation(spec, registry),
        f"## Licence\n\nOf the base, {base.name}: {licence.description}.",
        "_Parley wrote this card from the records of the training run._",
    ]
    path = folder / CARD
    atomic_write(path, ("\n\n".join(part for part in parts if part) + "\n").encode())
    return path


def licence_of(location: str) -> Licence:
    """The licence of a base, from its folder or its hub page; "unknown" if neither states one."""
    folder = Path(location)
    card = None
    if folder.is_dir():
        with suppress(OSError):
            card = (folder / CARD).read_text("utf-8")
    elif _HUB_ID.fullmatch(location):
        card = _hub_card(location)
    name = _front(card or "").get("license")
    if isinstance(name, str) and name and name != "unknown":
        return Licence(name, f"{name}, as its card says")
    if folder.is_dir() and any(folder.glob("LICENSE*")):
        return Licence("other", "see the LICENSE file in its folder")
    return Licence(None, UNKNOWN)


@dataclass(frozen=True)
class _Base:
    name: str
    location: str


@dataclass(frozen=True)
class _Run:
    result: dict[str, Any]
    config: dict[str, Any]
    data: dict[str, Any]


def _base(spec: ModelSpec, run: _Run, registry: Registry) -> _Base:
    name = spec.base or spec.id
    try:
        return _Base(name, str(registry.resolve(name).path))
    except ParleyError:
        return _Base(name, str(run.result.get("base_location", name)))


def _front_matter(spec: ModelSpec, base: _Base, licence: Licence, run: _Run) -> str:
    from huggingface_hub import ModelCardData

    adapter = spec.kind == "adapter"
    values: dict[str, Any] = {
        "base_model": base.location if _HUB_ID.fullmatch(base.location) else base.name,
        "base_model_relation": "adapter" if adapter else "finetune",
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "license": licence.identifier or "unknown",
        "tags": ["parley", "conversational", run.result.get("method", "sft"), *(["lora"] if adapter else [])],
    }
    return f"---\n{ModelCardData(**values).to_yaml()}\n---"


def _opening(spec: ModelSpec, base: _Base) -> str:
    what = {
        "adapter": f"A LoRA adapter on **{base.name}**",
        "merged": f"**{base.name}**, fine-tuned, as whole weights",
    }.get(spec.kind, "A chat model")
    text = f"{what}, made {spec.created:%Y-%m-%d}. {spec.description}".strip()
    return text + ("\n\n> A toy for demonstration: too small to be reliable." if spec.toy else "")


def _calling(spec: ModelSpec, base: _Base, folder: Path) -> str:
    lines = [
        "## How to use it",
        "",
        "With Parley, or any OpenAI-compatible server that serves it under this name:",
        "",
        "```python",
        "from openai import OpenAI",
        "",
        'client = OpenAI(base_url="http://localhost:8000/v1", api_key="…")',
        'messages = [{"role": "user", "content": "Hello!"}]',
        f'answer = client.chat.completions.create(model="{spec.id}", messages=messages)',
        "print(answer.choices[0].message.content)",
        "```",
        "",
    ]
    if spec.kind == "adapter":
        lines.append(
            "With vLLM: `vllm serve BASE --enable-lora --lora-modules NAME=FOLDER --chat-template "
            f"FOLDER/chat_template.jinja`, where BASE is {base.name}. This folder holds the chat template of the "
            "training."
        )
        if (folder / GENERATION_CONFIG).is_file():
            lines.append(
                "Add `--generation-config FOLDER`: the template ends an answer with a token at which the base does not "
                "stop."
            )
    else:
        lines.append("With vLLM: `vllm serve FOLDER`. The folder holds the chat template of the training.")
    return "\n".join(lines)


def _data(run: _Run) -> str:
    result, data = run.result, run.data
    file = Path(str(data.get("file") or run.config.get("data") or "")).name or "data in memory"
    digest = data.get("file_sha256") or data.get("examples_sha256")
    severities = Counter(problem.get("severity", "") for problem in result.get("problems", ()))
    counts = ", ".join(f"{count_noun(count, name)}" for name, count in sorted(severities.items()))
    kinds = Counter(problem["code"] for problem in result.get("problems", ()) if problem.get("code"))
    unit = UNITS.get(result.get("method", "sft"), "conversations").removesuffix("s")
    rows = [
        ("file", f"`{file}`"),
        ("fingerprint", f"`sha256:{digest}`" if digest else "not recorded"),
        ("training examples", count_noun(result["examples"], unit)),
        ("held-out examples", f"{result['validation_examples']:,}"),
        ("tokens over all epochs", f"{result['tokens']:,}, {result['learnt_tokens']:,} of them in answers"),
        ("problems found", (counts or "none") + "".join(f"; {kind}: {count}" for kind, count in kinds.most_common(8))),
    ]
    return "## Data\n\n" + _table(("", ""), rows)


def _method(run: _Run) -> str:
    result = run.result
    values, reasons = result["hyperparameters"], result.get("reasons", {})
    method = {
        "dpo": "Direct preference optimisation (DPO) on pairs of answers",
        "kto": "Kahneman-Tversky optimisation (KTO) on answers labelled good or bad",
    }.get(result.get("method", "sft"), "Supervised fine-tuning on the assistant's messages only")
    tune = {"full": "all weights", "qlora": "a QLoRA adapter"}.get(values.get("tune", "lora"), "a LoRA adapter")
    left_out = {"method"} if result.get("method") in ("dpo", "kto") else {"method", "beta"}
    rows = [
        (name.replace("_", " "), _value(value), reasons.get(name, ""))
        for name, value in values.items()
        if name not in left_out
    ]
    text = f"{method}; trained: {tune}. {count_noun(result['steps'], 'step')} in {result['seconds']:,.0f} s."
    return f"## Method\n\n{text}\n\n" + _table(("hyperparameter", "value", "why"), rows)


def _curves(run: _Run, drawn: bool) -> str:
    result = run.result
    measured = "held-out" if result["measured_on"] == "validation" else "training"
    text = f"Loss on {measured} examples: {result['loss_before']:.3f} → {result['loss_after']:.3f} (lower is better)."
    return "## Curves\n\n" + text + (f"\n\n![Training and validation loss]({CURVES})" if drawn else "")


def _parity(spec: ModelSpec) -> str:
    parity = spec.parity
    if parity is None:
        return "## Parity\n\nNot measured."
    rows = [
        ("compared on", f"{parity.probes} probes ({parity.source}), {parity.tokens:,} positions"),
        (f"same top token in {parity.dtype}", f"{parity.agreement:.2%}"),
        ("mean divergence", f"{parity.kl:.2g} nats per token"),
    ]
    if parity.difference is not None:
        rows.insert(
            1, ("largest difference of a logit in float32", f"{parity.difference:.2g}, {parity.limit:.2g} allowed")
        )
        rows.insert(2, ("same greedy answers in float32", parity.same_greedy))
    rows.append(("through vLLM", _served(parity)))
    verdict = f"**Refused**: {parity.refused}." if parity.refused else "Passed: at least 98 % is required."
    return f"## Parity\n\nThe published weights against float32 base + adapter. {verdict}\n\n" + _table(("", ""), rows)


def _served(parity: Parity) -> str:
    served = parity.served
    if served is None:
        return f"not compared: {parity.not_served or 'not yet'}"
    identical = f"{served.same_text} of {served.asked} answers are identical"
    return f"{served.agreement:.2%} of {served.tokens:,} tokens are the same; {identical}"


def _evaluation(spec: ModelSpec, registry: Registry) -> str:
    rows = []
    with suppress(ParleyError):
        for job in list_jobs(registry.database, "judge", limit=200):
            judged = job.result or {}
            models = (judged.get("model_a"), judged.get("model_b"))
            if job.status != "succeeded" or spec.id not in models or judged.get("win_rate") is None:
                continue
            rate, low, high = judged["win_rate"], judged["low"], judged["high"]
            if spec.id == models[0]:
                rate, low, high = 1 - rate, 1 - high, 1 - low
            other = models[0] if spec.id == models[1] else models[1]
            warning = "" if judged.get("trusted") else ", a judge with low measured agreement with people"
            interval = f"{rate:.0%} ({low:.0%} to {high:.0%}) of {judged.get('judged', 0)} pairs"
            rows.append((f"preferred to {other}", interval, f"{judged.get('judge')}{warning}"))
    if not rows:
        return "## Evaluation\n\nNo evaluation is recorded."
    return "## Evaluation\n\n" + _table(("", "95 % interval", "judged by"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(str(cell)) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _front(card: str) -> dict[str, Any]:
    """A card's front matter; empty if it has none or is unreadable."""
    import yaml

    match = re.match(r"---\s*\n(.*?)\n---", card, re.DOTALL)
    try:
        values = yaml.safe_load(match.group(1)) if match else {}
    except yaml.YAMLError:
        return {}
    return values if isinstance(values, dict) else {}


def _hub_card(repo: str) -> str | None:
    """The hub page's card; None if the hub is unreachable, because a card must not make a publication fail."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, CARD, etag_timeout=5)).read_text("utf-8")
    except Exception:
        return None
