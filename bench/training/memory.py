"""Peak memory of full tuning, LoRA and QLoRA, on a model large enough to dominate the libraries' own memory."""

import tempfile
from pathlib import Path
from typing import Any

from bench.training.throughput import MAX_LENGTH, select_rows
from models.demo import FOLDER

DEMO_BASE = FOLDER / "base"
TUNE_MODES = ("full", "lora", "qlora")
_SEED = 0


def measure_peak_memory(tune: Any, base: Path) -> int:
    """This process's peak memory in bytes over three steps of one tuning mode."""
    from train import Hyperparameters, train

    rows = select_rows(6, base)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        result = train(
            rows, base=base, out=Path(folder) / "run", validation=0, threads=1,
            hyperparameters=Hyperparameters(epochs=1, batch_size=2, max_length=MAX_LENGTH, tune=tune),
        )  # fmt: skip
    return int(result.peak_memory_bytes or 0)


def write_larger_model(folder: Path) -> int:
    """Writes a model with random weights and the demo's tokenizer; returns its number of parameters."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(str(DEMO_BASE))
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=2_048, num_hidden_layers=16,
        num_attention_heads=12, num_key_value_heads=4, max_position_embeddings=2_048, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(_SEED)
    model: Any = Qwen2ForCausalLM(config)
    model.to(torch.bfloat16)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return model.num_parameters()
