"""train/data/data_sets.py: folders that `Dataset.save_to_disk` wrote."""

from pathlib import Path

import pytest

from models.errors import Invalid
from train.data.conversations import Example, Problem
from train.data.readers import read


@pytest.mark.long
def test_a_saved_data_set_is_read_and_one_with_splits_by_its_training_split(tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"question": ["Hi", "Bye"], "answer": ["Hello", "See you"]})
    other = datasets.Dataset.from_dict({"question": ["Why?"], "answer": ["So."]})
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=rows, test=other).save_to_disk(tmp_path / "both")
    datasets.DatasetDict(test=other, validation=other).save_to_disk(tmp_path / "held")
    for folder, expected in (("one", ["Hi", "Bye"]), ("both", ["Hi", "Bye"]), ("both/test", ["Why?"])):
        items = list(read(tmp_path / folder))
        assert [item.conversation.messages[0].content for item in items if isinstance(item, Example)] == expected
    with pytest.raises(
        Invalid, match=r"has the splits test, validation, but no 'train': give the folder of one, .*/held/test"
    ):
        read(tmp_path / "held")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"broken")
    with pytest.raises(Invalid, match="one cannot be read: "):
        list(read(tmp_path / "one"))


@pytest.mark.long
def test_a_column_that_cannot_be_decoded_is_an_error(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.Value("string"), "picture": datasets.Image()}
    )
    table = {"question": ["Hi"], "answer": ["Hello"], "picture": [{"bytes": b"none", "path": None}]}
    datasets.Dataset.from_dict(table, features=features).save_to_disk(tmp_path / "one")
    (problem,) = read(tmp_path / "one")
    assert isinstance(problem, Problem)
    assert (problem.line, problem.severity) == (1, "error")
    assert "cannot be read from here on" in problem.message
