"""Writes the tiny base of the tests as a GGUF file, as llama.cpp's converter would."""

import json
from pathlib import Path

_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "model.layers": "blk",
}  # fmt: skip


def write_gguf(base: Path, file: Path, quantisation: str = "F32", *, bos: bool = False) -> Path:
    """Writes a folder of Qwen2's shape as one GGUF file.

    `quantisation`: of its matrices, a name of gguf's types. `bos`: a text begins with a token of its own.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quants
    from safetensors.torch import load_file

    config = json.loads((base / "config.json").read_text())
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer = GGUFWriter(str(file), "qwen2")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_scores([0.0] * len(tokens))  # instead of merges, of which this vocabulary has none
    writer.add_bos_token_id(vocabulary["<|im_start|>"])
    writer.add_add_bos_token(bos)
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template((base / "chat_template.jinja").read_text())
    for name, tensor in load_file(base / "model.safetensors").items():
        for theirs, ours in _NAMES.items():
            name = name.replace(theirs, ours)
        values = tensor.float().numpy()
        kind = GGMLQuantizationType[quantisation if values.ndim == 2 else "F32"]
        writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
