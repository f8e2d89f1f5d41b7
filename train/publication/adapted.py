"""Loads base + adapter as in the adapter's training: with its vocabulary, tokenizer and chat template.

An adapter from elsewhere may add tokens. The base's embeddings are then resized before the adapter is loaded.
"""

import re
import warnings
from pathlib import Path
from typing import Any

from models.errors import Invalid
from models.weights import is_pointer, read_adapter_config, tensor_shapes
from train.trainers.bases import Base, load_model, load_tokenizer
from train.trainers.loading_errors import translated_errors

ADAPTER_WEIGHTS = "adapter_model.safetensors"
TEMPLATE = "chat_template.jinja"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
# An adapter's tensors that have a row, or a column, for each token of the vocabulary.
_EMBEDDINGS = re.compile(r"\.(embed_tokens|embed_in|embed_out|wte|word_embeddings|lm_head)\.")
_ROWS = re.compile(
    r"\.(embed_tokens|embed_in|embed_out|wte|word_embeddings|lm_head)(\.base_layer)?\.weight$"
    r"|\.(embed_out|lm_head)\.lora_B\.weight$"
)
_COLUMNS = re.compile(r"\.(embed_tokens|embed_in|wte|word_embeddings)\.lora_embedding_A$")


def load_adapted(base: Base, adapter: Path, dtype: Any) -> Any:
    """Base + adapter, both in one dtype, as an engine holds them.

    Raises:
        Unavailable: one of them cannot be loaded. Invalid: the adapter does not belong to the base.
    """
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict  # imports bitsandbytes, which warns

    model = load_model(base, dtype, "cpu")
    rows = vocabulary_rows(base, adapter, model.get_input_embeddings().weight.shape[0])
    with translated_errors(f"The adapter {adapter.name!r}", "adapter"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if rows is not None:
            # The adapter contains the new rows, so their initial values do not matter.
            model.resize_token_embeddings(rows, mean_resizing=False)
        if _changes_tied_weights(adapter):
            _untie(model)
        adapted = PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=False)
        weights = load_peft_weights(str(adapter), device="cpu")
        # PEFT stores some whole modules under two names, of which it reads one.
        unused = [name for name in set_peft_model_state_dict(adapted, weights).unexpected_keys if ".lora_" in name]
    missing = next((str(entry.message) for entry in caught if "missing adapter keys" in str(entry.message)), None)
    if unused or missing:
        # PEFT ignores these: the merged weights would be the base's, and so would the reference.
        names = f"{unused[0]} and {len(unused) - 1} more" if len(unused) > 1 else (unused or [missing])[0]
        raise Invalid(
            f"The adapter {adapter.name!r} does not fit {base.name!r}: the names of their layers differ "
            f"({str(names)[:150]}). Give the base that it was trained on.",
            param="adapter",
        )
    return adapted.to(dtype).eval()


def load_adapted_tokenizer(base: Base, adapter: Path) -> Any:
    """The tokenizer of the adapter's training: the one in its folder, otherwise the base's. So is the chat template."""
    tokenizer = load_tokenizer(base)
    if _has_tokenizer(adapter):
        base_template = tokenizer.chat_template
        tokenizer = load_tokenizer(Base(adapter.name, str(adapter), None, base.trust_remote_code))
        tokenizer.chat_template = tokenizer.chat_template or base_template
    tokenizer.chat_template = trained_template(adapter) or tokenizer.chat_template
    return tokenizer


def trained_template(adapter: Path) -> str | None:
    """The chat template in an adapter's folder, that of its training; None if there is none.

    Raises:
        Invalid: it is not UTF-8.
    """
    file = adapter / TEMPLATE
    try:
        return file.read_text("utf-8") if file.is_file() else None
    except UnicodeDecodeError as error:
        raise Invalid(f"{file} is not UTF-8: save the template again, or delete the file.", param="adapter") from error


def vocabulary_rows(base: Base, adapter: Path, rows: int) -> int | None:
    """The number of embeddings that the adapter was trained with, if it differs from the base's `rows`; else None.

    Raises:
        Invalid: the adapter's tokenizer has more tokens than the base has embeddings, and the adapter brings none.
    """
    shapes = _shapes(adapter)
    sizes = {shape[0] for name, shape in shapes.items() if _ROWS.search(name)}
    sizes |= {shape[1] for name, shape in shapes.items() if _COLUMNS.search(name)}
    if sizes:
        return max(sizes) if max(sizes) != rows else None
    if not _has_tokenizer(adapter):
        return None
    tokens = len(load_tokenizer(Base(adapter.name, str(adapter), None, base.trust_remote_code)))
    if tokens <= rows:
        return None
    if read_adapter_config(adapter).get("trainable_token_indices"):
        return tokens
    raise Invalid(
        f"The tokenizer of the adapter {adapter.name!r} has {tokens:,} tokens, but {base.name!r} has embeddings for "
        f"{rows:,} and the adapter has none: save the adapter again with save_embedding_layers=True.",
        param="adapter",
    )


def _changes_tied_weights(adapter: Path) -> bool:
    """Whether the adapter changes the embeddings or the head alone, so that they can no longer be tied."""
    config = read_adapter_config(adapter)
    if config.get("ensure_weight_tying"):
        return False
    names = [name for name in _shapes(adapter) if ".lora_" in name or ".modules_to_save." in name]
    names += [f".{name}." for name in config.get("modules_to_save") or ()]
    return any(_EMBEDDINGS.search(name) for name in names)


def _untie(model: Any) -> None:
    """Separates the head from the embeddings, so that a merge changes only one of them, and both are written."""
    import torch

    head = model.get_output_embeddings()
    if head is None or head.weight is not model.get_input_embeddings().weight:
        return
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    file = adapter / ADAPTER_WEIGHTS
    return tensor_shapes(file) if file.is_file() else {}


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() and not is_pointer(folder / name) for name in _TOKENIZER_FILES)
