"""Training's tokens are the engine's: vLLM's own renderer gives the same ids for every template and message shape."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models.chat_templates import names, read_template
from models.chat_templates.content_parts import takes_parts
from tests.train.trainers import test_tokens as templates
from train.data.checks import check
from train.trainers.tokens import IGNORED, tokenise

pytestmark = [pytest.mark.training, pytest.mark.long]
PARTS = [{"type": "text", "text": "A?"}, {"type": "text", "text": "B."}]
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"n": "4821"}'}}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"messages": templates.TURNS},
    "system": {"messages": [{"role": "system", "content": "Be kind."}, *templates.TURNS]},
    "developer": {"messages": [{"role": "developer", "content": "Be kind."}, *templates.TURNS]},
    "parts": {"messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": PARTS}]},
    "named": {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": " Yes. \n"}]},
    "tools": {
        "messages": [
            {"role": "user", "content": "Where is 4821?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": PARTS},
            {"role": "assistant", "content": "There."},
        ],
        "tools": [TOOL],
    },
}


def known_templates() -> dict[str, str]:
    """Parley's, those of the other tests, and those of real models, as TRL has them."""
    known = {name: read_template(name) for name in names()}
    known |= {name: text for name, text in vars(templates).items() if name.isupper() and isinstance(text, str)}
    place = find_spec("trl")
    assert place is not None
    folder = Path(str(place.origin)).parent / "chat_templates"
    real = (path for path in sorted(folder.glob("*.jinja")) if not path.stem.endswith("_training"))
    return known | {f"trl/{path.stem}": path.read_text("utf-8") for path in real}


@pytest.fixture(scope="module")
def renderer(tiny_base: Path) -> Any:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from vllm.config import ModelConfig, VllmConfig
    from vllm.renderers.registry import renderer_from_config

    return renderer_from_config(VllmConfig(model_config=ModelConfig(str(tiny_base))))


def engine_ids(renderer: Any, template: str, row: dict[str, Any], messages: int, prompt: bool) -> list[int]:
    """The ids that vLLM makes of the first messages, with or without the beginning of an answer."""
    from vllm.renderers.params import ChatParams

    options = {"add_generation_prompt": prompt, "tools": row.get("tools"), "tokenize": True}
    params = ChatParams(chat_template=template, chat_template_kwargs=options)
    _, made = renderer.render_messages(row["messages"][:messages], params)
    return list(made["prompt_token_ids"])


def test_training_has_the_tokens_that_the_engine_makes(renderer: Any, tokenizer: Any) -> None:
    compared: set[tuple[str, str]] = set()
    different = []
    for name, template in known_templates().items():
        tokenizer.chat_template = template
        for shape, row in SHAPES.items():
            (example,) = check([row]).examples
            tokenised = tokenise([example], tokenizer, 100_000)
            for place, trained in zip(example.learnt, tokenised.rows, strict=False):
                one_by_one = tokenised.methods == {"one by one"}
                whole = engine_ids(renderer, template, row, place if one_by_one else len(row["messages"]), one_by_one)
                compared.add((name, shape))
                if trained.input_ids[: len(whole)] != whole or (one_by_one and trained.labels[len(whole)] == IGNORED):
                    different.append((name, shape, tokenizer.decode(trained.input_ids), tokenizer.decode(whole)))
    assert different == []
    assert len(compared) > 150
    assert {shape for _, shape in compared} == set(SHAPES)
    assert set(names()) <= {name for name, _ in compared}


def test_parts_are_handed_to_the_templates_that_vllm_hands_them_to() -> None:
    hf = pytest.importorskip("vllm.renderers.hf", reason="vLLM is not installed")
    ours = {name: takes_parts(text) for name, text in known_templates().items()}
    theirs = {
        name: hf._detect_content_format(text, default="string") == "openai" for name, text in known_templates().items()
    }
    assert ours == theirs
    assert set(ours.values()) == {True, False}
