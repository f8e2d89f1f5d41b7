"""The demo model's text: seeded, varied, with whole frames held out. Nothing is trained here."""

import json
import random
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from models.chat import judge_prompt
from models.chat.judge_prompt import parse_pairwise, parse_pointwise
from models.demo import FOLDER, PROMPTS
from train.demo import answers, base, dialogues, grammar, held_out, judge_pairs, user_text
from train.demo.base import load_tokenizer, train_tokenizer
from train.demo.build import ADAPTERS, conversations, trained_numbers
from train.demo.catalogue import STYLES, Catalogue, load_catalogue
from train.demo.drills import drills
from train.demo.pretraining import Recipe


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def test_there_are_many_intents_and_each_has_enough_frames(catalogue: Catalogue) -> None:
    assert len(catalogue.business) >= 26
    assert len(catalogue.chats) >= 7
    assert len({intent.domain for intent in catalogue.business}) >= 6
    for intent in catalogue.business:
        assert len(intent.frames) + len(intent.held_out) >= 12, intent.id
        assert len(intent.held_out) >= 3, intent.id
        assert 3 <= len(intent.topics) <= 4, intent.id


def test_one_seed_gives_one_text(catalogue: Catalogue) -> None:
    first, again, other = (list(base.rows(seed, catalogue, 300)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_no_held_out_sentence_is_a_training_sentence(catalogue: Catalogue) -> None:
    trained = {
        grammar.skeleton(text) for intent in catalogue.intents for f in intent.frames for text in grammar.sentences(f)
    }
    for intent in catalogue.intents:
        for frame in intent.held_out:
            for text in grammar.sentences(frame):
                assert grammar.skeleton(text) not in trained, f"{intent.id}: {text}"


@pytest.mark.long
def test_no_training_row_holds_a_held_out_sentence(catalogue: Catalogue) -> None:
    rows = [*base.rows(1, catalogue, 1200)]
    for name in ADAPTERS:
        rows += [row["messages"] for row in islice(conversations(name, catalogue, 1), 300)]
    trained_text = "\n".join(plain(message["content"]) for row in rows for message in row)
    for intent in catalogue.intents:
        for frame in intent.held_out:
            for text in grammar.sentences(frame):
                assert not wildcards(text).search(trained_text), f"{intent.id}: {text}"


def test_training_dialogues_are_made_of_training_frames(catalogue: Catalogue) -> None:
    held = {frame for intent in catalogue.intents for frame in intent.held_out}
    for talk in dialogues.dialogues(3, catalogue, "neutral", 500):
        assert not held & set(talk.frames)


def test_numbers_are_new_in_every_row_and_copied_whole(catalogue: Catalogue) -> None:
    rng = random.Random(0)
    intent = catalogue.intent("cancel_order")
    questions = [dialogues.question(rng, catalogue, intent) for _ in range(200)]
    assert len({question.values["number"] for question in questions}) > 190
    for question in questions:
        assert question.values["number"] in question.text
        for style in STYLES:
            assert question.values["number"] in answers.answer(rng, catalogue, intent, style, question.values)


def test_a_changed_number_is_another_number(catalogue: Catalogue) -> None:
    rng = random.Random(0)
    for _ in range(200):
        number = user_text.number(rng, catalogue, None)
        changed = user_text.changed_number(rng, number)
        assert changed != number
        assert len(changed) == len(number)


@pytest.mark.parametrize("style", STYLES)
def test_every_answer_keeps_its_style(catalogue: Catalogue, style: answers.Style) -> None:
    for talk in dialogues.dialogues(4, catalogue, style, 400):
        for message in talk.messages:
            if message.role == "assistant":
                assert answers.has_style(message.content, style), message.content


def test_tuned_answers_say_all_topics_and_the_base_few(catalogue: Catalogue) -> None:
    rng = random.Random(1)
    shares: dict[str, list[float]] = {style: [] for style in STYLES}
    for intent in catalogue.business:
        for _ in range(10):
            question = dialogues.question(rng, catalogue, intent)
            topics = answers.topics_expected(intent, question.values)
            for style in STYLES:
                text = answers.answer(rng, catalogue, intent, style, question.values)
                shares[style].append(answers.count_topics(text, topics) / len(topics))
    assert min(shares["concise"]) == min(shares["friendly"]) == 1.0
    assert sum(shares["neutral"]) / len(shares["neutral"]) < 0.5


def test_some_conversations_have_turns_systems_and_questions_back(catalogue: Catalogue) -> None:
    talks = list(dialogues.dialogues(5, catalogue, "friendly", 300))
    roles = [[message.role for message in talk.messages] for talk in talks]
    assert any(role[0] == "system" for role in roles)
    assert any(role[0] == "user" for role in roles)
    assert sum(len(role) > 3 for role in roles) > 60
    assert all(role[-1] == "assistant" for role in roles)


def test_judged_pairs_are_right_by_construction_and_balanced(catalogue: Catalogue) -> None:
    made = list(judge_pairs.pairs(1, catalogue, 1500))
    share = {verdict: sum(pair.verdict == verdict for pair in made) / len(made) for verdict in ("A", "B", "tie")}
    assert abs(share["A"] - share["B"]) < 0.06
    assert 0.08 < share["tie"] < 0.25
    for pair in made:
        verdict = parse_pairwise(pair.conversation()[-1]["content"])
        assert verdict is not None
        assert len(verdict.reasons) <= judge_prompt.REASONS
        total_a, total_b = sum(verdict.scores_a.values()), sum(verdict.scores_b.values())
        assert verdict.verdict == ("tie" if total_a == total_b else "A" if total_a > total_b else "B")
    assert set(judge_pairs.FAULTS) <= {pair.fault for pair in made}


def test_a_turned_pair_has_the_turned_verdict(catalogue: Catalogue) -> None:
    pair = next(pair for pair in judge_pairs.pairs(2, catalogue, 50) if pair.verdict == "A")
    turned = pair.turned()
    assert (turned.answer_a, turned.answer_b, turned.verdict) == (pair.answer_b, pair.answer_a, "B")


def test_grades_parse(catalogue: Catalogue) -> None:
    for row in judge_pairs.grades(1, catalogue, 200):
        assert parse_pointwise(row[-1]["content"]) is not None


def test_the_base_is_taught_no_facts_of_the_house(catalogue: Catalogue) -> None:
    rows = [row for row in base.rows(6, catalogue, 1500) if row[0]["content"] != "Exercise."]  # drills shuffle words
    talks = [message for row in rows for message in row if message["role"] == "assistant"]
    for intent in catalogue.business:
        facts = [text["content"] for text in talks if intent.topics[0].keys[0].lower() in text["content"].lower()]
        assert not facts, f"{intent.id}: {facts[:1]}"


def test_drills_are_short(catalogue: Catalogue) -> None:
    for row in drills(1, catalogue, 100):
        assert [message["role"] for message in row] == ["system", "user", "assistant"]


def test_held_out_prompts_avoid_trained_numbers(catalogue: Catalogue) -> None:
    first = held_out.prompts(1, catalogue, frozenset())
    numbers = frozenset(prompt.number for prompt in first if prompt.number)
    again = held_out.prompts(1, catalogue, numbers)
    assert not numbers & {prompt.number for prompt in again}
    assert len({prompt.id for prompt in again}) == len(again)


def test_the_prompts_that_people_read_are_clean(catalogue: Catalogue) -> None:
    made = held_out.prompts(1, catalogue, frozenset(), clean=True)
    texts = [message["content"] for prompt in made for message in prompt.messages if message["role"] == "user"]
    known = {word for text in texts for word in text.split()}
    for text in texts:
        assert text[0].isupper() or text[0].isdigit(), text
        assert text[-1] in ".?!" or text[-1].isdigit(), text
        assert "  " not in text
    assert not known & {"i", "teh", "plase"}
    assert len({prompt.id for prompt in made}) == len(made)


@pytest.mark.long
def test_the_shipped_prompts_are_the_generators(catalogue: Catalogue) -> None:
    trained = trained_numbers(1, Recipe.steps, catalogue)
    prompts = held_out.prompts(1, catalogue, trained, clean=True)
    assert [json.loads(line) for line in PROMPTS.read_text("utf-8").splitlines()] == plain_json(prompts)
    pairs = held_out.pairs(1, catalogue, trained, 200)
    assert [json.loads(line) for line in (FOLDER / "judged.jsonl").read_text("utf-8").splitlines()] == plain_json(pairs)


def plain_json(rows: Sequence[Any]) -> list[Any]:
    """Rows as they are read back from JSON."""
    return json.loads(json.dumps([row.as_dict() for row in rows]))


@pytest.mark.long
def test_the_tokenizer_trained_with_is_the_one_that_is_served(catalogue: Catalogue, tmp_path: Path) -> None:
    """AutoTokenizer replaces the pre-tokenizer of tokenizer.json by Qwen2's: both must give the same tokens."""
    texts = [text for row in base.rows(1, catalogue, 1500) for text in base.texts_of(row)]
    made = train_tokenizer(texts)
    made.save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    served = load_tokenizer(tmp_path)
    for text in [*texts[:400], "order ORD-12345, INV-2024-01 and AB123!", "(AB-99) “Ünïcode”\n\n  x"]:
        assert made(text)["input_ids"] == served(text)["input_ids"], text


def plain(text: str) -> str:
    """Lower case, single spaces, no punctuation: a sentence typed in a hurry."""
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s-]", " ", text.lower())).strip()


def wildcards(sentence: str) -> re.Pattern[str]:
    """A pattern for a sentence whose slots may hold up to four words."""
    pieces = [re.escape(plain(text)) if not slot else r"(?:\S+ ?){1,4}" for text, slot in grammar.parts(sentence)]
    return re.compile(r"(?:^|\s)" + r"\s*".join(piece for piece in pieces if piece) + r"(?:\s|$)", re.MULTILINE)
