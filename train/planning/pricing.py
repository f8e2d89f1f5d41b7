"""What fine-tuning costs at a provider: a dated table of prices (prices.toml) and the provider's rule for epochs.

Every price has its date. A price over 90 days old is marked as outdated, and the user can give another. Outdated
prices, providers that stop accepting jobs, and models that are shut down soon give warnings.
"""

import tomllib
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.resources import files
from typing import Any, Literal

from models.database import utcnow
from models.errors import Invalid, NotFound
from models.quantities import count_noun
from train.planning.token_counts import Counts

_OLD_DAYS, _SOON_DAYS = 90, 90
_MILLION = 1_000_000
Method = Literal["sft", "dpo"]
USER_SOURCE = "--price"  # the source of a price that the user gave
UNKNOWN_PROVIDER = "other"  # of a given price for a model that is not in the table
_USUAL_EPOCHS = 3


@dataclass(frozen=True)
class Price:
    """One entry of the table. Prices are in US dollars per million tokens; None means not sold or unknown.

    `training` is by kind ("supervised", "lora", "full"). `closes` is the first day without new jobs, `retires` the
    day on which tuned models stop. prices.toml explains each field.
    """

    provider: str
    models: tuple[str, ...]
    training: dict[str, float]
    training_dpo: dict[str, float]
    input: float | None
    output: float | None
    training_context: int | None
    over_context: str
    fewest_examples: int
    epochs: str | int
    closes: date | None
    retires: date | None
    as_of: date
    source: str
    notes: str

    @property
    def model(self) -> str:
        """The id that is shown."""
        return self.models[0]

    def outdated(self, today: date) -> bool:
        """Whether the price is over 90 days old."""
        return (today - self.as_of).days > _OLD_DAYS

    def stopped(self, today: date) -> bool:
        """Whether the model and its fine-tunes are switched off."""
        return self.retires is not None and today >= self.retires


@dataclass(frozen=True)
class Epochs:
    """The number of epochs, and the rule for it."""

    number: float
    rule: str


@dataclass(frozen=True)
class Quote:
    """The price of one training job, in US dollars. Token numbers are for one epoch, except `billed_tokens`.

    `per_thousand_answers` is the price of the tuned model in use, at the mean lengths of this data; None if it is not
    sold by the token. `estimated`: the tokens, and so the price, are an estimate. `outdated`: the price is over 90 days
    old.
    """

    provider: str
    model: str
    kind: str
    method: Method
    examples: int
    tokens: int
    tokens_an_epoch: int
    over_limit: int
    over_context: str
    epochs: float
    epochs_rule: str
    billed_tokens: int
    rate: float
    usd: float
    per_thousand_answers: float | None
    estimated: bool
    counted: str
    as_of: date
    outdated: bool
    source: str
    notes: str
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"as_of": self.as_of.isoformat(), "warnings": list(self.warnings)}


def price_table() -> tuple[Price, ...]:
    """All prices, in the order of the file."""
    rows = tomllib.loads((files("train.planning") / "prices.toml").read_text("utf-8"))["price"]
    return tuple(_price(row) for row in rows)


def find_price(model: str, provider: str | None = None) -> Price:
    """The entry of a model, or of the base of a fine-tune (`ft:gpt-4o-mini:…`).

    Raises:
        NotFound: the table has no such model. The message lists those that it has.
    """
    parts = model.split(":")
    wanted = parts[1] if parts[0] == "ft" and len(parts) > 1 else model
    table = [price for price in price_table() if provider in (None, price.provider)]
    for price in table:
        if wanted.casefold() in (name.casefold() for name in price.models):
            return price
    known = "; ".join(
        f"{name}: {', '.join(price.model for price in table if price.provider == name)}"
        for name in dict.fromkeys(price.provider for price in table)
    )
    raise NotFound(
        f"No price is known for {model!r}{f' at {provider!r}' if provider else ''}. "
        + (f"Known prices: {known}." if known else "Providers are openai and together."),
        param="model",
    )


def parse_user_price(text: str, today: date | None = None) -> Price:
    """The price that a user gives, in US dollars per million tokens: `MODEL=TRAINING` or `MODEL=TRAINING/INPUT/OUTPUT`.

    Everything else is as in the table; for a model that is not in the table, 3 epochs are assumed.

    Raises:
        Invalid: the text has another format.
    """
    model, _, numbers = text.rpartition("=")
    try:
        rates = [float(number) for number in numbers.split("/")]
    except ValueError:
        rates = []
    if not model or len(rates) not in (1, 3) or not all(0 <= rate < _MILLION for rate in rates):
        raise Invalid(
            f"--price is {text!r}: use MODEL=TRAINING or MODEL=TRAINING/INPUT/OUTPUT, in US dollars per million "
            "tokens, such as gpt-4o-mini=3/0.3/1.2.",
            param="price",
        )
    training, in_use = rates[0], rates[1:]
    today = today or utcnow().date()
    try:
        price = find_price(model)
    except NotFound:
        fields: dict[str, Any] = {"provider": UNKNOWN_PROVIDER, "models": [model], "training": {"training": training}}
        price = _price(fields | {"epochs": _USUAL_EPOCHS, "as_of": today, "source": USER_SOURCE})
    old = (
        ""
        if in_use or price.input is None or price.source == USER_SOURCE
        else f"The prices for use are the table's, of {price.as_of}."
    )
    return replace(
        price,
        training=dict.fromkeys(price.training, training),
        training_dpo={},
        input=in_use[0] if in_use else price.input,
        output=in_use[1] if in_use else price.output,
        as_of=today,
        source=USER_SOURCE,
        notes=" ".join(filter(None, (price.notes, old))),
    )


def openai_epochs(examples: int) -> Epochs:
    """OpenAI's automatic number: 3, unless the examples seen in total would be below 100 or above 25,000.

    Source: github.com/openai/openai-cookbook, examples/Chat_finetuning_data_prep.ipynb, "Cost Estimation".

    Raises:
        Invalid: no examples.
    """
    if examples < 1:
        raise Invalid("There are no examples to train on.", param="data")
    if examples * 3 < 100:
        return Epochs(
            min(25, 100 // examples),
            f"100 examples seen in total, at most 25 epochs: {count_noun(examples, 'example')}",
        )
    if examples * 3 > 25_000:
        return Epochs(
            max(1, 25_000 // examples),
            f"25,000 examples seen in total, 1 epoch or more: {count_noun(examples, 'example')}",
        )
    return Epochs(3, "OpenAI's automatic 3, with 100 to 25,000 examples seen in total")


def quote(
    counts: Counts,
    price: Price,
    *,
    epochs: float | Literal["auto"] = "auto",
    kind: str | None = None,
    method: Method = "sft",
    today: date | None = None,
) -> Quote:
    """The price of a training job on counted data.

    Args:
        counts: the data's tokens, counted for this model.
        price: the model's entry.
        epochs: the number of epochs; "auto": the provider's own rule.
        kind: "lora" or "full" if the provider sells both. Default: the first of the entry.
        method: "sft" or "dpo".
        today: the date for ages and deadlines.

    Raises:
        Invalid: a kind that the provider does not sell, fewer examples than it takes, or no positive epochs.
    """
    rates = price.training_dpo if method == "dpo" and price.training_dpo else price.training
    kind = kind or next(iter(rates))
    if kind not in rates:
        raise Invalid(f"{price.provider} trains {price.model} as {' or '.join(rates)}, not as {kind!r}.", param="kind")
    if counts.examples < price.fewest_examples:
        raise Invalid(
            f"{price.provider} needs at least {price.fewest_examples} examples; this data has {counts.examples}.",
            param="data",
        )
    today = today or utcnow().date()
    chosen = _epochs(price, counts.examples, epochs)
    limit = price.training_context
    longer = [length.tokens for length in counts.lengths if limit and length.tokens > limit]
    tokens = counts.tokens - sum(length - (limit or 0) for length in longer)
    billed = round(tokens * chosen.number)
    return Quote(
        provider=price.provider,
        model=price.model,
        kind=kind,
        method=method,
        examples=counts.examples,
        tokens=counts.tokens,
        tokens_an_epoch=tokens,
        over_limit=len(longer),
        over_context=price.over_context,
        epochs=chosen.number,
        epochs_rule=chosen.rule,
        billed_tokens=billed,
        rate=rates[kind],
        usd=billed * rates[kind] / _MILLION,
        per_thousand_answers=_in_use(counts, price),
        estimated=counts.way == "estimate",
        counted=counts.how,
        as_of=price.as_of,
        outdated=price.outdated(today),
        source=price.source,
        notes=price.notes,
        warnings=warnings(price, today),
    )


def warnings(price: Price, today: date) -> tuple[str, ...]:
    """The warnings about a price: its age, a provider that takes no new jobs, a model that is switched off."""
    lines = []
    provider = provider_name(price.provider)
    if price.outdated(today):
        age = (today - price.as_of).days
        lines.append(f"This price is from {price.as_of}, {age} days ago: check it at {price.source}")
    if price.stopped(today):
        lines.append(f"The model and its fine-tunes were switched off on {price.retires}")
        return tuple(lines)
    if price.closes and today >= price.closes:
        lines.append(f"{provider} has taken no new fine-tuning jobs for it since {price.closes}")
    elif price.closes and (days := (price.closes - today).days) <= _SOON_DAYS:
        lines.append(f"{provider} takes no new fine-tuning jobs from {price.closes} on, in {days} days")
    use = (price.retires - today).days if price.retires else None
    if use is not None and use <= _SOON_DAYS:
        lines.append(f"The model and all its fine-tunes are switched off on {price.retires}, in {use} days")
    return tuple(lines)


def provider_name(provider: str) -> str:
    """The name of a provider as it is written."""
    return {"openai": "OpenAI", "together": "Together"}.get(provider, provider)


def _epochs(price: Price, examples: int, given: float | Literal["auto"]) -> Epochs:
    if given != "auto":
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1000:
            raise Invalid(f'epochs is {given!r}: use "auto" or a number above 0.', param="epochs")
        return Epochs(given, "as given")
    if price.epochs == "openai":
        return openai_epochs(examples)
    if price.source == USER_SOURCE:
        return Epochs(float(price.epochs), "assumed; set --epochs to change them")
    return Epochs(float(price.epochs), f"{provider_name(price.provider)}'s default")


def _in_use(counts: Counts, price: Price) -> float | None:
    """The price of 1,000 answers: the tokens with loss of an example are the answer, the others the prompt."""
    if price.input is None or price.output is None:
        return None
    read, written = counts.tokens - counts.learnt_tokens, counts.learnt_tokens
    return 1_000 * (read * price.input + written * price.output) / _MILLION / counts.examples


def _price(row: dict[str, Any]) -> Price:
    optional = dict.fromkeys(("input", "output", "training_context", "closes", "retires"))
    defaults: dict[str, Any] = optional | {"training_dpo": {}, "fewest_examples": 1, "over_context": "", "notes": ""}
    return Price(**defaults | row | {"models": tuple(row["models"])})
