"""Checks a model's folder before it is registered: it is complete, of the right kind, and vLLM can serve it.

The checks read names, sizes, configurations and headers; of the weights only an adapter's. An engine would report most
of these faults a minute later, in a traceback. Whether an adapter fits its base is checked in `registry`.
"""

import json
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from models.chat_templates.tokenizer_files import read_added_tokens, read_folder_template
from models.compatibility.engine_support import refuses_architecture, refuses_quantisation, remote_code_files
from models.errors import Invalid
from models.json_files import UNREADABLE, read_json
from models.spec import Kind
from models.weights import ADAPTER_CONFIG, find_non_finite, is_pointer, read_adapter_config, tensor_shapes

INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_TOKENIZER = re.compile(
    r"tokenizer\.json|tokenizer\.model.*|vocab\.(json|txt)|tekken\.json|.*\.tiktoken|.*(spiece|spm|piece|bpe).*\.model"
)
_TOKENIZERS_WITHOUT_FILES = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
_ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".7z", ".zst")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# PEFT's types that add tokens or layers instead of changing weights: nothing can be merged.
_NOT_MERGEABLE = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT")
_NAMED_ADAPTER = re.compile(r"\.lora_[AB]\.(?!weight$)\w+\.weight$")  # a state dict of PEFT's model: `lora_A.default`
_PAIRED = re.compile(r"\.lora_([AB])\.(?=weight$)")  # a layer's two matrices
_HUB_ID = re.compile(r"(?=.{,200}$)[\w-][\w.-]*/[\w-][\w.-]*")  # a longer one has no file name in the hub's cache


def is_gguf(path: str) -> bool:
    """Whether a path is a GGUF file, which must be unpacked before it can be served."""
    return path.lower().endswith(".gguf")


def expand_user(path: str) -> Path:
    """A path with a user's home in place of `~`; unchanged if there is no such user."""
    return Path(os.path.expanduser(path))


def find_weights(path: str) -> str:
    """The absolute path of a folder that exists, or the hub id.

    Raises:
        Invalid: there is no such path, it is a file, or the folder cannot be read.
    """
    place = expand_user(path)
    # Unlike Path's own, these are also false for a path that is too long, may not be read, or contains a NUL.
    if os.path.isdir(place):
        if not os.access(place, os.R_OK | os.X_OK):
            raise Invalid(f"The folder {path} cannot be read: give this user permission to read it.", param="path")
        return str(place.absolute())
    if os.path.isfile(place):
        raise Invalid(_not_a_folder(place), param="path")
    if not _HUB_ID.fullmatch(path):
        near = _nearest(place)
        raise Invalid(f"There is no folder {path[:300]}{near}. A hub id has the form owner/name.", param="path")
    return path


def find_kind(folder: Path, declared: Kind | None, base: str | None) -> Kind:
    """The kind of model in a folder: `declared`, or the one that its files show.

    Raises:
        Invalid: `declared` contradicts the files, or the folder holds both an adapter and whole weights.
    """
    whole = (folder / "config.json").is_file() or (folder / "params.json").is_file()
    adapter = (folder / ADAPTER_CONFIG).is_file()
    if adapter and whole and any(file.name != "adapter_model.safetensors" for file in folder.glob("*.safetensors")):
        raise Invalid(
            f"{folder} holds an adapter and whole weights, and an engine would load both: move the adapter's files "
            "into another folder.",
            param="path",
        )
    if adapter:
        if declared in ("base", "merged"):
            raise Invalid(
                f"{folder} holds an adapter, not whole weights: leave --kind out and give its base (--base ID), or "
                "merge it into its base (--base ID --merge).",
                param="kind",
            )
        return "adapter"
    if declared == "adapter":
        raise Invalid(f"{folder} holds no {ADAPTER_CONFIG}, so it is not an adapter: leave --kind out.", param="kind")
    return declared or ("merged" if base else "base")


def check_folder(folder: Path, kind: Kind, *, trust_remote_code: bool = False) -> None:
    """Checks that a folder holds a whole model of this kind that vLLM can serve.

    Raises:
        Invalid: the first fault, and what to do.
    """
    files = {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}
    _check_downloaded(folder, files.values())
    if kind == "adapter":
        _check_adapter(folder)
        return
    if not any(name.endswith(".safetensors") for name in files):
        raise Invalid(_no_weights(folder), param="path")
    if "config.json" not in files:
        if "adapter_model.safetensors" in files:
            raise Invalid(
                f"{folder} holds an adapter's weights but no {ADAPTER_CONFIG}: copy it from the original adapter.",
                param="path",
            )
        if "params.json" not in files:  # Mistral's own format
            raise Invalid(f"{folder} holds weights but no config.json: copy it from the original model.", param="path")
        return
    config = _read_config(folder / "config.json")
    _check_shards(folder, files)
    for name in sorted(name for name in files if name.endswith(".safetensors")):
        tensor_shapes(files[name])
    require_tokenizer(folder)
    if not config.get("architectures"):
        raise Invalid(
            f"{folder}/config.json names no architecture, so no engine can load the model: copy the config.json of the "
            "original model.",
            param="path",
        )
    if reason := refuses_quantisation(config):
        raise Invalid(f"{folder} cannot be served: {reason}. Use the original weights.", param="path")
    if trust_remote_code:
        return
    if code := remote_code_files(config):
        raise Invalid(
            f"{folder} needs code that comes with the model ({', '.join(code)}): read it, and if you trust it, add the "
            "model with `parley models add … --trust-remote-code`.",
            param="path",
        )
    if reason := refuses_architecture(config):
        raise Invalid(
            f"{folder} cannot be served: {reason}. Choose another model, or install a newer vLLM.", param="path"
        )


def _check_downloaded(folder: Path, files: Iterable[Path]) -> None:
    """Refuses the files of an interrupted or incomplete download."""
    for file in sorted(files):
        if file.is_symlink() and not file.exists():
            raise Invalid(f"{file} is a link to a missing file: download the folder again.", param="path")
        if file.suffix in (".safetensors", ".json", ".model", ".txt") and is_pointer(file):
            raise Invalid(
                f"{file} is a Git LFS pointer, not the file itself: run `git lfs install && git lfs pull` in {folder}, "
                "or download it again.",
                param="path",
            )
        if file.suffix in (".incomplete", ".part", ".crdownload", ".aria2"):
            raise Invalid(f"{file} is an unfinished download: finish it, or delete the file.", param="path")


def _check_shards(folder: Path, files: Collection[str]) -> None:
    """Refuses a folder in which some of the weight files are missing."""
    needed: set[str] = set()
    if INDEX in files:
        names = _read_config(folder / INDEX).get("weight_map")
        needed = {str(name) for name in names.values()} if isinstance(names, dict) else set()
    for match in filter(None, map(_SHARD.fullmatch, files)):
        needed |= {f"{match[1]}-{number:05}-of-{match[3]}.safetensors" for number in range(1, int(match[3]) + 1)}
    if missing := sorted(needed.difference(files)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Invalid(
            f"{folder} is incomplete: {missing[0]}{more} of its {len(needed)} weight files are missing. Download them.",
            param="path",
        )


def _check_adapter(folder: Path) -> None:
    config = read_adapter_config(folder)
    method, task = str(config.get("peft_type") or "LORA"), str(config.get("task_type") or "CAUSAL_LM")
    if method in _NOT_MERGEABLE:
        raise Invalid(
            f"{folder} holds an adapter of type {method}, which cannot be served or merged: train a LoRA adapter.",
            param="path",
        )
    if task != "CAUSAL_LM":
        raise Invalid(
            f"{folder} holds an adapter for the task {task}, which does not generate text: only adapters for CAUSAL_LM "
            "can be served.",
            param="path",
        )
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise Invalid(_no_adapter_weights(folder), param="path")
    tensors = tensor_shapes(weights)
    single = next((name for name in tensors if _PAIRED.search(name) and _partner(name) not in tensors), None)
    if single:
        raise Invalid(
            f"{weights} is incomplete: it has {single}, but not {_partner(single)}. Copy the adapter again.",
            param="path",
        )
    named = next((name for name in tensors if _NAMED_ADAPTER.search(name)), None)
    if named or all(0 in shape for shape in tensors.values()):
        fault = (
            f"is not as PEFT saves it ({named})" if named else "holds no weights, as a run with DeepSpeed may save it"
        )
        raise Invalid(
            f"{weights} {fault}: load the trained adapter with PEFT and save it with save_pretrained().", param="path"
        )
    if name := find_non_finite(weights):
        raise Invalid(
            f"{weights} is damaged: {name} has values that are not finite, so the model would answer nothing or at "
            "random. Copy the adapter again, or train it with a lower learning rate.",
            param="path",
        )


def _partner(name: str) -> str:
    """The other tensor of a LoRA layer."""
    return _PAIRED.sub(lambda match: ".lora_B." if match[1] == "A" else ".lora_A.", name)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except UNREADABLE:
        content = None
    if not isinstance(content, dict):
        raise Invalid(f"{file} is not readable JSON: download it again.", param="path")
    return content


def _not_a_folder(file: Path) -> str:
    if is_gguf(file.name):
        return (
            f"{file} is a GGUF file, which must be unpacked first: run `parley models add NAME --path {file}` on the "
            "server, or POST /v1/parley/models/import."
        )
    if file.suffix.lower() in _ARCHIVES:
        return f"{file} is an archive: unpack it, and give the folder with config.json."
    return f"{file} is a file: give the folder that holds it, with its config.json and tokenizer."


def _no_weights(folder: Path) -> str:
    """Why a folder without safetensors is refused: it holds another format, or the model is in a subfolder."""
    if ggufs := sorted(folder.glob("*.gguf")):
        return f"{folder} holds no safetensors, but {ggufs[0].name}: give that file as the path."
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        return (
            f"{folder} holds no safetensors. Other formats can run code when loaded: load it with transformers, "
            "save it with save_pretrained(), and give that folder."
        )
    nested = sorted(path.parent for name in ("config.json", ADAPTER_CONFIG) for path in folder.glob(f"*/{name}"))
    nested += sorted(path.parent for path in folder.glob("snapshots/*/config.json"))
    if nested:
        model = nested[-1]
        return f"{folder} holds no safetensors, but {model.relative_to(folder)} in it holds a model: give {model}."
    return f"{folder} holds no safetensors: give the folder that holds the model's weights."


def _no_adapter_weights(folder: Path) -> str:
    if any((folder / f"adapter_model.{suffix}").is_file() for suffix in ("bin", "pt")):
        return (
            f"{folder} holds no adapter_model.safetensors. Other formats can run code when loaded: load the adapter "
            "with PEFT and save it with save_pretrained()."
        )
    return f"{folder} holds no adapter_model.safetensors: copy the adapter's weights into it."


def _nearest(place: Path) -> str:
    """An existing folder or GGUF file with a similar name in the same place, as a clause; empty if there is none."""
    from difflib import get_close_matches

    try:
        names = [path.name for path in place.parent.iterdir() if os.path.isdir(path) or is_gguf(path.name)]
    except (OSError, ValueError):
        return ""
    close = get_close_matches(place.name, names, 1)
    return f", but there is {place.parent / close[0]}" if close else ""


def require_tokenizer(folder: Path) -> None:
    """Refuses a folder without a tokenizer, for which transformers would create an empty one without an error.

    Raises:
        Invalid: there is none; the message says what to do.
    """
    if any(_TOKENIZER.fullmatch(path.name) for path in folder.iterdir()):
        return
    config = read_json(folder / "tokenizer_config.json")
    if config.get("auto_map") or config.get("tokenizer_class") in _TOKENIZERS_WITHOUT_FILES:
        return
    raise Invalid(
        f"{folder} holds no tokenizer (tokenizer.json or tokenizer.model): copy the tokenizer's files from the "
        "original model.",
        param="path",
    )


def differs_from_base(adapter: Path, base: Path, template: str | None = None) -> str | None:
    """Why an adapter cannot use its base's engine, as a clause: another chat template, or added tokens; else None.

    Args:
        template: the chat template that the base is registered with, if it is not the one in its folder.
    """
    trained, served = read_folder_template(adapter), template or read_folder_template(base)
    if trained and _without_marks(trained) != _without_marks(served or ""):
        return "it was trained with a chat template other than its base's, but the base's engine uses the base's"
    vocabulary = _vocabulary(base)
    if vocabulary and (added := read_added_tokens(adapter).keys() - vocabulary):
        names = ", ".join(sorted(added)[:3])
        return f"it adds tokens that its base does not have ({len(added)}: {names})"
    return None


def _without_marks(template: str) -> str:
    """A chat template without the marks around learnt text, which do not affect the prompt."""
    return re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template).replace("\r\n", "\n").strip()


def _vocabulary(folder: Path) -> set[str]:
    """All tokens in a folder's tokenizer.json; empty without the file."""
    model = read_json(folder / "tokenizer.json").get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):
        vocabulary = [entry[0] for entry in vocabulary if isinstance(entry, list) and entry]
    names = set(map(str, vocabulary or ()))
    return names | read_added_tokens(folder).keys() if names else names
