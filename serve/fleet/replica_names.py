"""The names of a model's engines: its first replica has the model's id, the others `ID#2`, `ID#3`, and so on.

No model's id contains a `#`. Rows, logs and metrics use these names.
"""


def replica_name(model_id: str, number: int) -> str:
    """The name of a model's replica; replicas are numbered from 1."""
    return model_id if number == 1 else f"{model_id}#{number}"


def model_of(name: str) -> str:
    """The id of the model that an engine serves."""
    return name.partition("#")[0]


def replica_number(name: str) -> int:
    """The number of a replica."""
    return int(name.partition("#")[2] or 1)
