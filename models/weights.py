"""The files of a model's weights: what kind of model a folder holds, an adapter's rank, the tensors of safetensors."""

import json
import os.path
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Invalid
from models.json_files import UNREADABLE, read_json

ADAPTER_CONFIG = "adapter_config.json"
_MAX_HEADER_BYTES = 100 * 1024**2
_POINTER = b"version https://git-lfs.github.com/spec/"
# The integer of a float's size, and the bits of its exponent: all set in NaN and in the infinities.
_EXPONENTS = {"F64": ("<u8", 0x7FF << 52), "F32": ("<u4", 0xFF << 23), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
_PIECE = 1 << 24  # values


@dataclass(frozen=True)
class _Tensor:
    """A tensor in a safetensors file: its shape, and where its bytes begin and end."""

    shape: tuple[int, ...]
    dtype: str
    begin: int
    end: int


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

    Raises:
        Invalid: the file is not safetensors, or is shorter than its header says.
    """
    return {name: tensor.shape for name, tensor in _read_header(file).items()}


def tensor_names(folder: Path) -> set[str]:
    """The names of all tensors in a folder's safetensors; empty if one of the files cannot be read."""
    try:
        return {name for file in folder.glob("*.safetensors") for name in tensor_shapes(file)}
    except Invalid:
        return set()


def find_non_finite(file: Path) -> str | None:
    """The name of the first tensor in a safetensors file with a value that is NaN or infinite; None if there is none.

    Raises:
        Invalid: as `tensor_shapes`.
    """
    import numpy

    for name, tensor in _read_header(file).items():
        if tensor.dtype not in _EXPONENTS or tensor.begin == tensor.end:
            continue
        integer, exponent = _EXPONENTS[tensor.dtype]
        count = (tensor.end - tensor.begin) // numpy.dtype(integer).itemsize
        bits = numpy.memmap(file, integer, "r", tensor.begin, (count,))
        for start in range(0, count, _PIECE):
            if ((bits[start : start + _PIECE] & exponent) == exponent).any():  # how floats mark both
                return name
    return None


def _read_header(file: Path) -> dict[str, _Tensor]:
    """Name → place of each tensor in a safetensors file. Source: https://github.com/huggingface/safetensors#format"""
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, _MAX_HEADER_BYTES):
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        placed = {name: _place(entry, 8 + length) for name, entry in tensors.items()}
        end = max((tensor.end for tensor in placed.values()), default=8 + length)
    except MemoryError as error:
        raise Invalid(
            f"The header of {file} does not fit into memory: free some memory, or download the file again.",
            param="path",
        ) from error
    except (*UNREADABLE, struct.error, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise Invalid(f"{file} is not a safetensors file: download it again.", param="path") from error
    if size < end:
        raise Invalid(f"{file} is incomplete ({size:,} of {end:,} bytes): download it again.", param="path")
    return placed


def _place(entry: Mapping[str, Any], data: int) -> _Tensor:
    begin, end = (data + int(offset) for offset in entry["data_offsets"])
    if not data <= begin <= end:
        raise ValueError("a tensor ends before it begins")
    return _Tensor(tuple(map(int, entry["shape"])), str(entry["dtype"]), begin, end)
