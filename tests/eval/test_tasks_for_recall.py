"""The tasks that tell what recall by words can and cannot do: labels that hold, rivals that are there."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import pytest
from toy_model import toy_contexts

from edge_sir.eval.chatter import has_word, length
from edge_sir.eval.play.arms import arms_of
from edge_sir.eval.play.evaluate import Request, evaluate
from edge_sir.eval.task import Ask, Dialogue, Say, Setup, counts_for, task
from edge_sir.eval.tasks import decoy, unnamed
from edge_sir.eval.tasks._errands import ERRANDS, NAMES
from edge_sir.eval.tasks._fact import ASIDES, REPLIES
from edge_sir.eval.tasks._overlap import overlap
from edge_sir.eval.tasks._paper.topics import Topic
from edge_sir.eval.tasks._updated import KEYS, Key
from edge_sir.eval.tasks.far import DISTANCES, N_FACTS
from edge_sir.eval.tasks.follow_up import PEOPLE
from edge_sir.eval.tasks.updates import TIMES

TASKS = ("unnamed", "decoy", "asked-early", "follow-up", "updates", "far")
INDICES = range(24)


def count(text: str) -> int:
    return len(text) // 4 + 1


def setup(**given: Any) -> Setup:
    return Setup(count, **given)


def made(name: str, index: int = 0, **given: Any) -> Dialogue:
    return task(name).dialogue(setup(**({"n_tokens": 1000} | given)), index)


def said(dialogue: Dialogue) -> list[Say]:
    return [step for step in dialogue.steps if isinstance(step, Say)]


def asks(dialogue: Dialogue) -> list[Ask]:
    return [step for step in dialogue.steps if isinstance(step, Ask)]


def facts_of(dialogue: Dialogue, ask: Ask) -> list[Say]:
    return [say for say in said(dialogue) if say.fact in ask.facts]


def tellings(sentence: str) -> Iterator[Say]:
    """A fact's exchange in every phrasing."""
    for aside, reply in product(dict.fromkeys(ASIDES["en"]), REPLIES["en"]):
        yield Say(aside + sentence, reply)


def listed(options: str) -> list[str]:
    return options.split(",")


# ---- all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_the_seed_and_the_index_decide_everything(name: str) -> None:
    dialogues = [made(name, index) for index in range(6)]
    assert dialogues == [made(name, index) for index in range(6)]
    others = [made(name, index, seed=1) for index in range(6)]
    assert len({d.steps for d in (*dialogues, *others)}) == len({d.id for d in (*dialogues, *others)}) == 12


@pytest.mark.parametrize("name", TASKS)
def test_twenty_dialogues_ask_different_questions(name: str) -> None:
    assert len({ask.user for index in range(20) for ask in asks(made(name, index))}) >= 8


@pytest.mark.parametrize("name", TASKS)
def test_a_question_has_four_options_and_one_fact_that_tells_the_right_one(name: str) -> None:
    for index in INDICES:
        dialogue = made(name, index)
        assert asks(dialogue) == [*dialogue.steps[-len(asks(dialogue)) :]]
        for ask in asks(dialogue):
            assert ask.metric in task(name).metrics and ask.reply == "none"
            assert len(set(ask.options)) == 4 and ask.stem == ask.stem.rstrip()
            (fact,) = facts_of(dialogue, ask)
            assert fact.gold == (ask.options[ask.gold].strip(),) and has_word(fact.user, fact.gold)


@pytest.mark.parametrize("name", TASKS)
def test_the_right_option_is_at_every_place(name: str) -> None:
    assert {ask.gold for index in range(40) for ask in asks(made(name, index))} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", TASKS)
def test_every_metric_is_asked_for(name: str) -> None:
    n_tokens = task(name).n_tokens
    indices = [0] if name == "far" else range(6)
    asked = {ask.metric for index in indices for ask in asks(made(name, index, n_tokens=n_tokens))}
    assert all(any(counts_for(metric, known) for metric in asked) for known in task(name).metrics)


@pytest.mark.parametrize("name", TASKS)
def test_talk_does_not_tell_an_option(name: str) -> None:
    for index in INDICES:
        dialogue = made(name, index)
        options = [option.strip() for ask in asks(dialogue) for option in ask.options]
        # In `updates` the earlier values are told, each by a sentence of its key.
        changes = [say for key in KEYS for say, _ in _told(dialogue, key)] if name == "updates" else []
        talk = [say for say in said(dialogue) if not say.fact and say not in changes]
        assert talk and not any(has_word(f"{say.user} {say.assistant}", options) for say in talk)
        assert not any(has_word(ask.user, options) for ask in asks(dialogue))


@pytest.mark.parametrize("name", sorted({*TASKS} - {"far"}))
@pytest.mark.parametrize("n_tokens", (700, 1200, 2000))
def test_a_dialogue_is_about_as_long_as_asked_for(name: str, n_tokens: int) -> None:
    for index in INDICES:
        dialogue = made(name, index, n_tokens=n_tokens)
        n = sum(length(say, count) for say in said(dialogue)) + count(dialogue.system or "")
        n += sum(length(Say(ask.user, ask.stem), count) for ask in asks(dialogue))
        overwritten = TIMES[index % len(TIMES)] if name == "updates" else 0
        assert n_tokens - 50 <= n <= max(n_tokens + 50, 300 + 40 * overwritten)


@pytest.mark.parametrize("name", sorted({*TASKS} - {"far", "updates"}))
def test_the_controls_keep_and_drop_the_fact(name: str) -> None:
    arms = arms_of(["keep-all", "keep-gold", "drop-gold"], [1024])
    rows = evaluate(toy_contexts(1 << 15), arms, Request(name, n=2, n_tokens=3000)).rows
    resident = {arm.spec: [row.gold_resident for row in rows if row.policy == arm.spec] for arm in arms}
    assert resident == {"keep-all": [1, 1], "keep-gold": [1, 1], "drop-gold": [0, 0]}


# ---- words in common --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "user", "assistant", "n"),
    (
        ("Where does she live?", "My sister lives in Graz.", "OK.", 1),
        ("Which dogs do you like?", "I like my dog.", "OK.", 1),
        ("What did he keep playing?", "He keeps on and plays.", "OK.", 1),
        ("Where is the passport?", "It is in the drawer.", "Your passport?", 1),
        ("Where do I keep the passport of my daughter?", "My daughter keeps her passport.", "OK.", 2),
        ("Which one is it now, and what do you want?", "You want it now, and it is one.", "OK.", 0),
        ("A cart, a bus?", "A car, a bush.", "OK.", 0),
        ("What should I eat?", "I am allergic to nuts.", "OK.", 0),
    ),
)
def test_overlap_counts_content_words_in_any_form(question: str, user: str, assistant: str, n: int) -> None:
    assert overlap(question, Say(user, assistant)) == n


@pytest.mark.parametrize("kind", unnamed.KINDS, ids=[fact for fact, *_ in unnamed.KINDS])
def test_what_is_unnamed_shares_no_word_with_its_fact(kind: Sequence[str]) -> None:
    fact, user, options = kind
    assert len(set(listed(options))) == 8
    for option in listed(options):
        assert not [say for say in tellings(fact.format(option)) if overlap(user, say)]


def test_there_are_enough_kinds() -> None:
    assert min(len(unnamed.KINDS), len(decoy.KINDS), len(KEYS)) >= 8


# ---- decoy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", decoy.KINDS, ids=[fact for fact, *_ in decoy.KINDS])
def test_one_wording_shares_words_with_fact_and_decoy_and_the_other_none(kind: Sequence[str]) -> None:
    fact, other, other_words, same_words, options = kind
    assert len(set(listed(options))) == 8
    for option in listed(options):
        sentences = (fact.format(option), *(decoy.told_of(who, other, option) for who in decoy.OTHERS))
        for say in (say for sentence in sentences for say in tellings(sentence)):
            assert (overlap(other_words, say), overlap(same_words, say) > 0) == (0, True), say.user


def test_the_wordings_take_turns_and_the_decoy_stands_before_or_after() -> None:
    before = Counter[bool]()
    for index in INDICES:
        dialogue = made("decoy", index)
        (ask,) = asks(dialogue)
        assert ask.metric == decoy.METRICS[index % 2]
        first, second = (say for say in said(dialogue) if say.fact)
        (fact,) = facts_of(dialogue, ask)
        other = second if fact is first else first
        before[other is first] += 1
        assert f" {other.gold[0]}" in ask.options and other.gold != fact.gold
        assert (overlap(ask.user, fact) > 0) == (ask.metric == "recall/overlap-1")
    assert min(before.values()) > len(INDICES) // 4 and len(before) == 2


# ---- asked early, followed up -----------------------------------------------------------------------


def test_the_question_was_asked_twice_before_its_fact() -> None:
    for index in INDICES:
        dialogue = made("asked-early", index)
        (ask,) = asks(dialogue)
        (fact,) = facts_of(dialogue, ask)
        talk = said(dialogue)
        early = [at for at, say in enumerate(talk) if say.user == ask.user]
        assert len(early) == 2 and early[-1] < talk.index(fact)
        assert not has_word(f"{talk[early[0]].assistant} {talk[early[1]].assistant}", fact.gold)
        assert talk[early[0]].assistant != talk[early[1]].assistant


def test_the_exchange_before_the_question_names_whom_it_is_about() -> None:
    for index in INDICES:
        dialogue = made("follow-up", index)
        *_, naming, ask = dialogue.steps
        assert isinstance(naming, Say) and isinstance(ask, Ask)
        (fact,) = facts_of(dialogue, ask)
        (other,) = (say for say in said(dialogue) if say.fact and say is not fact)
        names = [name for name in (person.split()[-1] for person, *_ in PEOPLE) if has_word(fact.user, [name])]
        assert len(names) == 1 and has_word(naming.user, names)
        assert not has_word(ask.user, names) and not has_word(other.user, names)
        assert f" {other.gold[0]}" in ask.options and other.gold != fact.gold


# ---- updates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(12))
def test_a_value_is_overwritten_as_often_as_the_metric_says(index: int) -> None:
    dialogue = made("updates", index, n_tokens=2000)
    (ask,) = asks(dialogue)
    (key,) = (key for key in KEYS if key.question == ask.user)
    told = [value for _, value in _told(dialogue, key)]
    n = int(ask.metric.removeprefix("recall_"))
    assert n == TIMES[index % len(TIMES)] and len(told) == len(set(told)) == n + 1
    wrong = {option.strip() for option in ask.options} - {told[-1]}
    assert ask.options[ask.gold].strip() == told[-1]
    assert {told[0], told[-2]} <= wrong and len(wrong & {*told}) == min(n, 3)
    (fact,) = facts_of(dialogue, ask)
    assert fact.gold == (told[-1],) and [say for say in said(dialogue) if say.gold] == [fact]


def test_all_of_them_change_equally_often_together() -> None:
    for index in INDICES:
        dialogue = made("updates", index, n_tokens=2000)
        changing = [n for key in KEYS if (n := len(_told(dialogue, key)))]
        assert len(changing) == 4 and min(changing) >= 2 and sum(changing) == 40


def test_values_are_common_words_of_one_key_alone() -> None:
    every = [value for key in KEYS for value in key.values]
    assert len({value.lower() for value in every}) == len(every)
    assert all(len(key.values) >= max(TIMES) + 3 for key in KEYS)


def _told(dialogue: Dialogue, key: Key) -> list[tuple[Say, str]]:
    """The exchanges that tell a value of it, with the value, in order."""
    every = {text.format(value): value for text in (key.first, key.then) for value in key.values}
    return [(say, value) for say in said(dialogue) for text, value in every.items() if say.user.endswith(text)]


# ---- far --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def far() -> Dialogue:
    return made("far", n_tokens=task("far").n_tokens)


def test_errands_are_many_and_have_no_thing_in_common() -> None:
    assert len({errand.kind for errand in ERRANDS}) == len(ERRANDS) == 65
    things = [thing.lower() for errand in ERRANDS for thing in errand.things]
    assert len(set(things)) == len(things) == 6 * len(ERRANDS)


@pytest.mark.parametrize("errand", ERRANDS, ids=[errand.kind for errand in ERRANDS])
def test_the_question_for_an_errand_shares_no_word_with_it(errand: Topic) -> None:
    everything = Say(f"I want you to {errand.verb} the {errand.kind.upper()}: {errand.things}", "OK")
    assert not overlap(errand.question, everything)


def test_a_hundred_facts_are_told_at_their_distances(far: Dialogue) -> None:
    assert len(asks(far)) == len([say for say in said(far) if say.fact]) == 5 * N_FACTS == 100
    told_at = _distances(far)
    n = sum(length(say, count) for say in said(far))
    assert 105_000 < n < 116_000
    for metric, distance in DISTANCES.items():
        found = sorted(told_at[ask.facts[0]] for ask in asks(far) if counts_for(ask.metric, metric))
        near, farthest = (0.65, 1.45) if distance == 1_000 else (0.85, 1.2)
        assert len(found) == N_FACTS and near * distance <= found[0] and found[-1] <= farthest * distance
        gaps = [b - a for a, b in pairwise(found)]
        assert max(gaps) < max(0.05 * distance, 200)
    assert not any(say.fact for say in said(far)[:3])


def test_half_of_a_distance_is_asked_in_other_words(far: Dialogue) -> None:
    asked = Counter(ask.metric for ask in asks(far))
    assert asked == {f"{metric}/overlap-{n}": N_FACTS // 2 for metric in DISTANCES for n in (0, 1)}
    for ask in asks(far):
        (fact,) = facts_of(far, ask)
        assert (overlap(ask.user, fact) > 0) == ask.metric.endswith("/overlap-1"), ask.user


def test_no_two_questions_are_about_the_same(far: Dialogue) -> None:
    facts = {say.fact: say.user for say in said(far) if say.fact}
    assert len({ask.user for ask in asks(far)}) == len(facts) == 100
    for ask in asks(far):
        kind, _, name = ask.facts[0].partition(" for ")
        assert bool(name) == ask.metric.endswith("/overlap-1")
        alike = [user for user in facts.values() if (f"for {name}:" if name else f" {kind.upper()}") in user]
        assert len(alike) == 1
    talk = [f"{say.user} {say.assistant}" for say in said(far) if not say.fact]
    assert not [text for text in talk if has_word(text, NAMES)]


@pytest.mark.parametrize(("n_tokens", "n", "longest"), ((300, 4, 500), (1000, 20, 1500), (12_000, 60, 13_000)))
def test_far_reaches_as_far_as_it_may(n_tokens: int, n: int, longest: int) -> None:
    dialogue = made("far", n_tokens=n_tokens)
    assert len(asks(dialogue)) == n and max(_distances(dialogue).values()) < longest


def _distances(dialogue: Dialogue) -> dict[str, int]:
    """Tokens between each fact and the first probe."""
    found, n = {}, 0
    for say in reversed(said(dialogue)):
        if say.fact:
            found[say.fact] = n
        n += length(say, count)
    return found
