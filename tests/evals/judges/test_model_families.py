"""Which models belong to one family: the same base, the same maker, and names without a clue."""

import pytest

from evals.judges.model_families import related_models, vendor_of
from models.spec import ModelSpec, Upstream


def hosted(name: str) -> ModelSpec:
    return ModelSpec(id=name.rpartition("/")[2], kind="hosted", upstream=Upstream(base_url="http://x/v1", model=name))


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("gpt-4.1-mini", "OpenAI"),
        ("ft:gpt-4o-mini:team:support:abc", "OpenAI"),
        ("o3-mini", "OpenAI"),
        ("Qwen/Qwen2.5-7B-Instruct", "Alibaba"),
        ("meta-llama/Meta-Llama-3-8B", "Meta"),
        ("support-judge", None),
        ("oracle", None),
        ("42", None),
    ],
)
def test_the_maker_is_read_from_the_name(name: str, maker: str | None) -> None:
    assert vendor_of(name) == maker


def test_related_models_share_a_base_or_a_maker() -> None:
    base = ModelSpec(id="small", kind="base", path="Qwen/Qwen2.5-0.5B")
    tuned = ModelSpec(id="support", kind="adapter", path="/x", base="small")
    again = ModelSpec(id="support-2", kind="adapter", path="/y", base="support")
    lone = ModelSpec(id="lone", kind="merged", path="/z")
    by_id = {spec.id: spec for spec in (base, tuned, again, lone)}
    assert related_models(again, (base, lone), by_id) == [("small", "both are based on small")]
    assert related_models(hosted("Qwen/Qwen2.5-72B"), (tuned, lone), by_id) == [("support", "both are from Alibaba")]
    assert (
        related_models(hosted("gpt-4.1"), (hosted("ft:gpt-4o-mini:a:b:c"), lone), by_id)[0][1] == "both are from OpenAI"
    )
    assert related_models(hosted("gpt-4.1"), (lone, base), by_id) == []
