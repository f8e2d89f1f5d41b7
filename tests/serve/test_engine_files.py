"""serve/fleet/engine_files.py: an engine stops where its template ends a turn, and serves the model's own template."""

import json
from pathlib import Path

from models.spec import EngineOptions, ModelSpec
from serve.fleet.engine_files import with_files
from serve.fleet.placement import Share
from serve.fleet.vllm_command import command
from tests.models.test_chat_templates import SILENT, SYSTEMLESS, TOKENS


def arguments(spec: ModelSpec, folder: Path) -> dict[str, str]:
    made = command(spec, Share("cpu", (0,), kv_cache_bytes=1), port=1, key="k", adapters=0)
    argv = with_files(made, spec, folder).argv
    return {name: value for name, value in zip(argv, (*argv[1:], ""), strict=True) if name.startswith("--")}


def test_an_engine_stops_where_its_template_ends_a_turn(tmp_path: Path) -> None:
    weights, made = tmp_path / "weights", tmp_path / "made"
    weights.mkdir()
    (weights / "tokenizer_config.json").write_text(
        json.dumps(TOKENS | {"added_tokens_decoder": {"2": {"content": "</s>"}, "5": {"content": "<end_of_turn>"}}})
    )
    settings = {"eos_token_id": 2, "temperature": 0.2, "max_new_tokens": 9}
    (weights / "generation_config.json").write_text(json.dumps(settings))
    (weights / "chat_template.jinja").write_text(SYSTEMLESS)
    spec = ModelSpec(id="m", kind="base", path=str(weights))
    given = arguments(spec, made)
    assert given["--chat-template"] == str(weights / "chat_template.jinja")
    stops = json.loads((Path(given["--generation-config"]) / "generation_config.json").read_text())
    assert stops == {"eos_token_id": [2, 5], "temperature": 0.2}
    # Another template, which ends its turns with the tokenizer's own token.
    own = spec.model_copy(update={"engine": EngineOptions(chat_template=SILENT)})
    given = arguments(own, made)
    assert Path(given["--chat-template"]).read_text() == SILENT
    assert "--generation-config" not in given
    # The operator's own choice stays.
    chosen = spec.model_copy(update={"engine": EngineOptions(extra_args=("--generation-config=vllm",))})
    assert "--generation-config" not in arguments(chosen, made)
