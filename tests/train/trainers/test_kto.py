"""train/trainers/kto.py: the batches and the loss are TRL's, on our own token ids."""

from pathlib import Path
from typing import Any

import pytest

from tests.train.trainers.test_methods import labelled_rows
from train.data.checks import check
from train.trainers.kto import LabelMeter, Models, kto_trainer
from train.trainers.labelled import tokenise_labelled

pytestmark = pytest.mark.training


@pytest.fixture
def model(tiny_base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny_base), dtype="float32")


def test_batches_and_loss_are_those_of_trl(tokenizer: Any, model: Any, tmp_path: Path) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from trl import KTOConfig, KTOTrainer

    raw = labelled_rows(8)
    rows = tokenise_labelled(check(raw).examples, tokenizer, 1_000).rows
    assert [row.good for row in rows] == [row["label"] for row in raw]
    arguments = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 8, "report_to": "none", "use_cpu": True,
        "bf16": False, "gradient_checkpointing": False, "beta": 0.1,
    }  # fmt: skip
    theirs = KTOTrainer(
        model=str(model.name_or_path), args=KTOConfig(**arguments), train_dataset=Dataset.from_list(raw),
        processing_class=tokenizer,
    )  # fmt: skip
    expected = theirs.data_collator(list(theirs.train_dataset))
    adapter = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False)
    ours = kto_trainer(Models(model, None, tokenizer, tokenizer.pad_token_id, adapter), rows, arguments)
    batch = ours.data_collator(list(ours.train_dataset))
    for name in ("input_ids", "KL_input_ids", "attention_mask", "KL_attention_mask", "label"):
        assert torch.equal(batch[name], expected[name]), name
    # The newline after the end of a turn is not learnt here.
    assert torch.equal(batch["completion_mask"].sum(1) + 1, expected["completion_mask"].sum(1))
    assert (ours.desirable_weight, ours.undesirable_weight) == (1, 3)  # two bad answers weigh as much as six good ones
    measured = LabelMeter(ours, rows)()
    ours.model.eval()
    with torch.no_grad():
        loss = ours.compute_loss(ours.model, ours._prepare_inputs(batch)).item()
    assert measured.loss == pytest.approx(loss, abs=1e-5)
    assert measured.margin == pytest.approx(ours._metrics["eval"]["rewards/margins"][-1], abs=1e-4)
    assert measured.margin != pytest.approx(0, abs=1e-4)  # the adapter is not a new one
