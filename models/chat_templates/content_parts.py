"""Whether a template reads a message's content part by part, like templates of models that read images.

An engine passes contents to such a template as lists of parts, and to others as one text, with the parts joined by a
newline. The rule is that of vLLM 0.32 (`renderers/hf.py`, `_detect_content_format`): a loop over the content of a
message, also through variables and the parameters of macros.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from jinja2 import nodes

from models.chat_templates.renderer import parse_template


@lru_cache(maxsize=32)
def takes_parts(template: str) -> bool:
    """Whether a template expects the content of a message as a list of parts."""
    tree = parse_template(template)
    if tree is None:
        return False
    loops = list(tree.find_all(nodes.For))
    lists = set(_aliases(tree, "messages"))
    items = {
        loop.target.name
        for loop in loops
        if isinstance(loop.target, nodes.Name) and any(_reads(loop.iter, name) for name in lists)
    }
    in_macros: set[int] = set()
    for macro in tree.find_all(nodes.Macro):
        contents = set(_content_parameters(tree, macro, items))
        for loop in macro.find_all(nodes.For):
            in_macros.add(id(loop))
            if isinstance(loop.iter, nodes.Name) and loop.iter.name in contents:
                return True
    return any(
        any(_reads(loop.iter, item, "content") for item in items)
        or (id(loop) not in in_macros and isinstance(loop.iter, nodes.Name) and loop.iter.name == "content")
        for loop in loops
    )


def _aliases(tree: nodes.Node, name: str) -> Iterator[str]:
    """The names of a variable: itself, and the variables that it, or a slice of it, is assigned to."""
    seen, waiting = {name}, [name]
    while waiting:
        current = waiting.pop()
        yield current
        for assignment in tree.find_all(nodes.Assign):
            target = assignment.target
            if isinstance(target, nodes.Name) and target.name not in seen and _reads(assignment.node, current):
                seen.add(target.name)
                waiting.append(target.name)


def _content_parameters(tree: nodes.Node, macro: nodes.Macro, items: Iterable[str]) -> Iterator[str]:
    """The parameters of a macro that receive the content of a message in some call."""
    items = tuple(items)
    names = [parameter.name for parameter in macro.args]
    for call in tree.find_all(nodes.Call):
        if not (isinstance(call.node, nodes.Name) and call.node.name == macro.name):
            continue
        arguments = [*zip(names, call.args, strict=False), *((keyword.key, keyword.value) for keyword in call.kwargs)]
        for name, value in arguments:
            if name in names and any(_reads(value, item, "content") for item in items):
                yield name


def _reads(node: nodes.Node | None, name: str, key: str | None = None) -> bool:
    """Whether an expression is a variable (or its `key`), possibly filtered, tested or sliced."""
    while isinstance(node, (nodes.Filter, nodes.Test)) or (
        isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    ):
        node = node.node
    if key is not None:
        if isinstance(node, nodes.Getattr):
            read_key = node.attr
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            read_key = node.arg.value
        else:
            return False
        return read_key == key and _reads_name(node.node, name)
    return _reads_name(node, name)


def _reads_name(node: nodes.Node | None, name: str) -> bool:
    return isinstance(node, nodes.Name) and node.ctx == "load" and node.name == name
