"""The formula of a `multi` grader: arithmetic over scores, with OpenAI's functions and constants.

Python's parser reads it, and only the operators and functions below are evaluated, all on floats, so that no formula
can run for long.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from models.errors import Invalid

_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: math.pow, ast.Mod: math.fmod, ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min, "max": max, "abs": abs, "floor": math.floor, "ceil": math.ceil, "exp": math.exp, "sqrt": math.sqrt,
    "log": math.log,
}  # fmt: skip
_CONSTANTS = {"pi": math.pi, "e": math.e}
_MOST_NODES = 1000


def check_formula(formula: str, names: set[str]) -> None:
    """Checks a formula over these names.

    Raises:
        Invalid: it is not a formula, or has an unknown name.
    """
    for node in ast.walk(_parse(formula)):
        if isinstance(node, ast.Name) and node.id not in {*names, *_FUNCTIONS, *_CONSTANTS}:
            raise _wrong(f"{node.id!r} is not one of its graders ({', '.join(sorted(names))})")


def evaluate_formula(formula: str, scores: Mapping[str, float]) -> float:
    """The value of a formula.

    Raises:
        Invalid: it is not a formula, has an unknown name, or has no finite value for these scores.
    """
    check_formula(formula, set(scores))
    try:
        value = float(_value(_parse(formula), scores))
    except (ArithmeticError, LookupError, ValueError, TypeError) as error:
        raise _wrong(f"it has no value for these scores ({error})") from error
    if not math.isfinite(value):
        raise _wrong("its value is not finite")
    return value


def _parse(formula: str) -> ast.expr:
    try:
        tree = ast.parse(formula.replace("^", "**").strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _wrong("it is not an arithmetic expression") from error
    nodes = list(ast.walk(tree))
    if len(nodes) > _MOST_NODES or not all(_allowed(node) for node in nodes):
        raise _wrong(f"use only numbers, names of graders, + - * / ^ % and {', '.join(_FUNCTIONS)}")
    return tree


def _allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and not node.keywords
    return isinstance(node, ast.BinOp | ast.UnaryOp | ast.Name | ast.Load) or type(node) in _OPERATORS


def _value(node: Any, scores: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name):
        return float(scores[node.id] if node.id in scores else _CONSTANTS[node.id])
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, scores), _value(node.right, scores))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_value(node.operand, scores))
    return _FUNCTIONS[node.func.id](*(_value(each, scores) for each in node.args))


def _wrong(reason: str) -> Invalid:
    return Invalid(f"calculate_output is not valid: {reason}.", param="calculate_output", code="formula_parse_error")
