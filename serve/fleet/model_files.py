"""A model's files: its weights' sizes and kind, and its chat templates."""

import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from models.json_files import UNREADABLE, read_json
from models.settings.settings import hub_cache
from models.spec import ModelSpec

_BITS = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "I16": 16, "F8_E4M3": 8, "F8_E5M2": 8}
_FLOATS = ("F64", "F32", "F16", "BF16")
_WIDTHS = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
_MAX_HEADER_BYTES = 100 * 1024**2
# Architectures that vLLM serves as embedding models although their names do not end in "Model".
_EMBEDDING_ARCHITECTURES = (
    "BertForMaskedLM",
    "RobertaForMaskedLM",
    "BertSpladeSparseEmbeddingModel",
    "BgeM3EmbeddingModel",
)
# Architectures that generate text although their names end in "Model".
TEXT_ARCHITECTURES = (
    "ChatGLMModel",
    "GPT2LMHeadModel",
    "H2OVLChatModel",
    "InternVLChatModel",
    "MiDashengLMModel",
    "MossAudioModel",
    "Qwen2_5OmniModel",
    "SkyworkR1VChatModel",
    "UltravoxModel",
)


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model. `folder` is None if there are none yet: then everything is empty or None.

    `chat_template`: the text of the one that it is registered with, instead of its files'.
    """

    folder: Path | None
    chat_template: str | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; for a multimodal model the text model's part."""
        whole = read_json(self.folder / "config.json") if self.folder else {}
        text = whole.get("text_config")
        return whole | text | {"architectures": whole.get("architectures", [])} if isinstance(text, dict) else whole

    @property
    def model_type(self) -> str:
        """The architecture family's name in transformers: qwen2, llama, mistral, …"""
        return str(self.config.get("model_type", ""))

    @property
    def architectures(self) -> tuple[str, ...]:
        """The model classes of the weights."""
        return tuple(map(str, self.config.get("architectures") or ()))

    @property
    def embeds(self) -> bool:
        """Whether the model makes embeddings, not text: by its architecture or a sentence-transformers file."""
        if self.folder is None:
            return False
        plain = any(
            (name.endswith("Model") or name in _EMBEDDING_ARCHITECTURES) and name not in TEXT_ARCHITECTURES
            for name in self.architectures
        )
        return plain or (self.folder / "modules.json").is_file()

    @cached_property
    def template(self) -> str:
        """The text of all chat templates; empty if there are none."""
        return self.chat_template or (read_chat_templates(self.folder) if self.folder else "")

    def loaded_bytes(self, dtype: str) -> int | None:
        """The size of the weights when loaded as `dtype` (auto: as stored); None if unknown.

        From the headers of the safetensors alone: https://github.com/huggingface/safetensors#format
        """
        parts = sorted(self.folder.glob("*.safetensors")) if self.folder else []
        if not parts:
            return None
        return sum(_tensors_bytes(part, _WIDTHS.get(dtype)) for part in parts)

    def kv_bytes_per_token(self) -> int | None:
        """The KV cache of one token at 16 bits; None if a layer is not plain attention."""
        config = self.config
        unusual = config.get("kv_lora_rank") or config.get("num_kv_shared_layers")
        window = config.get("sliding_window") and config.get("use_sliding_window", True)
        if unusual or window or set(config.get("layer_types") or ()) - {"full_attention"}:
            return None
        layers, heads, width = (config.get(k) for k in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
        if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(width, int) and heads > 0):
            return None
        groups = config.get("num_key_value_heads") or heads
        head = config.get("head_dim") or width // heads
        return 2 * layers * int(groups) * int(head) * 2

    def context(self) -> int | None:
        """The maximum context length in tokens."""
        value = self.config.get("max_position_embeddings")
        return value if isinstance(value, int) else None


def find_model_files(spec: ModelSpec) -> ModelFiles:
    """The files of a spec's weights, from its folder or the hub's cache."""
    if spec.path is None or spec.folder is not None:
        return ModelFiles(spec.folder, spec.engine.chat_template)
    cached = hub_cache() / f"models--{spec.path.replace('/', '--')}" / "snapshots"
    value = sorted(cached.glob("*/config.json"), key=lambda path: path.stat().st_mtime) if cached.is_dir() else []
    return ModelFiles(value[-1].parent if value else None, spec.engine.chat_template)


def _tensors_bytes(part: Path, width: int | None) -> int:
    """Bytes of one file's tensors, with floats `width` bytes wide if given. An unreadable file counts with its size."""
    whole = part.stat().st_size
    if width is None:
        return whole
    try:
        with part.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(whole, _MAX_HEADER_BYTES):
                return whole
            tensors = json.loads(stream.read(length))
        return sum(_tensor_bytes(tensor, width) for name, tensor in tensors.items() if name != "__metadata__")
    except (*UNREADABLE, struct.error, KeyError, TypeError, AttributeError, OverflowError):
        return whole


def _tensor_bytes(tensor: dict[str, Any], width: int) -> int:
    begin, end = tensor["data_offsets"]
    kind = tensor["dtype"]
    return int((end - begin) * width * 8 / _BITS[kind]) if kind in _FLOATS else end - begin


def find_chat_template(spec: ModelSpec) -> Path | None:
    """The template file in the model's folder; None for a hub id, or if it is part of the tokenizer's config."""
    path = spec.folder and spec.folder / "chat_template.jinja"
    return path if path and path.is_file() else None


def read_chat_templates(folder: Path) -> str:
    """The text of all chat templates of a folder; empty if there are none."""
    files = [folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/*.jinja"))]
    texts = [path.read_text("utf-8", "replace") for path in files if path.is_file()]
    in_config = read_json(folder / "tokenizer_config.json").get("chat_template") if not texts else None
    if isinstance(in_config, str):
        texts.append(in_config)
    elif isinstance(in_config, list):
        texts += [str(entry.get("template", "")) for entry in in_config if isinstance(entry, dict)]
    return "\n".join(texts)
