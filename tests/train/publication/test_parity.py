"""train/publication/parity.py and probes.py: what counts as equal, and which conversations are compared."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.database import utcnow
from models.spec import Parity, ServedParity
from tests.train.conftest import style_rows
from train import check
from train.data.conversations import Preference
from train.publication.comparison import judged
from train.publication.parity import (
    GreedyAnswer,
    ProbeOutputs,
    agreement,
    largest_difference,
    outputs,
    reference_outputs,
    same_greedy,
)
from train.publication.probes import ProbeSet, built_in, choose, load_probes, store_probes, tokenise_probes

pytestmark = pytest.mark.training


def probe_outputs(rows: list[list[float]], *greedy: GreedyAnswer) -> ProbeOutputs:
    return ProbeOutputs((torch.tensor(rows),), greedy)


def test_agreement_is_the_share_of_same_choices_and_the_mean_divergence() -> None:
    outputs = probe_outputs([[2.0, 0.0], [0.0, 1.0]])
    assert (agreement(outputs, outputs).top1, agreement(outputs, outputs).kl) == (1, 0)
    agreed = agreement(outputs, probe_outputs([[0.0, 2.0], [0.0, 1.0]]))
    assert agreed.top1 == 0.5
    p = math.e**2 / (1 + math.e**2)
    assert agreed.kl == pytest.approx(((2 * p - 1) * 2) / 2, rel=1e-5)
    # 20 and 20.1 are the same number in bfloat16, whose step is 0.125 there; 20 and 20.3 are not.
    close, far = probe_outputs([[20.0, 20.1]]), probe_outputs([[20.0, 20.3]])
    other = probe_outputs([[20.0, 0.0]])
    assert [agreement(it, other, torch.bfloat16).top1 for it in (close, far)] == [1, 0]
    assert agreement(close, other).top1 == 0
    assert largest_difference(outputs, probe_outputs([[2.0, 0.5], [0.0, 1.0]])) == 0.5
    assert math.isnan(largest_difference(outputs, probe_outputs([[math.nan, 0.0], [0.0, 1.0]])))


def test_greedy_answers_may_part_only_where_two_choices_are_as_good() -> None:
    def answer(*ids: int, margins: tuple[float, ...] = (1.0, 1.0, 1.0)) -> GreedyAnswer:
        return GreedyAnswer(ids, margins)

    def same(expected: GreedyAnswer, actual: GreedyAnswer) -> bool:
        return same_greedy(ProbeOutputs((), (expected,)), ProbeOutputs((), (actual,)), 1e-4) == (1, 1)

    assert same(answer(1, 2), answer(1, 2))
    assert not same(answer(1, 2), answer(1, 3))
    assert same(answer(1, 2, margins=(1.0, 1e-4, 1.0)), answer(1, 3))
    assert not same(answer(1, 2, margins=(1e-5, 1.0, 1.0)), answer(1, 3))
    assert not same(answer(1, 2), answer(1))  # one of them has ended
    assert same(answer(1, 2, margins=(1.0, 1e-5, 1.0)), answer(1))


def test_what_is_under_98_percent_or_no_number_is_refused() -> None:
    good = Parity(checked=utcnow(), probes=16, source="", tokens=100, dtype="bfloat16", agreement=0.98, kl=0)
    assert not judged(good).refused
    assert "97.0%" in judged(replace_agreement(good, 0.97)).refused
    assert judged(good.model_copy(update={"agreement": math.nan})).refused
    served = ServedParity(asked=16, same_text=1, tokens=100, agreement=0.9)
    assert "through vLLM" in judged(good.model_copy(update={"served": served})).refused


def replace_agreement(parity: Parity, agreement: float) -> Parity:
    return parity.model_copy(update={"agreement": agreement})


def test_held_out_conversations_are_the_probes_and_learnt_ones_fill_up(tmp_path: Path) -> None:
    examples = check(style_rows(200)).examples
    many = choose(examples[:100], examples[100:])
    assert (many.source, len(many.conversations)) == ("held-out conversations", 64)
    few = choose(examples[:4], examples[100:])
    assert (few.source, len(few.conversations)) == ("held-out and learnt conversations", 16)
    none = choose((), examples)
    assert none.source == "conversations of the training"
    store_probes(few, tmp_path)
    assert load_probes(tmp_path) == few
    assert load_probes(tmp_path / "elsewhere") == built_in()
    first = examples[0].conversation.messages
    pairs = choose((), [Preference(1, first[:1], first[1:], first[1:])])
    assert [message["role"] for message in pairs.conversations[0]["messages"]] == ["user", "assistant"]


def test_probes_are_the_template_and_the_answer_in_tokens(tokenizer: Any) -> None:
    probes = choose(check(style_rows(30)).examples, ())
    ready = tokenise_probes(probes, tokenizer, number=20, answer_tokens=8, context=500)
    assert len(ready) == 20
    text = tokenizer.decode(ready[0].prompt)
    assert text.startswith("<|im_start|>user\nwhere is order")
    assert text.endswith("<|im_start|>assistant\n")
    assert tokenizer.decode(ready[0].answer) == "It is on"
    assert ready[0].plain
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"order": 1}'}}
    tool = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": [call]},
                         {"role": "tool", "content": "x", "tool_call_id": "1"}, {"role": "assistant", "content": "y"}],
            "tools": [{"type": "function", "function": {"name": "look"}}]}  # fmt: skip
    (probe,) = tokenise_probes(ProbeSet("", (tool,)), tokenizer, number=20, answer_tokens=8, context=500)
    assert not probe.plain  # vLLM gets only plain text
    assert tokenise_probes(probes, tokenizer, number=20, answer_tokens=8, context=20) == ()


def test_the_reference_answers_questions_of_our_own_by_itself(tiny_base: Path, tokenizer: Any) -> None:
    from train.trainers.bases import find_base, load_model

    model = load_model(find_base(tiny_base), torch.float32, "cpu").eval()
    before = torch.get_num_threads()
    try:
        probes, expected = reference_outputs(
            model, tokenizer, replace(built_in(), conversations=built_in().conversations[:3]), 256
        )
        again = outputs(model, tokenizer, probes, greedy=3)
    finally:
        torch.set_num_threads(before)
    assert [probe.answer for probe in probes] == [spoken.ids for spoken in expected.greedy]
    assert same_greedy(expected, again, 0) == (3, 3)
    assert agreement(expected, again).top1 == 1
    # Its greedy tokens are its most likely ones with teacher forcing.
    assert all(
        bool((rows.argmax(-1) == torch.tensor(probe.answer)).all())
        for rows, probe in zip(expected.logits, probes, strict=True)
    )
