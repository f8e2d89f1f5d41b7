"""Metrics of the demo's models on held-out questions: copying, topics, style, judging, tools. Greedy, in float32.

They are computed in the build; `bench/demo_model.py` measures the served models with the scorers of `evals`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.chat.judge_prompt import parse_pairwise
from train.demo.answers import count_topics, has_style
from train.demo.catalogue import Style
from train.demo.held_out import Prompt
from train.demo.judge_pairs import JudgedPair
from train.demo.tool_evaluation import ToolPrompt, parse_reply, summarise

_BATCH = 32
Turns = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class AnswerMetrics:
    """Shares (0 to 1) of held-out questions; `copied` of those whose answer must have a number."""

    questions: int
    numbers: int
    copied: float
    topics: float
    style: float
    words: float


@dataclass(frozen=True)
class JudgeMetrics:
    """Shares (0 to 1) of held-out pairs, each judged in both orders.

    `right`: right verdicts. `decisive`: the same without true ties. `flipped`: pairs whose two verdicts contradict each
    other. `chance`: the share of the most frequent verdict, which a constant judge would reach.
    """

    pairs: int
    right: float
    decisive: float
    flipped: float
    unparsed: float
    chance: float
    by_fault: Mapping[str, float]


@dataclass(frozen=True)
class GreedyModel:
    """A model in memory, with greedy decoding."""

    model: Any
    tokenizer: Any

    def __call__(
        self, talks: Sequence[Turns], longest: int = 160, tools: Sequence[Sequence[Any]] | None = None
    ) -> list[str]:
        """The answer to each conversation, at most `longest` tokens. `tools`: those of each conversation."""
        import torch

        offered = tools or [[] for _ in talks]
        texts = [
            self.tokenizer.apply_chat_template(
                list(talk), tools=list(own) or None, tokenize=False, add_generation_prompt=True
            )
            for talk, own in zip(talks, offered, strict=True)
        ]
        order = sorted(range(len(talks)), key=lambda place: len(texts[place]))
        answers: dict[int, str] = {}
        self.tokenizer.padding_side = "left"
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            batch: Any = self.tokenizer([texts[place] for place in places], padding=True, return_tensors="pt")
            with torch.inference_mode():
                ids = self.model.generate(**batch, max_new_tokens=longest, do_sample=False)
            for place, row in zip(places, ids[:, batch["input_ids"].shape[1] :], strict=True):
                answers[place] = self.tokenizer.decode(row, skip_special_tokens=True).strip()
        return [answers[place] for place in range(len(talks))]


def load(base: Path, adapter: Path | None = None) -> GreedyModel:
    """The base, or the base with an adapter on it, from their bf16 files."""
    import torch
    from transformers import AutoModelForCausalLM

    from train.demo.base import load_tokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    return GreedyModel(model.eval(), load_tokenizer(base))


def measure_answers(
    speak: Callable[[Sequence[Turns]], list[str]], prompts: Sequence[Prompt], style: Style
) -> AnswerMetrics:
    """The metrics of a model's answers to held-out questions."""
    texts = speak([prompt.messages for prompt in prompts])
    both = list(zip(prompts, texts, strict=True))
    numbered = [(prompt.number, text) for prompt, text in both if prompt.number]
    topical = [count_topics(text, prompt.topics) / len(prompt.topics) for prompt, text in both if prompt.topics]
    return AnswerMetrics(
        questions=len(prompts),
        numbers=len(numbered),
        copied=_mean([copies(number, text) for number, text in numbered]),
        topics=_mean(topical),
        style=_mean([has_style(text, style) for text in texts]),
        words=_mean([len(text.split()) for text in texts]),
    )


def measure_judge(speak: Callable[[Sequence[Turns], int], list[str]], pairs: Sequence[JudgedPair]) -> JudgeMetrics:
    """The metrics of a judge's verdicts, in both orders."""
    shown = [*pairs, *(pair.turned() for pair in pairs)]
    talks = [[{"role": turn.role, "content": turn.content} for turn in pair.messages()] for pair in shown]
    parsed = [parse_pairwise(text) for text in speak(talks, 260)]
    verdicts = [judgment.verdict if judgment else None for judgment in parsed]
    right = [verdict == pair.verdict for verdict, pair in zip(verdicts, shown, strict=True)]
    by_fault: dict[str, list[bool]] = defaultdict(list)
    for pair, is_right in zip(shown, right, strict=True):
        by_fault["tie" if pair.verdict == "tie" else pair.fault].append(is_right)
    turn = {"A": "B", "B": "A", "tie": "tie", None: None}
    flips = [
        first != turn[second] for first, second in zip(verdicts[: len(pairs)], verdicts[len(pairs) :], strict=True)
    ]
    truth = [pair.verdict for pair in shown]
    return JudgeMetrics(
        pairs=len(pairs),
        right=_mean(right),
        decisive=_mean([is_right for is_right, pair in zip(right, shown, strict=True) if pair.verdict != "tie"]),
        flipped=_mean(flips),
        unparsed=_mean([judgment is None for judgment in parsed]),
        chance=max(truth.count(verdict) for verdict in ("A", "B", "tie")) / len(truth),
        by_fault={fault: _mean(marks) for fault, marks in sorted(by_fault.items())},
    )


def measure_tools(speak: GreedyModel, prompts: Sequence[ToolPrompt]) -> dict[str, dict[str, float]]:
    """For each kind of request, the shares of answers with the right form, function and content."""
    texts = speak([prompt.messages for prompt in prompts], 80, [prompt.tools for prompt in prompts])
    return summarise(prompts, [parse_reply(text) for text in texts])


def copies(number: str, text: str) -> bool:
    """Whether the text has the whole number, and no other long number."""
    whole = re.search(rf"(?<![\w-]){re.escape(number)}(?![\w-])", text) is not None
    others = [other for other in re.findall(r"[\w-]*\d{5,}[\w-]*", text) if other != number]
    return whole and not others


def as_dict(metrics: AnswerMetrics | JudgeMetrics) -> dict[str, Any]:
    """The metrics, rounded to four places, for a JSON file."""
    return {name: _rounded(value) for name, value in asdict(metrics).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _mean(values: Sequence[float | bool]) -> float:
    return sum(values) / len(values) if values else 0.0
