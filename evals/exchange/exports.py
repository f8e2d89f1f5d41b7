"""Exports an eval to another tool's files."""

from evals.exchange.exported_eval import Export, load_exported
from evals.exchange.inspect_export import inspect_export
from evals.exchange.promptfoo_export import promptfoo_export
from models.database import Database
from models.errors import Invalid
from models.home.instance import gateway_url
from models.settings.settings import Settings

_PROMPTFOO = """# {name}

Exported from Parley for promptfoo. In this folder:

    export OPENAI_API_KEY=…    # a key of Parley, or any word if it needs none
    npx promptfoo@latest eval

The address of Parley is `{address}`, in `promptfooconfig.yaml`. Without options in the provider's config, promptfoo
sends `temperature: 0` and `max_tokens: 1024`. The scores of bleu, gleu, meteor and rouge-n differ slightly,
because promptfoo splits words differently. Python graders run without a sandbox.
"""
_INSPECT = """# {name}

Exported from Parley for Inspect. In this folder:

    pip install inspect_ai openai
    export PARLEY_BASE_URL={address} PARLEY_API_KEY=…    # a key of Parley, or any word if it needs none
    inspect eval task.py --model openai-api/parley/{model}

Graders that need a model use `--model-role grader=openai-api/parley/MODEL`, or else the model itself.{judges}
Python graders run without a sandbox.
"""


def export_eval(settings: Settings, database: Database, wanted: str, tool: str, base_url: str | None = None) -> Export:
    """The files of an eval or run for `promptfoo` or `inspect`.

    Args:
        base_url: the address of the models; by default this gateway's.

    Raises:
        NotFound: there is no such eval or run. Invalid: it has no rows, or the tool is another one.
    """
    if tool not in ("promptfoo", "inspect"):
        raise Invalid(f"{tool[:40]!r} is not a tool that evals are exported to: use promptfoo or inspect.", param="to")
    exported = load_exported(settings, database, wanted)
    address = base_url or gateway_url(settings)
    name = " ".join(exported.name.split())
    if tool == "promptfoo":
        export = promptfoo_export(exported, address)
        export.readme = _PROMPTFOO.format(name=name, address=address)
        return export
    export = inspect_export(exported)
    judges = ", ".join(sorted({criterion["model"] for criterion in exported.criteria if "model" in criterion}))
    export.readme = _INSPECT.format(
        name=name,
        address=address,
        model=exported.requests[0].get("model") or "MODEL",
        judges=f" In Parley they use {judges}." if judges else "",
    )
    return export
