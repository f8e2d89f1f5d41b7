"""train/trainers/turn_end_labels.py: a base that has never learnt its template's end-of-turn token."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from train import Hyperparameters, train
from train.run.progress import Event, Stage
from train.trainers.labelled import LabelledRow
from train.trainers.pairs import Pair
from train.trainers.tokens import IGNORED, Row
from train.trainers.turn_end_labels import TurnEndLabel, find_turn_end_label, is_learnt

pytestmark = pytest.mark.training
RESERVED = 40
ANSWER = "It is on its way."


@pytest.fixture
def reserved_base(tiny_base: Path, tmp_path: Path) -> Path:
    """The tiny base with reserved tokens: the end of a turn and bytes that ASCII lacks have nearly one embedding."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "reserved"
    shutil.copytree(tiny_base, folder)
    model = AutoModelForCausalLM.from_pretrained(str(tiny_base), dtype=torch.float32)
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in tokens}
    weight = model.get_output_embeddings().weight.data
    weight[100 : 100 + RESERVED] = weight[ids["<|im_end|>"]] + 0.01 * torch.randn(RESERVED, weight.shape[1])
    weight[ids["<|endoftext|>"]] = 0.3 * torch.randn(weight.shape[1])  # zeros before, because it is the padding
    model.generation_config.eos_token_id = ids["<|endoftext|>"]
    model.save_pretrained(str(folder))
    return folder


def test_a_learnt_token_has_an_embedding_of_its_own() -> None:
    import torch

    torch.manual_seed(0)
    embeddings = torch.randn(300, 64) + 5  # a direction shared by all tokens does not count
    assert is_learnt(embeddings, 7)
    embeddings[100:130] = embeddings[7] + 0.05 * torch.randn(30, 64)
    assert not is_learnt(embeddings, 7)
    assert not is_learnt(embeddings.bfloat16(), 7)
    assert is_learnt(embeddings, 8)
    embeddings[8] = 0
    assert not is_learnt(embeddings, 8)


def test_a_label_changes_and_the_next_turn_still_follows_the_templates_token() -> None:
    label = TurnEndLabel(end=9, learnt=1)
    conversation = Row(1, [5, 6, 9, 5, 7, 9], [IGNORED, 6, 9, IGNORED, 7, 9])
    answer = Row(2, [5, 9, 6, 9], [IGNORED, IGNORED, 6, 9])
    changed = Row(2, [5, 9, 6, 1], [IGNORED, IGNORED, 6, 1])
    assert label.apply([conversation]) == [Row(1, [5, 6, 9, 5, 7, 9], [IGNORED, 6, 1, IGNORED, 7, 1])]
    assert label.apply([Pair(2, answer, answer)]) == [Pair(2, changed, changed)]
    assert label.apply([LabelledRow(2, answer.input_ids, answer.labels, good=False)]) == [
        LabelledRow(2, changed.input_ids, changed.labels, good=False)
    ]


def test_a_base_that_has_learnt_the_token_and_one_without_any_end_token(tiny_base: Path, reserved_base: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(tiny_base))
    assert find_turn_end_label(AutoModelForCausalLM.from_pretrained(str(tiny_base)), tokenizer) is None
    packed = torch.zeros(2**16, 1, dtype=torch.uint8)  # as bitsandbytes packs 4 bits
    for layer in (None, SimpleNamespace(), SimpleNamespace(weight=packed), SimpleNamespace(weight=packed.half()[:0])):
        quantised = SimpleNamespace(get_output_embeddings=lambda layer=layer: layer)
        assert find_turn_end_label(quantised, tokenizer) is None
    model = AutoModelForCausalLM.from_pretrained(str(reserved_base))
    end, other = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert find_turn_end_label(model, tokenizer) == TurnEndLabel(end, other)
    model.generation_config.eos_token_id = end  # the tokenizer's is the same
    assert find_turn_end_label(model, tokenizer) == TurnEndLabel(end, None)


def test_an_adapter_learns_to_end_its_answers(reserved_base: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stages: list[str] = []

    def collect(event: Event) -> None:
        if isinstance(event, Stage):
            stages.append(event.message)

    rows: Any = [{"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": ANSWER}]}] * 480
    values = Hyperparameters(epochs=1, rank=16, learning_rate=1e-2, batch_size=8, precision="fp32")
    result = train(rows, base=str(reserved_base), out=tmp_path / "run", hyperparameters=values, progress=collect)
    assert [
        text for text in stages if "not learnt the template's <|im_end|>" in text and "<|endoftext|> instead" in text
    ]
    tokenizer: Any = AutoTokenizer.from_pretrained(str(reserved_base))
    base = AutoModelForCausalLM.from_pretrained(str(reserved_base), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(result.adapter))
    prompt = tokenizer.apply_chat_template(
        rows[0]["messages"][:1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0][prompt["input_ids"].shape[1] :]
    assert tokenizer.decode(output) == f"{ANSWER}<|endoftext|>"
