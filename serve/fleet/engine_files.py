"""Files for an engine's command: the chat template that is stored with the model, and the tokens at which it stops.

They are written at each start, outside the model's folder, which belongs to the user.
"""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from models.chat_templates.inspection import missing_stop_token
from models.chat_templates.tokenizer_files import GENERATION_CONFIG, read_folder_template, with_stop_token
from models.files.atomic import atomic_write
from models.spec import ModelSpec
from serve.fleet.model_files import find_model_files
from serve.processes.children import Command

_OVERRIDES = ("--generation-config", "--generation_config")


def with_files(command: Command, spec: ModelSpec, folder: Path) -> Command:
    """The command with the engine's chat template, if one is stored with the model, and generation settings with
    which it stops where the template ends a turn.

    Args:
        folder: where the files of all engines go.
    """
    model_folder = folder / sha256(spec.id.encode()).hexdigest()[:16]
    argv = list(command.argv)
    if spec.engine.chat_template:
        atomic_write(model_folder / "chat_template.jinja", spec.engine.chat_template.encode())
        argv += ["--chat-template", str(model_folder / "chat_template.jinja")]
    settings = None if _overridden(spec) else generation_settings(spec)
    if settings is not None:
        atomic_write(model_folder / GENERATION_CONFIG, json.dumps(settings).encode())
        argv += ["--generation-config", str(model_folder)]
    return replace(command, argv=tuple(argv))


def generation_settings(spec: ModelSpec) -> dict[str, object] | None:
    """The model's generation settings with the token that ends a turn; None if its engine stops there anyway, or if its
    files are not here.
    """
    weights = find_model_files(spec)
    # Harmony's channels end with a token after which the answer goes on; vLLM knows where it stops.
    if weights.folder is None or weights.embeds or weights.model_type == "gpt_oss":
        return None
    template = spec.engine.chat_template or read_folder_template(weights.folder)
    token = missing_stop_token(weights.folder, template) if template else None
    if token is None:
        return None
    settings = with_stop_token(weights.folder, token)
    settings.pop("max_new_tokens", None)  # of a folder that is given, vLLM takes it as a limit for every request
    return settings


def _overridden(spec: ModelSpec) -> bool:
    return any(argument.startswith(_OVERRIDES) for argument in spec.engine.extra_args)
