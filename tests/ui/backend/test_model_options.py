"""Models in words: their state in the list, a banner where one is not ready, nothing unescaped."""

from models.spec import ModelSpec
from ui.backend.context import ServedModel
from ui.backend.model_options import about, banner, entries, notice, picked


def served(name: str, state: str, note: str = "", **more: object) -> ServedModel:
    return ServedModel(ModelSpec(id=name, kind="base", path="hub/x", **more), state, note)  # pyrefly: ignore -- keywords by dictionary


MODELS = [
    served("a", "ready"),
    served("b", "starting"),
    served("c", "failed", "no memory <here>"),
    served("d", "stopped"),
]


def test_the_list_tells_the_state():
    assert entries(MODELS) == [("● a", "a"), ("◐ b · starting", "b"), ("✕ c · failed", "c"), ("○ d · stopped", "d")]
    assert entries([served("j", "ready", judge=True)]) == [("● j · judge", "j")]


def test_the_banner_speaks_of_what_is_not_ready():
    assert banner(MODELS, "a") == ""
    assert "b is starting" in banner(MODELS, "b")
    assert "no memory &lt;here&gt;" in banner(MODELS, "c")
    assert "not running" in banner(MODELS, "a", "d")
    assert "not served any more" in banner(MODELS, "gone")
    assert "No model is served yet" in banner([], None)


def test_the_choice_is_kept_while_it_is_there():
    assert picked(MODELS, "c") == "c"
    assert picked(MODELS, "gone") == "a"
    assert picked(MODELS, None, position=1) == "b"
    assert picked(MODELS[:1], None, position=1) == "a"
    assert picked([], "a") is None


def test_a_toy_is_called_a_toy_and_text_is_escaped():
    assert "a toy" in about(served("t", "ready", toy=True).spec)
    assert notice("<b> `x<y`") == notice("<b> `x<y`")
    assert "<code>x&lt;y</code>" in notice("<b> `x<y`")
    assert "<b>" not in notice("<b> `x<y`")
