"""Explains errors of transformers, PEFT and the hub when a model is loaded: one line with the reason and what to do.

No other module reads their messages. Errors of full memory or disks pass unchanged: `run.failures` explains them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import ParleyError, Unavailable
from train.run.failures import disk_is_full, memory_is_full

_SHOWN = 200
_OTHERWISE = (
    "its configuration names something that this version of transformers or PEFT does not know: update them, or choose "
    "another model"
)
TOKENIZER = "its tokenizer cannot be read: copy the tokenizer's files of the original model into its folder"
# Pattern for an error's message and type → the reason and what to do. The first match counts.
_EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (
        r"gated repo|GatedRepoError|\b403\b",
        "its authors require you to accept their terms: accept them on its hub page, and set HF_TOKEN",
    ),
    (
        r"is not a valid model identifier|RepositoryNotFoundError|\b401\b|not a local folder or a valid repository",
        "the hub has no such model, or it is private: check the name, and set HF_TOKEN for a private one",
    ),
    (
        r"couldn't connect to|LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled"
        r"|ConnectionError|ConnectError|connection error",
        "it is not on this machine, and the hub cannot be reached: download it on a machine with a network, and give "
        "its folder",
    ),
    (
        r"trust_remote_code|contains custom code",
        "it needs code that comes with the model: read it, and if you trust it, add --trust-remote-code to `parley "
        "train`, or to `parley models add` for its base",
    ),
    (
        r"model type `[^`]*` but Transformers does not recognize|Unrecognized model in",
        "this version of transformers does not support its model type: choose another base, or update transformers",
    ),
    (
        r"GGUF (model with )?architecture|GGUF magic invalid|Sorry we do not support",
        "transformers cannot unpack this GGUF file: use the model's original weights (safetensors)",
    ),
    (
        r"Unrecognized configuration class",
        "transformers has no class for it that generates text: choose a model for text generation",
    ),
    (
        r"HeaderTooLarge|HeaderTooSmall|InvalidHeader|MetadataIncompleteBuffer|deserializing header|invalid load key"
        r"|UnpicklingError|PytorchStreamReader",
        "a file of weights is incomplete, or a Git LFS pointer: run `git lfs pull` in its folder, or download it again",
    ),
    (
        r"no file named|not appear to have (a file|files) named|No such file or directory|Can't load the model"
        r"|Can't load the configuration|Repo id must be in the form",
        "a file is missing in its folder: download the whole folder again",
    ),
    (
        r"not a valid JSON|JSONDecodeError|UnicodeDecodeError|codec can't decode",
        "a configuration file in its folder is damaged: download it again",
    ),
    (
        r"[Tt]okenizer|sentencepiece|SentencePiece|tiktoken|vocab_file|data did not match any variant",
        TOKENIZER,
    ),
    (
        r"Target modules .* not found|Please specify `target_modules`|No modules were targeted",
        "the adapter was made for a model of another family: give the base that it was trained on",
    ),
    (
        r"size mismatch for base_model|mismatched? shapes? .*lora|lora.* size mismatch",
        "the adapter was trained on a model of another size: give the base that it was trained on",
    ),
    (
        r"size mismatch|ignore_mismatched_sizes|Error\(s\) in loading state_dict|shape mismatch",
        "its weights do not fit its config.json: both must be from the same model",
    ),
    (
        r"Config\.__init__\(\) got an unexpected keyword|not a valid PeftType|Unknown PEFT type",
        "its adapter_config.json was written by a newer PEFT: update PEFT, or save the adapter with an older version",
    ),
    (r"StrictDataclass\w*Error", "its config.json holds a value that transformers does not accept: correct it"),
    (
        r"quantized model|GPU is (needed|required)|No GPU found|gptqmodel",
        "it is quantised: use the original weights",
    ),
)


@contextmanager
def translated_errors(name: str, param: str = "base", otherwise: str = _OTHERWISE) -> Iterator[None]:
    """Turns an exception of a library that loads `name` into one line.

    Args:
        name: the model, as the message names it. param: the field of the request that it came from.
        otherwise: the explanation of an error that says only which name is unknown.

    Raises:
        Unavailable: the message says what to do.
    """
    try:
        yield
    except (ParleyError, MemoryError):
        raise
    except Exception as error:
        if memory_is_full(error) or disk_is_full(error):
            raise
        raise Unavailable(f"{name} cannot be loaded: {explain(error, otherwise)}", param=param) from error


def explain(error: BaseException, otherwise: str = _OTHERWISE) -> str:
    """The reason and what to do in one sentence, with the first line of the library's message."""
    text = _text(error)
    if isinstance(error, ImportError) and (package := _package(error, text)):
        return f"it needs the package {package}: `pip install {package}`."
    if reason := next((reason for pattern, reason in _EXPLANATIONS if re.search(pattern, text)), None):
        return f"{reason} ({_first_line(error)})."
    if isinstance(error, KeyError):
        return f"{otherwise} ({_first_line(error)})."
    return f"{_first_line(error)} ({type(error).__name__}). Load it with transformers to see the whole error."


def _text(error: BaseException) -> str:
    """The types and messages of an error and of its causes: a library's own error often hides the hub's."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < 5:
        parts.append(f"{type(cause).__name__}: {cause}")
        cause = cause.__cause__ or cause.__context__
    return "\n".join(parts)


def _package(error: ImportError, text: str) -> str | None:
    named = re.search(r"pip install (?:-U |--upgrade )?[\"'`]?([A-Za-z][\w.\[\]-]*)", text)
    if named:
        return named[1].rstrip(".")
    return error.name.split(".")[0] if error.name else None


def _first_line(error: BaseException) -> str:
    """The first line of the message, and the second line if the first ends with a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]
    return line.rstrip(".:")[:_SHOWN]
