"""The generated tasks: what every dialogue of theirs promises, and the chatter around the facts."""

import random
import re
from itertools import pairwise

import pytest

from edge_sir.eval.chatter import TEMPLATES, Language, chatter, chatter_until, has_word, length
from edge_sir.eval.task import Ask, Dialogue, Say, Setup, task
from edge_sir.eval.tasks._fact import FactTask

TWELVE = (
    *("single-item", "item-list", "numbers", "names", "appointments", "correction", "preference", "instruction"),
    *("order", "never-mentioned", "rehearsal", "identifiers"),
)
TASKS = (*TWELVE, "single-item-german", "unnamed", "asked-early", "follow-up")
INDICES = range(12)


def count_tokens(text: str) -> int:
    """About what a small English tokenizer counts: a word is one token, a long word two, a digit or mark one."""
    return sum(1 + len(word) // 8 for word in re.findall(r"[^\W\d]+|\d|[^\w\s]", text))


def setup(seed: int = 0, n_tokens: int = 700, lead: int | None = None) -> Setup:
    return Setup(count_tokens, seed=seed, n_tokens=n_tokens, lead=lead)


def said(dialogue: Dialogue) -> list[Say]:
    return [step for step in dialogue.steps if isinstance(step, Say)]


def question(dialogue: Dialogue) -> Ask:
    *before, last = dialogue.steps
    assert isinstance(last, Ask)
    assert not any(isinstance(step, Ask) for step in before)
    return last


def places(dialogue: Dialogue) -> list[int]:
    """Where facts are told, and where the question was asked before that."""
    asked = question(dialogue).user
    return [at for at, say in enumerate(said(dialogue)) if say.fact or say.user == asked]


@pytest.fixture(params=TASKS)
def made(request: pytest.FixtureRequest) -> FactTask:
    found = task(request.param)
    assert isinstance(found, FactTask)
    return found


def test_same_seed_and_index_same_dialogue(made: FactTask) -> None:
    for index in INDICES:
        assert made.dialogue(setup(), index) == made.dialogue(setup(), index)


def test_other_index_or_seed_other_words(made: FactTask) -> None:
    dialogues = [made.dialogue(setup(seed), index) for seed in (0, 1) for index in INDICES]
    assert len({d.id for d in dialogues}) == len(dialogues)
    assert len({d.steps for d in dialogues}) == len(dialogues)


def test_question_is_a_probe_with_distinct_options_of_one_form(made: FactTask) -> None:
    for index in INDICES:
        ask = question(made.dialogue(setup(), index))
        assert ask.reply == "none"
        assert ask.metric in made.metrics
        assert len(set(ask.options)) == len(ask.options) == 1 / made.chance
        assert 0 <= ask.gold < len(ask.options)
        assert all(re.match(r" \S", option) and option == option.rstrip() for option in ask.options)
        assert ask.stem == ask.stem.rstrip()


def test_right_option_is_at_every_place(made: FactTask) -> None:
    assert {question(made.dialogue(setup(), i)).gold for i in range(40)} == {0, 1, 2, 3}


def test_gold_stands_in_its_exchange_and_makes_the_right_option(made: FactTask) -> None:
    for index in INDICES:
        dialogue = made.dialogue(setup(), index)
        ask = question(dialogue)
        facts = [say for say in said(dialogue) if say.fact]
        assert facts
        assert ask.fact in {fact.fact for fact in facts}
        for fact in facts:
            assert fact.gold
            assert all(word in fact.user for word in fact.gold)
        asked = [fact for fact in facts if fact.fact == ask.fact]
        assert any(word in ask.options[ask.gold] for fact in asked for word in fact.gold)


def test_nothing_but_facts_and_options_tells_an_option(made: FactTask) -> None:
    for index in range(24):
        dialogue = made.dialogue(setup(n_tokens=1200), index)
        ask = question(dialogue)
        content = made.facts_and_question(setup(n_tokens=1200).rng(index))
        assert content.ask == ask
        gold = [word for fact in content.facts for word in fact.gold]
        texts = [f"{say.user} {say.assistant}" for say in said(dialogue) if not say.fact]
        for text in (*texts, ask.user, ask.stem, dialogue.system or "", *(f.assistant for f in content.facts)):
            assert not has_word(text, [*content.avoid, *gold]), text


def test_facts_are_never_among_the_first_three_and_never_near_the_end(made: FactTask) -> None:
    for n_tokens in (250, 700, 1200):
        for index in range(24):
            dialogue = made.dialogue(setup(n_tokens=n_tokens), index)
            at = places(dialogue)
            n_said = len(said(dialogue))
            assert at[0] >= 3
            assert at[-1] < n_said - 1
            if n_tokens == 1200:
                assert at[-1] < n_said * 0.8


def test_place_of_the_fact_varies(made: FactTask) -> None:
    assert len({places(made.dialogue(setup(n_tokens=1200), index))[0] for index in range(24)}) > 5


@pytest.mark.parametrize("lead", [0, 3, 10])
@pytest.mark.parametrize("n_tokens", [250, 700])
def test_lead_is_the_number_of_exchanges_before_what_is_told(made: FactTask, lead: int, n_tokens: int) -> None:
    for index in INDICES:
        assert places(made.dialogue(setup(n_tokens=n_tokens, lead=lead), index))[0] == lead


@pytest.mark.parametrize(("n_tokens", "most"), [(250, 330), (700, 740), (1200, 1240)])
def test_a_dialogue_is_about_as_long_as_asked_for(made: FactTask, n_tokens: int, most: int) -> None:
    for index in INDICES:
        dialogue = made.dialogue(setup(n_tokens=n_tokens), index)
        ask = question(dialogue)
        asked = length(Say(ask.user, ask.stem + ask.options[ask.gold]), count_tokens)
        n = count_tokens(dialogue.system or "") + sum(length(say, count_tokens) for say in said(dialogue)) + asked
        assert n_tokens - 40 <= n <= most


def test_no_exchange_comes_twice(made: FactTask) -> None:
    for index in INDICES:
        dialogue = made.dialogue(setup(n_tokens=1200), index)
        users = [say.user for say in said(dialogue) if say.user != question(dialogue).user]
        assert len(set(users)) == len(users)


def test_correction_offers_what_was_withdrawn() -> None:
    for index in INDICES:
        dialogue = task("correction").dialogue(setup(), index)
        ask = question(dialogue)
        (old,), (new,) = (say.gold for say in said(dialogue) if say.fact)
        assert f" {old}" in ask.options
        assert ask.options[ask.gold] == f" {new}"


def test_the_answer_to_a_correction_begins_with_words_of_both_wishes() -> None:
    named = set()
    for index in INDICES:
        dialogue = task("correction").dialogue(setup(), index)
        ask = question(dialogue)
        wish, correction = (say for say in said(dialogue) if say.fact)
        _, _, quoted = ask.stem.partition('"')
        assert quoted
        assert f"{quoted} {wish.gold[0]}." in wish.user
        assert f"{quoted} {correction.gold[0]}." in correction.user
        named.add(wish.gold[0] in correction.user)
    assert named == {True, False}


def test_never_mentioned_is_what_the_right_option_leaves_out() -> None:
    for index in INDICES:
        dialogue = task("never-mentioned").dialogue(setup(), index)
        ask = question(dialogue)
        told = {word for say in said(dialogue) for word in say.gold}
        assert [all(has_word(option, [word]) for word in told) for option in ask.options].index(True) == ask.gold
        assert all(sum(has_word(option, [word]) for word in told) >= 2 for option in ask.options)


def test_the_first_of_the_order_is_the_one_told_first() -> None:
    for index in INDICES:
        dialogue = task("order").dialogue(setup(), index)
        ask = question(dialogue)
        told = [say.gold[0] for say in said(dialogue) if say.fact]
        assert {f" {place}" for place in told} == set(ask.options)
        assert ask.options[ask.gold] == f" {told[0]}"


def test_rehearsal_tells_one_fact_in_three_ways() -> None:
    for index in INDICES:
        facts = [say for say in said(task("rehearsal").dialogue(setup(), index)) if say.fact]
        assert len({say.user for say in facts}) == 3
        assert len({say.gold for say in facts}) == 1


@pytest.mark.parametrize(("language", "at_least"), [("en", 100), ("de", 40)])
def test_chatter_has_many_templates_and_uses_each_once_before_any_again(language: Language, at_least: int) -> None:
    n = len(TEMPLATES[language])
    assert n >= at_least
    talk = chatter(random.Random(0), n, language=language)
    assert len({say.user for say in talk}) == n
    assert max(count_tokens(say.user) for say in talk) > 40 > 4 > min(count_tokens(say.user) for say in talk)


def test_chatter_avoids_whole_words_in_any_case() -> None:
    avoid = ("osaka", "Nine", "in")
    for say in chatter(random.Random(0), 100, avoid=avoid):
        assert not re.search(r"\b(osaka|nine|in)\b", f"{say.user} {say.assistant}", re.IGNORECASE)


def test_chatter_that_may_say_nothing_is_refused() -> None:
    everything = sorted({word for pair in TEMPLATES["de"] for text in pair for word in re.findall(r"\w+", text)})
    with pytest.raises(ValueError, match="nothing left"):
        chatter(random.Random(0), 1, avoid=everything, language="de")


def test_long_chatter_goes_on_without_repeating() -> None:
    talk = chatter_until(random.Random(0), count_tokens, 60_000)
    assert len({say.user for say in talk}) == len(talk) > 1000
    assert sum(length(say, count_tokens) for say in talk) == pytest.approx(60_000, abs=40)


def test_long_pastes_stand_anywhere_in_a_dialogue() -> None:
    talks = [chatter_until(random.Random(seed), count_tokens, 1200) for seed in range(30)]
    longest = [max(range(len(talk)), key=lambda i, t=talk: count_tokens(t[i].user)) / len(talk) for talk in talks]
    assert min(longest) < 0.2 < 0.8 < max(longest)
    assert all(a != b for a, b in pairwise(talks))
