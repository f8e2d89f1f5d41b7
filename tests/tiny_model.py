"""Writes a tiny random model (Qwen2's shape) and LoRA adapters on it, for tests that need an engine only.

A servable folder takes about a second. The answers are noise; tests that read answers use the demo model.
"""

from __future__ import annotations

import json
from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def make_base(folder: Path, *, seed: int = 0, max_position_embeddings: int = 2048) -> Path:
    """Write a random base of about 200,000 parameters with a byte-level tokenizer and return its folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment] -- tokenizers' stubs call it read-only
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment] -- tokenizers' stubs call it read-only
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    wrapped.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(str(folder))
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(wrapped),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=True,
        initializer_range=0.3,  # at the usual 0.02 it would only repeat its last token
        eos_token_id=wrapped.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=wrapped.convert_tokens_to_ids("<|endoftext|>"),
    )
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(str(folder), safe_serialization=True)
    return folder


def make_adapter(folder: Path, base: Path, *, rank: int = 8, seed: int = 1) -> Path:
    """Write a random LoRA adapter (all attention projections) in PEFT's format and return its folder."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((base / "config.json").read_text())
    width, heads, groups = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    out = {"q_proj": width, "k_proj": width // heads * groups, "v_proj": width // heads * groups, "o_proj": width}
    torch.manual_seed(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, size in out.items():
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{stem}.lora_A.weight"] = torch.randn(rank, width, dtype=torch.bfloat16)
            weights[f"{stem}.lora_B.weight"] = torch.randn(size, rank, dtype=torch.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, str(folder / "adapter_model.safetensors"))
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": str(base),
                "r": rank,
                "lora_alpha": 2 * rank,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": sorted(out),
            }
        )
    )
    return folder
