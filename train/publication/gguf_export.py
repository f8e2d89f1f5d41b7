"""Writes a model's weights as a GGUF file with llama.cpp's converter, which must be on this machine.

The converter is a script of llama.cpp, convert_hf_to_gguf.py, which its authors do not publish as a Python package.
Homebrew and conda-forge install it with llama.cpp.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from models.compatibility.folder_checks import expand_user
from models.errors import Conflict, Invalid, ParleyError, Unavailable
from models.spec import ModelSpec

CONVERTERS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf", "llama-convert-hf-to-gguf")
TYPES = ("auto", "f32", "f16", "bf16", "q8_0")
_LONGEST = 400


@dataclass(frozen=True)
class GgufExport:
    """A finished export: the file and its size in bytes."""

    file: Path
    size: int


class ExportFailed(ParleyError):
    """The converter failed; nothing was written."""

    status = 422


def check_exportable(spec: ModelSpec) -> Path:
    """The folder of a model whose weights can be exported.

    Raises:
        Invalid: it is an adapter, hosted, or a hub id.
    """
    if spec.kind == "adapter":
        raise Invalid(
            f"{spec.id!r} is an adapter: merge it first (`parley merge {spec.id} --name NAME`), and export the result.",
            param="model",
        )
    if spec.folder is None:
        where = "hosted, so its weights are not here" if spec.kind == "hosted" else f"on the hub ({spec.path})"
        raise Invalid(f"{spec.id!r} is {where}: only a model in a folder can be exported.", param="model")
    return spec.folder


def find_converter(converter: Path | None, folder: Path, file: Path) -> list[str]:
    """The command of llama.cpp's converter: `converter`, or the first of `CONVERTERS` on the PATH.

    Raises:
        Unavailable: there is none; the message has the commands to run by hand. Invalid: there is no file `converter`.
    """
    if converter is not None:
        if not converter.is_file():
            raise Invalid(f"There is no file {converter}: give the path of convert_hf_to_gguf.py.", param="converter")
        return [sys.executable, str(converter)] if converter.suffix == ".py" else [str(converter)]
    for name in CONVERTERS:
        if (command := shutil.which(name)) is not None:
            return [sys.executable, command] if name.endswith(".py") else [command]
    script = "llama.cpp/convert_hf_to_gguf.py"
    raise Unavailable(
        "llama.cpp's converter is not on this machine: `git clone --depth 1 https://github.com/ggml-org/llama.cpp`, "
        f"install its requirements in a separate environment, and run `python {script} {folder} --outfile {file}`; "
        f"or give it here as --converter {script}.",
        param="converter",
    )


def export_gguf(spec: ModelSpec, file: Path, *, kind: str = "auto", converter: Path | None = None) -> GgufExport:
    """Writes a model as one GGUF file; it appears whole or not at all.

    Args:
        kind: one of `TYPES`; auto keeps 16 bits.

    Raises:
        Invalid, Unavailable: as `check_exportable` and `find_converter`. Conflict: the file exists. ExportFailed: the
        converter does not know the model; the message has its last line.
    """
    folder, file = check_exportable(spec), expand_user(str(file)).absolute()
    command = find_converter(converter, folder, file)
    if file.exists():
        raise Conflict(f"{file} exists already: choose another file.", param="gguf")
    if not file.parent.is_dir():
        raise Invalid(f"There is no folder {file.parent}: create it first.", param="gguf")
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)  # an export that was killed
    try:
        done = subprocess.run(
            [*command, str(folder), "--outfile", str(partial), "--outtype", kind],
            capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode or not partial.is_file():
            lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            reason = lines[-1][:_LONGEST] if lines else f"it failed with status {done.returncode}"
            raise ExportFailed(f"llama.cpp's converter cannot convert {spec.id!r}: {reason}")
        partial.rename(file)
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be run, or {file} not written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return GgufExport(file, file.stat().st_size)
