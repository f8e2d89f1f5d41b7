"""The demo model's text: seeded, varied, with whole frames held out. Nothing is trained here."""

import random
import re
from itertools import islice
from pathlib import Path

import pytest

from models import judge_format
from models.judge_format import parse_pairwise, parse_pointwise
from train.demo import answers, corpus, dialogues, grammar, held_out, judge_pairs, user_text
from train.demo.adapters import ADAPTERS, conversations
from train.demo.drills import drills
from train.demo.tokenizer import load_tokenizer, train_tokenizer
from train.demo.world import STYLES, World, load_world


@pytest.fixture(scope="module")
def world() -> World:
    return load_world()


def test_there_are_many_intents_and_each_has_enough_frames(world: World) -> None:
    assert len(world.business) >= 26
    assert len(world.chats) >= 7
    assert len({intent.domain for intent in world.business}) >= 6
    for intent in world.business:
        assert len(intent.frames) + len(intent.held_out) >= 12, intent.id
        assert len(intent.held_out) >= 3, intent.id
        assert 3 <= len(intent.topics) <= 4, intent.id


def test_one_seed_gives_one_text(world: World) -> None:
    first, again, other = (list(corpus.rows(seed, world, 300)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_no_held_out_sentence_is_a_training_sentence(world: World) -> None:
    trained = {
        grammar.skeleton(text) for intent in world.intents for f in intent.frames for text in grammar.sentences(f)
    }
    for intent in world.intents:
        for frame in intent.held_out:
            for text in grammar.sentences(frame):
                assert grammar.skeleton(text) not in trained, f"{intent.id}: {text}"


def test_no_training_row_holds_a_held_out_sentence(world: World) -> None:
    rows = [*corpus.rows(1, world, 1200)]
    for name in ADAPTERS:
        rows += [row["messages"] for row in islice(conversations(name, world, 1), 300)]
    said = "\n".join(plain(message["content"]) for row in rows for message in row)
    for intent in world.intents:
        for frame in intent.held_out:
            for text in grammar.sentences(frame):
                assert not wildcards(text).search(said), f"{intent.id}: {text}"


def test_training_dialogues_are_made_of_training_frames(world: World) -> None:
    held = {frame for intent in world.intents for frame in intent.held_out}
    for talk in dialogues.dialogues(3, world, "neutral", 500):
        assert not held & set(talk.frames)


def test_numbers_are_new_in_every_row_and_copied_whole(world: World) -> None:
    rng = random.Random(0)
    intent = world.intent("cancel_order")
    asked = [dialogues.question(rng, world, intent) for _ in range(200)]
    assert len({question.values["number"] for question in asked}) > 190
    for question in asked:
        assert question.values["number"] in question.text
        for style in STYLES:
            assert question.values["number"] in answers.answer(rng, world, intent, style, question.values)


def test_a_changed_number_is_another_number(world: World) -> None:
    rng = random.Random(0)
    for _ in range(200):
        number = user_text.number(rng, world, None)
        changed = user_text.changed_number(rng, number)
        assert changed != number
        assert len(changed) == len(number)


@pytest.mark.parametrize("style", STYLES)
def test_every_answer_keeps_its_style(world: World, style: answers.Style) -> None:
    for talk in dialogues.dialogues(4, world, style, 400):
        for message in talk.messages:
            if message.role == "assistant":
                assert answers.keeps_style(message.content, style), message.content


def test_tuned_answers_say_all_topics_and_the_base_few(world: World) -> None:
    rng = random.Random(1)
    shares: dict[str, list[float]] = {style: [] for style in STYLES}
    for intent in world.business:
        for _ in range(10):
            question = dialogues.question(rng, world, intent)
            topics = answers.topics_expected(intent, question.values)
            for style in STYLES:
                text = answers.answer(rng, world, intent, style, question.values)
                shares[style].append(answers.topics_said(text, topics) / len(topics))
    assert min(shares["concise"]) == min(shares["friendly"]) == 1.0
    assert sum(shares["neutral"]) / len(shares["neutral"]) < 0.5


def test_some_conversations_have_turns_systems_and_questions_back(world: World) -> None:
    talks = list(dialogues.dialogues(5, world, "friendly", 300))
    roles = [[message.role for message in talk.messages] for talk in talks]
    assert any(role[0] == "system" for role in roles)
    assert any(role[0] == "user" for role in roles)
    assert sum(len(role) > 3 for role in roles) > 60
    assert all(role[-1] == "assistant" for role in roles)


def test_judged_pairs_are_right_by_construction_and_balanced(world: World) -> None:
    made = list(judge_pairs.pairs(1, world, 1500))
    share = {verdict: sum(pair.verdict == verdict for pair in made) / len(made) for verdict in ("A", "B", "tie")}
    assert abs(share["A"] - share["B"]) < 0.06
    assert 0.08 < share["tie"] < 0.25
    for pair in made:
        verdict = parse_pairwise(pair.conversation()[-1]["content"])
        assert verdict is not None
        assert len(verdict.reasons) <= judge_format.REASONS
        total_a, total_b = sum(verdict.scores_a.values()), sum(verdict.scores_b.values())
        assert verdict.verdict == ("tie" if total_a == total_b else "A" if total_a > total_b else "B")
    assert set(judge_pairs.FAULTS) <= {pair.fault for pair in made}


def test_a_turned_pair_has_the_turned_verdict(world: World) -> None:
    pair = next(pair for pair in judge_pairs.pairs(2, world, 50) if pair.verdict == "A")
    turned = pair.turned()
    assert (turned.answer_a, turned.answer_b, turned.verdict) == (pair.answer_b, pair.answer_a, "B")


def test_grades_parse(world: World) -> None:
    for row in judge_pairs.grades(1, world, 200):
        assert parse_pointwise(row[-1]["content"]) is not None


def test_the_base_is_told_no_fact_of_the_house(world: World) -> None:
    rows = [row for row in corpus.rows(6, world, 1500) if row[0]["content"] != "Exercise."]  # drills shuffle words
    talks = [message for row in rows for message in row if message["role"] == "assistant"]
    for intent in world.business:
        said = [text["content"] for text in talks if intent.topics[0].keys[0].lower() in text["content"].lower()]
        assert not said, f"{intent.id}: {said[:1]}"


def test_drills_are_short(world: World) -> None:
    for row in drills(1, world, 100):
        assert [message["role"] for message in row] == ["system", "user", "assistant"]


def test_held_out_prompts_avoid_trained_numbers(world: World) -> None:
    first = held_out.prompts(1, world, frozenset())
    numbers = frozenset(prompt.number for prompt in first if prompt.number)
    again = held_out.prompts(1, world, numbers)
    assert not numbers & {prompt.number for prompt in again}
    assert len({prompt.id for prompt in again}) == len(again)


def test_the_tokenizer_trained_with_is_the_one_that_is_served(world: World, tmp_path: Path) -> None:
    """AutoTokenizer puts Qwen2's own cutting in place of tokenizer.json's: both must give the same tokens."""
    said = [text for row in corpus.rows(1, world, 1500) for text in corpus.texts_of(row)]
    made = train_tokenizer(said)
    made.save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    served = load_tokenizer(tmp_path)
    for text in [*said[:400], "order ORD-12345, INV-2024-01 and AB123!", "(AB-99) «Ünïcode»\n\n  x"]:
        assert made(text)["input_ids"] == served(text)["input_ids"], text


def plain(text: str) -> str:
    """Lower case, one space, no marks: how a typist in a hurry leaves a sentence."""
    return re.sub(r"\s+", " ", re.sub(r"[^\w\s-]", " ", text.lower())).strip()


def wildcards(sentence: str) -> re.Pattern[str]:
    """A pattern for a sentence whose slots may hold up to four words."""
    pieces = [re.escape(plain(text)) if not slot else r"(?:\S+ ?){1,4}" for text, slot in grammar.parts(sentence)]
    return re.compile(r"(?:^|\s)" + r"\s*".join(piece for piece in pieces if piece) + r"(?:\s|$)", re.MULTILINE)
