"""Loads base + adapter as the adapter's training had them: its vocabulary, its tokenizer, its chat template.

An adapter from elsewhere may have added tokens. Then its base's embeddings are resized before the adapter is loaded.
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
            # The new rows come with the adapter, so it does not matter what they are before.
            model.resize_token_embeddings(rows, mean_resizing=False)
        if _changes_one_of_two(adapter):
            _untie(model)
        adapted = PeftModel.from_pretrained(model, str(adapter), autocast_adapter_dtype=False)
        weights = load_peft_weights(str(adapter), device="cpu")
        # PEFT stores some whole modules under two names, of which it reads one.
        unused = [name for name in set_peft_model_state_dict(adapted, weights).unexpected_keys if ".lora_" in name]
    lacking = next((str(one.message) for one in caught if "missing adapter keys" in str(one.message)), None)
    if unused or lacking:
        # PEFT goes on with what it found: a merge would then be the base itself, and equal to its reference.
        names = f"{unused[0]} and {len(unused) - 1} more" if len(unused) > 1 else (unused or [lacking])[0]
        raise Invalid(
            f"The adapter {adapter.name!r} does not fit {base.name!r}: the two name their layers differently "
            f"({str(names)[:150]}). Give the base that it was trained on.",
            param="adapter",
        )
    return adapted.to(dtype).eval()


def load_adapted_tokenizer(base: Base, adapter: Path) -> Any:
    """The tokenizer with which the adapter was trained: its own if its folder has one, else the base's; with the chat
    template of its folder if there is one."""
    tokenizer = load_tokenizer(base)
    if _has_tokenizer(adapter):
        own = load_tokenizer(Base(adapter.name, str(adapter), None, base.trust_remote_code))
        own.chat_template = own.chat_template or tokenizer.chat_template
        tokenizer = own
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
    own = {shape[0] for name, shape in shapes.items() if _ROWS.search(name)}
    own |= {shape[1] for name, shape in shapes.items() if _COLUMNS.search(name)}
    if own:
        return max(own) if max(own) != rows else None
    if not _has_tokenizer(adapter):
        return None
    tokens = len(load_tokenizer(Base(adapter.name, str(adapter), None, base.trust_remote_code)))
    if tokens <= rows:
        return None
    if read_adapter_config(adapter).get("trainable_token_indices"):
        return tokens
    raise Invalid(
        f"The tokenizer of the adapter {adapter.name!r} has {tokens:,} tokens and {base.name!r} has embeddings for "
        f"{rows:,}, but the adapter holds none for the others: save it again with save_embedding_layers=True.",
        param="adapter",
    )


def _changes_one_of_two(adapter: Path) -> bool:
    """Whether the adapter was trained on the embeddings or the head, as if they were not one matrix."""
    config = read_adapter_config(adapter)
    if config.get("ensure_weight_tying"):
        return False
    names = [name for name in _shapes(adapter) if ".lora_" in name or ".modules_to_save." in name]
    names += [f".{name}." for name in config.get("modules_to_save") or ()]
    return any(_EMBEDDINGS.search(name) for name in names)


def _untie(model: Any) -> None:
    """Makes the head a matrix of its own, so that a merge into the embeddings leaves it as it is, and it is written."""
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
