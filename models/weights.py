"""The files of a model's weights: what kind of model a folder holds, an adapter's rank, the headers of safetensors."""

import json
import os.path
import struct
from pathlib import Path
from typing import Any

from models.errors import Invalid
from models.json_files import UNREADABLE, read_json

ADAPTER_CONFIG = "adapter_config.json"
_MAX_HEADER_BYTES = 100 * 1024**2
_POINTER = b"version https://git-lfs.github.com/spec/"


def guess_kind(path: str, base: str | None) -> str:
    """The kind of model at a folder or hub id: `adapter` by its configuration file, else `merged` if it has a base."""
    if os.path.isfile(os.path.join(path, ADAPTER_CONFIG)):
        return "adapter"
    return "merged" if base else "base"


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """An adapter folder's adapter_config.json; empty if it cannot be read."""
    return read_json(folder / ADAPTER_CONFIG)


def read_lora_rank(path: str | Path) -> int | None:
    """An adapter folder's LoRA rank; None for anything else, including other types of adapters.

    Raises:
        Invalid: the adapter's configuration cannot be read.
    """
    config = Path(path) / ADAPTER_CONFIG
    try:
        if not config.is_file():
            return None
        values = json.loads(config.read_text("utf-8"))
        return int(values["r"]) if values.get("peft_type", "LORA") == "LORA" else None
    except (*UNREADABLE, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise Invalid(
            f"{config} is not an adapter's configuration, JSON with a rank `r`: copy it again.", param="path"
        ) from error


def check_weights(path: str) -> None:
    """Checks that a local folder holds safetensors: other formats can run code when loaded. A hub id passes unread.

    Raises:
        Invalid: the path is relative, is not there, or holds no safetensors.
    """
    folder = Path(path)
    if not folder.is_absolute():
        if os.path.exists(path) or path.startswith("."):
            raise Invalid(f"{path!r} is a relative folder: give its absolute path.", param="path")
        return
    if not folder.is_dir():
        raise Invalid(f"There is no folder {path}.", param="path")
    if not any(folder.glob("*.safetensors")):
        raise Invalid(
            f"{path} holds no safetensors. Other formats can run code when loaded: convert them first.",
            param="path",
        )


def is_pointer(file: Path) -> bool:
    """Whether a file is a Git LFS pointer, which stands for a large file that was not downloaded."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of each tensor in a safetensors file, from its header alone.

    Source: https://github.com/huggingface/safetensors#format

    Raises:
        Invalid: the file is not safetensors, or is shorter than its header says.
    """
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _MAX_HEADER_BYTES):
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in tensors.items()}
    except MemoryError as error:
        raise Invalid(
            f"The header of {file} does not fit into memory: free some memory, or download the file again.",
            param="path",
        ) from error
    except (*UNREADABLE, struct.error, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise Invalid(f"{file} is not a safetensors file: download it again.", param="path") from error
    if size < end:
        raise Invalid(f"{file} is incomplete ({size:,} of {end:,} bytes): download it again.", param="path")
    return shapes
