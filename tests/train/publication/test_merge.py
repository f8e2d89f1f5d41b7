"""train/publication/merge.py: merged weights answer like base and adapter, or nothing is written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from train.trainers.bases import find_base

pytestmark = pytest.mark.training


def test_merged_and_unmerged_agree_and_everything_travels(trained: Any, tiny_base: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from train import merge

    result, _ = trained
    # The line ends of Windows, as in the tokenizer_config.json of some models, make no other template.
    template = (tiny_base / "chat_template.jinja").read_text().replace("\n", "\r\n")
    report = merge(replace(find_base(tiny_base), chat_template=template), result.adapter, tmp_path / "merged")
    assert report.difference <= report.limit
    assert 1e-4 <= report.limit < 1e-2
    assert report.agreement > 0.95
    assert report.dtype == "bfloat16"
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert (tmp_path / "merged" / "chat_template.jinja").read_text() == (tiny_base / "chat_template.jinja").read_text()
    assert not list((tmp_path / "merged").glob("*.bin"))
    question = [{"role": "user", "content": "where is order 4031?"}]
    before, after = (AutoTokenizer.from_pretrained(str(folder)) for folder in (tiny_base, tmp_path / "merged"))
    assert before.apply_chat_template(
        question, add_generation_prompt=True, return_dict=False
    ) == after.apply_chat_template(question, add_generation_prompt=True, return_dict=False)
    merged = AutoModelForCausalLM.from_pretrained(str(tmp_path / "merged"), dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(str(tiny_base), dtype=torch.float32)
    changed = [
        name
        for (name, tensor), (_, other) in zip(merged.named_parameters(), base.named_parameters(), strict=True)
        if not torch.equal(tensor, other)
    ]
    assert len(changed) == 2 * 7  # every linear layer, and nothing else


def test_a_merge_that_does_not_agree_is_refused(
    trained: Any, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft

    from train.publication.merge import MergeRefused, merge

    result, _ = trained
    # As with a fault in a library, one weight is merged wrongly.
    honest = peft.PeftModel.from_pretrained

    def faulty(*arguments: Any, **options: Any) -> Any:
        model = honest(*arguments, **options)
        merge_and_unload = model.merge_and_unload

        def wrong() -> Any:
            merged = merge_and_unload()
            merged.model.layers[0].mlp.up_proj.weight.data[0, 0] += 0.5
            return merged

        model.merge_and_unload = wrong
        return model

    monkeypatch.setattr(peft.PeftModel, "from_pretrained", faulty)
    with pytest.raises(MergeRefused, match="logits differ"):
        merge(find_base(tiny_base), result.adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_merge_that_reads_back_differently_is_refused_and_removed(
    trained: Any, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train.publication.merge
    from train.publication.merge import MergeRefused, merge

    result, _ = trained
    honest = train.publication.merge.load_model

    def tampered(base: Any, *arguments: Any) -> Any:
        model = honest(base, *arguments)
        if base.location == str(tmp_path / "merged"):
            model.lm_head.weight.data[0] += 1
        return model

    monkeypatch.setattr(train.publication.merge, "load_model", tampered)
    with pytest.raises(MergeRefused, match="read back"):
        merge(find_base(tiny_base), result.adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
