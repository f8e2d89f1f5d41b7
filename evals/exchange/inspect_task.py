"""The text of a task for Inspect: fixed parts, of which `inspect_export` writes those that an eval needs."""

HEAD = '''"""{title}

Exported from Parley. Run it against Parley's address with an OpenAI-compatible provider, see README.md.
"""

import json
import re
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import json_dataset
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    ResponseSchema,
    get_model,
)
from inspect_ai.scorer import Score, accuracy, includes, mean, scorer, stderr
from inspect_ai.solver import generate, solver

HERE = Path(__file__).parent
_VARIABLE = re.compile(r"\\{{\\{{\\s*([^{{}}]*?)\\s*\\}}\\}}")


def sample_of(state):
    """The answer as Parley's graders see it."""
    message = {{"role": "assistant", "content": state.output.completion}}
    sample = {{"output_text": message["content"], "choices": [{{"index": 0, "message": message}}], "output_tools": []}}
    try:
        return sample | {{"output_json": json.loads(state.output.completion)}}
    except ValueError:
        return sample


def look_up(path, values):
    """The value at a path such as item.turns[0].text."""
    for step in re.findall(r"[^.\\[\\]]+", path):
        values = values[int(step)] if isinstance(values, list) else values[step]
    return values if isinstance(values, str) else json.dumps(values, ensure_ascii=False)


def render(template, state):
    """A template with its variables filled in."""
    values = {{"item": state.metadata, "sample": sample_of(state)}}
    return _VARIABLE.sub(lambda match: look_up(match[1], values), template)
'''

STRING_CHECK = '''

CHECKS = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


@scorer(metrics=[accuracy(), stderr()])
def string_check(input, reference, operation):
    """1 if the two texts have the relation."""

    async def score(state, target):
        text = render(input, state)
        return Score(value=float(CHECKS[operation](text, render(reference, state))), answer=text)

    return score
'''

PYTHON = '''

@scorer(metrics=[mean(), stderr()])
def python_grader(file):
    """The number that `grade(sample, item)` in a file returns. It runs without a sandbox."""
    names = {"__name__": "grader"}
    exec(compile((HERE / file).read_text("utf-8"), file, "exec"), names)

    async def score(state, target):
        return Score(value=float(names["grade"](sample_of(state), state.metadata)), answer=state.output.completion)

    return score
'''

JUDGE = '''

async def ask_judge(messages, instruction, schema, state):
    """The JSON object that a judge answers; empty if it answers something else."""
    chat = [{"role": each["role"], "content": render(each["content"], state)} for each in messages]
    roles = {"system": ChatMessageSystem, "assistant": ChatMessageAssistant}
    turns = [roles.get(each["role"], ChatMessageUser)(content=each["content"]) for each in chat]
    config = GenerateConfig(temperature=0.0, response_schema=ResponseSchema(name="grade", json_schema=schema))
    output = await get_model(role="grader").generate([*turns, ChatMessageUser(content=instruction)], config=config)
    try:
        answer = json.loads(output.completion)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def no_verdict(state):
    """The score where a judge's answer has not the format."""
    return Score(value=0.0, answer=state.output.completion, explanation="The judge gave no valid verdict.")
'''

SCORE_MODEL = '''

@scorer(metrics=[mean(), stderr()])
def score_model(messages, instruction, schema):
    """The number that a judge gives."""

    async def score(state, target):
        result = (await ask_judge(messages, instruction, schema, state)).get("result")
        if not isinstance(result, int | float):
            return no_verdict(state)
        return Score(value=float(result), answer=state.output.completion)

    return score
'''

LABEL_MODEL = '''

@scorer(metrics=[accuracy(), stderr()])
def label_model(messages, instruction, schema, passing):
    """1 if a judge chooses one of the passing labels."""

    async def score(state, target):
        label = (await ask_judge(messages, instruction, schema, state)).get("label")
        if label is None:
            return no_verdict(state)
        return Score(value=float(label in passing), answer=str(label))

    return score
'''

RECORDED = '''

@solver
def recorded_answer():
    """The answer in the row, instead of a new one."""

    async def solve(state, generate):
        state.output = ModelOutput.from_content("recorded", state.metadata.pop("_answer"))
        return state

    return solve
'''

TASK = """

@task
def {name}():
    return Task(
        dataset=json_dataset(str(HERE / "rows.jsonl")),
        solver=[{solver}],
        scorer=[
{scorers}
        ],
{config}    )
"""
