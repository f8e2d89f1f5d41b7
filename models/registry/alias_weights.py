"""The models of a split alias with their weights as text, such as a=90,b=10."""

from collections.abc import Mapping

from models.errors import Invalid


def parse_weights(text: str) -> dict[str, float]:
    """Model id → weight from `a=90,b=10`.

    Raises:
        Invalid: the text has another format.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        model, _, weight = part.strip().rpartition("=")
        try:
            if not model or model in weights:
                raise ValueError
            weights[model] = float(weight)
        except ValueError:
            raise Invalid(
                f"{text!r} is not a list of weights: name each model once with its weight, such as a=90,b=10.",
                param="to",
            ) from None
    return weights


def describe_weights(weights: Mapping[str, float]) -> str:
    """Each model with its share of the requests, such as `a 90 %, b 10 %`."""
    total = sum(weights.values())
    return ", ".join(f"{model} {100 * weight / total:.3g} %" for model, weight in weights.items())
