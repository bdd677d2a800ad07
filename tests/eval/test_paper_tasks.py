"""The paper's tasks and the first experiments: made from a seed, or read from files like the paper's."""

import hashlib
import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chisquare
from toy_model import toy_contexts

from edge_sir.errors import ConfigError
from edge_sir.eval.chatter import has_word, length
from edge_sir.eval.play.evaluate import Request, evaluate
from edge_sir.eval.task import Ask, Dialogue, Read, Say, Setup, names, task
from edge_sir.eval.tasks._paper.commonsense import QUESTIONS
from edge_sir.eval.tasks._paper.dialogues import DIALOGUES
from edge_sir.eval.tasks._paper.groceries import GROCERIES
from edge_sir.eval.tasks._paper.topics import TOPICS
from edge_sir.eval.tasks.long import DISTANCES
from edge_sir.eval.tasks.rps import PLAYERS

TASKS = ("dailydialog", "forgetting", "grocery", "long", "mix", "perplexity", "rps", "short")
PAPER = Path(__file__).parents[3] / "shared/data/sirllm"

needs_paper = pytest.mark.skipif(not PAPER.is_dir(), reason="the paper's data is not here")


def count(text: str) -> int:
    return len(text) // 4 + 1


def setup(**given: Any) -> Setup:
    return Setup(count, **given)


def told(name: str, n: int = 1, offset: int = 0, **given: Any) -> list[Dialogue]:
    return list(task(name).dialogues(setup(**given), n, offset))


def asks(dialogue: Dialogue) -> list[Ask]:
    return [step for step in dialogue.steps if isinstance(step, Ask)]


def row(id: object, stem: str, options: Sequence[str], gold: int, **more: object) -> dict[str, object]:
    choices = [{"label": "ABCDE"[i], "text": option} for i, option in enumerate(options)]
    return {"id": id, "question": {"stem": stem, "choices": choices}, "answerKey": "ABCDE"[gold], **more}


def write(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


# ---- all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_the_seed_decides_everything(name: str) -> None:
    small = {"n_tokens": 900}
    assert told(name, 4, **small) == told(name, 4, **small)
    assert told(name, 4, **small) != told(name, 4, seed=1, **small)


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"rps", "perplexity"}))
def test_offset_and_index_name_the_same_dialogue(name: str) -> None:
    small = {"n_tokens": 900}
    assert told(name, 4, **small)[2:] == told(name, 2, 2, **small)
    assert len({d.id for d in told(name, 4, **small)}) == 4


@pytest.mark.parametrize("name", TASKS)
def test_questions_are_well_formed(name: str) -> None:
    known = task(name).metrics
    for dialogue in told(name, 4, n_tokens=1199):
        told_so_far = set()
        for step in dialogue.steps:
            if isinstance(step, Say) and step.fact:
                assert step.gold and all(gold in step.user for gold in step.gold)
                told_so_far.add(step.fact)
            if isinstance(step, Ask):
                assert step.metric in known and len(set(step.options)) == len(step.options) > step.gold
                assert not step.fact or step.fact in told_so_far
                assert not step.stem.endswith(" ") and all(option.strip() for option in step.options)


@pytest.mark.parametrize("name", TASKS)
def test_the_headline_is_always_asked(name: str) -> None:
    first = told(name, 2, n_tokens=300)[0]
    metrics = {step.metric for step in first.steps if isinstance(step, Ask | Read)}
    assert task(name).metrics[0] in metrics


@pytest.mark.parametrize("name", ("grocery", "forgetting", "long"))
def test_talk_does_not_give_the_answer(name: str) -> None:
    for dialogue in told(name, 6, n_tokens=1199, lead=5):
        options = [option.strip() for ask in asks(dialogue) if ask.fact for option in ask.options]
        talk = [step for step in dialogue.steps if isinstance(step, Say) and not step.fact]
        assert talk and not any(has_word(f"{say.user} {say.assistant}", options) for say in talk)


# ---- grocery ----------------------------------------------------------------------------------------


def grocery_rows(n: int = 2, n_questions: int = 20) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for i in range(n):
        rows.append(row(f"key_{i}", f"I want you to buy the GROCERY: [thing {i}]. ", ["OK"], 0))
        rows += [row(str(i), f"Question {j}?", [f"o{k}" for k in range(5)], j % 5) for j in range(n_questions)]
        rows.append(row(f"answer_{i}", "Which one was it?", ["other", f"thing {i}", "third", "fourth"], 1))
    return rows


@pytest.mark.parametrize("lead", (None, 0, 10))
def test_grocery_follows_the_protocol(lead: int | None) -> None:
    (dialogue,) = told("grocery", lead=lead)
    steps = dialogue.steps[lead or 0 :]
    fact, *questions, last = steps
    assert len(steps) == 22 and isinstance(fact, Say) and isinstance(last, Ask)
    assert fact.user == f"I want you to buy the GROCERY: [{last.options[last.gold]}]." and fact.assistant == "OK"
    assert (last.stem, last.close, last.metric, len(last.options)) == (
        "You want me to buy the GROCERY: [",
        "]",
        "recall",
        4,
    )
    for ask in questions:
        assert isinstance(ask, Ask) and ask.metric == "commonsense" and ask.reply == "gold"
        assert ask.user.endswith("\n" + ", ".join(option.strip() for option in ask.options)) and len(ask.options) == 5


def test_a_lead_changes_nothing_else_of_given_data(tmp_path: Path) -> None:
    write(tmp_path / "grocery_keys.jsonl", grocery_rows())
    (plain,), (led,) = told("grocery", data=tmp_path), told("grocery", data=tmp_path, lead=7)
    assert led.steps[7:] == plain.steps


@pytest.mark.parametrize("as_folder", (True, False))
def test_grocery_reads_a_file_like_the_paper_s(tmp_path: Path, as_folder: bool) -> None:
    path = write(tmp_path / "grocery_keys.jsonl", grocery_rows())
    first, second = told("grocery", 2, data=tmp_path if as_folder else path)
    assert (first.id, second.id) == ("key-0", "key-1") and len(second.steps) == 22
    last = asks(second)[-1]
    assert last.options == ("other", "thing 1", "third", "fourth") and last.gold == 1
    assert asks(second)[3].gold == 3
    with pytest.raises(ConfigError, match=r"2 dialogues.*--n"):
        told("grocery", 3, data=path)


def test_grocery_refuses_a_key_without_its_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "grocery_keys.jsonl", grocery_rows()[:-1])
    with pytest.raises(ConfigError, match="key_1"):
        told("grocery", data=path)


def test_our_own_texts() -> None:
    assert len(QUESTIONS) >= 70 and all(len(set(options)) == 5 for _, options in QUESTIONS)
    assert len(set(GROCERIES)) == len(GROCERIES) >= 50
    assert not [q for q, options in QUESTIONS if has_word(f"{q} {' '.join(options)}", GROCERIES)]
    assert len(DIALOGUES) == 24 and all(4 <= len(told) <= 6 for told in DIALOGUES)
    assert len({topic.kind for topic in TOPICS}) == len(TOPICS) >= 15


# ---- dailydialog ------------------------------------------------------------------------------------


def test_dailydialog_draws_wrong_lines_from_other_dialogues() -> None:
    lines = [{answer for _, answer in dialogue} for dialogue in DIALOGUES]
    for dialogue in told("dailydialog", 24):
        (own,) = [found for found in lines if asks(dialogue)[0].options[asks(dialogue)[0].gold] in found]
        for ask in asks(dialogue):
            right = ask.options[ask.gold]
            assert right in own and not own & {*ask.options} - {right} and ask.reply == "gold"
    assert len({asks(d)[0].user for d in told("dailydialog", 24)}) == 24


def test_dailydialog_groups_the_rows_that_count(tmp_path: Path) -> None:
    rows = [row(f"{i // 3}_{2 * (i % 3) + 1}", f"line {i}", ["a", "b", "\n", "d"], i % 2) for i in range(2004)]
    path = write(tmp_path / "dailydialog.jsonl", rows)
    dialogues = told("dailydialog", 667, data=path)
    assert [len(d.steps) for d in dialogues] == [3] * 666 + [2] and dialogues[5].id == "5"
    assert asks(dialogues[0])[1].options == ("a", "b", "", "d") and asks(dialogues[0])[1].gold == 1
    with pytest.raises(ConfigError, match="667 dialogues"):
        told("dailydialog", 668, data=path)


# ---- rock-paper-scissors ----------------------------------------------------------------------------


def moves(dialogue: Dialogue) -> list[int]:
    return [(ask.gold - 1) % 3 for ask in asks(dialogue)]


def test_players_keep_to_their_favourite() -> None:
    for dialogue in told("rps", 3000)[:3]:
        expected = [3000 * p for p in PLAYERS[dialogue.id.split("-")[0]]]
        drawn = [moves(dialogue).count(move) for move in range(3)]
        assert chisquare(drawn, expected).pvalue > 0.01


def test_the_turncoat_changes_half_way() -> None:
    last = told("rps", 2000)[-1]
    before, after = moves(last)[:1000], moves(last)[1000:]
    assert last.id == "turncoat-0-2000"
    assert before.count(0) > 430 > before.count(2) and after.count(2) > 430 > after.count(0)
    assert [ask.metric for ask in asks(last)] == ["win_before"] * 1000 + ["win_after"] * 1000


def test_a_round_tells_the_last_move_and_wants_its_counter() -> None:
    (dialogue, *_) = told("rps", 50)
    for before, ask in zip([None, *moves(dialogue)], asks(dialogue), strict=False):
        assert ("I played" in ask.user) == (before is not None)
        assert before is None or f"I played {('rock', 'paper', 'scissors')[before]}." in ask.user
        assert ask.reply == "chosen" and ask.metric == "win"
    assert moves(told("rps", 20, 30)[0]) == moves(dialogue)[30:]


def rps_rows(played: str) -> list[dict[str, object]]:
    names = ["rock", "paper", "scissors"]
    return [row(i, "Play.", names, ("ABC".index(m) + 1) % 3, user_choice=m) for i, m in enumerate(played)]


def test_rps_reads_files_like_the_paper_s(tmp_path: Path) -> None:
    for name, played in zip(PLAYERS, ("AABC", "BBAC", "CCCA"), strict=True):
        write(tmp_path / f"rps_dominant_{name}.jsonl", rps_rows(played))
    assert [moves(d) for d in told("rps", 3, 1, data=tmp_path)] == [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
    (alone,) = told("rps", 2, data=tmp_path / "rps_dominant_paper.jsonl")
    assert alone.id == "paper-0-2" and moves(alone) == [1, 1]
    with pytest.raises(ConfigError, match="4 rounds"):
        told("rps", 5, data=tmp_path)
    (tmp_path / "rps_dominant_rock.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"no file .*rps_dominant_rock"):
        told("rps", 1, data=tmp_path)


# ---- perplexity -------------------------------------------------------------------------------------


def test_perplexity_reads_the_text_as_it_stands(tmp_path: Path) -> None:
    text = "".join(f"Sätze  haben Wörter, {i} davon.\n" for i in range(900)) + "x" * 500
    path = tmp_path / "some.txt"
    path.write_text(text, encoding="utf-8")
    (dialogue,) = told("perplexity", 6, data=path)
    pieces = [step.text for step in dialogue.steps if isinstance(step, Read)]
    assert text.startswith("".join(pieces)) and dialogue.system is None
    assert all(0 < sum(map(count, piece.split())) <= 80 for piece in pieces)
    first, second = told("perplexity", 3, data=path), told("perplexity", 3, 3, data=path)
    assert (*first[0].steps, *second[0].steps) == dialogue.steps
    with pytest.raises(ConfigError, match=r"the text has \d+ tokens"):
        told("perplexity", 100, data=path)


def test_own_prose_is_as_long_as_asked() -> None:
    (long,), (quick,) = told("perplexity", 20), told("perplexity", 1, n_tokens=300)
    words = [word for step in long.steps if isinstance(step, Read) for word in step.text.split()]
    assert 19_000 < sum(count(f" {word}") for word in words) < 21_000
    assert 4 <= len(quick.steps) <= 6


# ---- the first experiments --------------------------------------------------------------------------


def distances(dialogue: Dialogue) -> dict[str, float]:
    """Tokens between each fact and the first probe."""
    found, n = {}, 0
    for step in reversed([s for s in dialogue.steps if isinstance(s, Say)]):
        if step.fact:
            found[step.fact] = n
        n += length(step, count)
    return found


def test_long_tells_facts_at_their_distances() -> None:
    (dialogue,) = told("long", n_tokens=task("long").n_tokens)
    assert isinstance(dialogue.steps[-15], Ask) and len(asks(dialogue)) == 15
    told_at = distances(dialogue)
    for ask in asks(dialogue):
        assert 0.9 <= told_at[ask.fact] / DISTANCES[ask.metric] <= 1.35 and ask.reply == "none"
    assert not any(isinstance(s, Say) and s.fact for s in dialogue.steps[:3])


@pytest.mark.parametrize(("n_tokens", "n"), ((300, 3), (1000, 3), (12_000, 9)))
def test_long_reaches_as_far_as_it_may(n_tokens: int, n: int) -> None:
    (dialogue,) = told("long", n_tokens=n_tokens)
    assert len(asks(dialogue)) == n and max(distances(dialogue).values()) < 1.3 * max(n_tokens, 300)


def test_forgetting_asks_after_5_10_20_and_40_rounds() -> None:
    for dialogue in told("forgetting", 5):
        at = next(i for i, s in enumerate(dialogue.steps) if isinstance(s, Say) and s.fact)
        assert 3 <= at <= 6
        rounds = 0
        for step in dialogue.steps[at + 1 :]:
            if isinstance(step, Ask):
                assert step.metric == f"recall_{rounds}" and step.reply == "none"
            rounds += isinstance(step, Say)
        assert rounds == 40
    assert [ask.metric for ask in asks(told("forgetting", n_tokens=300)[0])] == ["recall_5", "recall_10", "recall_20"]


def test_short_asks_as_soon_as_so_much_was_said() -> None:
    for dialogue in told("short", 10):
        n = 0
        for step in dialogue.steps:
            if isinstance(step, Say):
                n += count(step.user) + count(step.assistant)
            else:
                assert isinstance(step, Ask) and 0 <= n - int(step.metric.removeprefix("recall_")) <= 14
        assert len(asks(dialogue)) == 5


def test_mix_keeps_to_its_proportions() -> None:
    known = set(string.ascii_lowercase)
    for dialogue, share in zip(told("mix", 3), (50, 10, 90), strict=True):
        talk = [s for s in dialogue.steps if isinstance(s, Say)]
        assert {s.fact for s in talk} == {"", "word", "code"}
        assert {ask.metric for ask in asks(dialogue)} == {f"recall_{share}_word", f"recall_{share}_code"}
        letters = [s.user.split() for s in talk if s.user.startswith("a b ") and not s.fact]
        for words in letters:
            plain = sum(count(w) for w in words if w in known)
            assert abs(100 - share - 100 * plain / sum(map(count, words))) < 35
        assert all(30 <= count(s.user) <= 60 for s in talk)


# ---- bad data ---------------------------------------------------------------------------------------


def test_the_files_of_a_folder_are_those_that_are_read(tmp_path: Path) -> None:
    write(tmp_path / "grocery_keys.jsonl", grocery_rows())
    (tmp_path / "other.txt").write_text("nothing to do with it")
    for data in (tmp_path, tmp_path / "grocery_keys.jsonl"):
        assert task("grocery").files(data) == (tmp_path / "grocery_keys.jsonl",)
    one = write(tmp_path / "rps_dominant_paper.jsonl", rps_rows("ABC"))
    assert task("rps").files(one) == (one,)
    with pytest.raises(ConfigError, match="rps_dominant_rock"):
        task("rps").files(tmp_path)
    assert task("perplexity").files(tmp_path / "other.txt") == (tmp_path / "other.txt",)


@pytest.mark.parametrize("name", [name for name in names() if not task(name).data_files])
def test_a_task_without_data_refuses_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} makes its own .* dailydialog, file, grocery, perplexity, rps$"):
        task(name).files(tmp_path)


def test_the_digest_of_data_is_that_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "grocery_keys.jsonl", grocery_rows())
    before = hashlib.sha256(b"grocery_keys.jsonl\0" + path.read_bytes()).hexdigest()
    (tmp_path / "other.txt").write_text("nothing to do with it")
    for data in (path, tmp_path):
        found = evaluate(toy_contexts(), [], Request("grocery", n=1, data=data)).config
        assert (found["data_sha256"], found["scratch_cells"]) == (before, 256)
    with pytest.raises(ConfigError, match="names makes its own"):
        evaluate(toy_contexts(), [], Request("names", n=1, data=path))


BAD: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "empty": lambda path: path.write_text(""),
    "no json": lambda path: path.write_text("hello\n"),
    "no object": lambda path: path.write_text("[1]\n"),
    "no question": lambda path: path.write_text('{"id": "key_0"}\n'),
    "unknown label": lambda path: write(path, [row("key_0", "?", ["a"], 3)]),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
}
FILES = {"grocery": "grocery_keys.jsonl", "dailydialog": "dailydialog.jsonl", "rps": "rps_dominant_rock.jsonl"}


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("name", FILES)
def test_bad_data_gets_one_line_that_names_the_remedy(tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / FILES[name]
    BAD[how](path)
    with pytest.raises(ConfigError, match="--data") as caught:
        told(name, data=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_another_task_s_file_is_refused(tmp_path: Path, name: str) -> None:
    other = rps_rows("ABC") if name != "rps" else grocery_rows()
    with pytest.raises(ConfigError, match="--data"):
        told(name, data=write(tmp_path / FILES[name], other))


@pytest.mark.parametrize("how", ("missing", "empty", "not UTF-8", "folder"))
def test_bad_text_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "text.txt"
    if how != "folder":
        BAD[how](path)
    with pytest.raises(ConfigError):
        told("perplexity", data=tmp_path if how == "folder" else path)


# ---- the paper's files ------------------------------------------------------------------------------


@needs_paper
def test_the_paper_s_groceries() -> None:
    dialogues = told("grocery", 548, data=PAPER)
    assert all(len(d.steps) == 22 for d in dialogues)
    assert len({ask.options[ask.gold] for d in dialogues for ask in asks(d)[-1:]}) == 53


@needs_paper
def test_the_paper_s_everyday_dialogues() -> None:
    dialogues = told("dailydialog", 519, data=PAPER)
    assert sum(len(d.steps) for d in dialogues) == 2000


@needs_paper
def test_the_paper_s_players() -> None:
    for dialogue in told("rps", 2000, data=PAPER):
        expected = [2000 * p for p in PLAYERS[dialogue.id.split("-")[0]]]
        assert chisquare([moves(dialogue).count(m) for m in range(3)], expected).pvalue > 0.001
