"""What commands say of a memory that a policy thinned word by word. On the toy."""

import re

import pytest
from chatting import N_TOKENS, SENTENCE, fill, make_chat, thinned

from edge_sir.chat import Chat
from edge_sir.cli._commands import perform
from edge_sir.cli._losses import N_TURNS, Losses
from edge_sir.cli._views import View


def lines(view: View) -> list[str]:
    rows = ["  ".join([*row.cells, "".join(text for text, _ in row.text)]).strip() for row in view.rows]
    return [view.title, *rows]


def told(chat: Chat, line: str) -> list[str]:
    return lines(perform(chat, line).view)


# ---- by words ----------------------------------------------------------------------------------


def test_forget_and_pin_say_how_much_was_still_there() -> None:
    for line, verb in (("/pin My name is Ada", "pinned"), ("/forget My name is Ada", "forgotten")):
        title = told(thinned(), line)[0]
        assert re.match(rf"{verb}: \d+ of \d+ tokens, the others were gone already", title)
    assert told(thinned(), "/forget My name is Ada")[0].startswith(f"forgotten: {N_TOKENS - 6} of {N_TOKENS} tokens")
    assert told(thinned(), "/forget Hello there")[0] == "forgotten: 12 tokens"


def test_find_tells_whole_from_in_part_from_gone() -> None:
    chat = thinned()
    assert told(chat, "/memory find Ada")[0] == "yes, “Ada” is in memory: turn 1"
    title, row = told(chat, "/memory find name is Ada")
    assert title == "in part: of “name is Ada” turn 1 still has “name … Ada”"
    assert row == "1  in part  you: My name … Ada and my sister … Eve."
    title, row = told(thinned("Ada"), "/memory find Ada")
    assert title.startswith("no, “Ada” is not in memory any more")
    assert row == f"1  gone since turn 1  you: {SENTENCE}"
    assert told(chat, "/memory find Bob") == ["nobody said “Bob” in this conversation"]
    (turn,) = perform(chat, "/memory find name is Ada").document["turns"]
    assert (turn["turn"], turn["state"], turn["words"]) == (1, "partly", ("name", "Ada"))


# ---- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "ranks_by"),
    [
        ("sir", "marginal value of the token to its turn, decayed"),
        ("units", "mean surprisal of the unit, decayed"),
        ("sirllm", "surprisal, decayed"),
        ("streaming", "place in the stream"),
    ],
)
def test_why_says_what_the_policy_ranks_by(policy: str, ranks_by: str) -> None:
    chat = make_chat(budget=200, policy=policy)
    fill(chat, 10)
    text = "\n".join(line for turn in range(1, 11) for line in told(chat, f"/memory why {turn}"))
    assert f"{policy} ranks by {ranks_by}: " in text
    assert ("thinned from its end" in text) == (policy == "units")


def test_small_values_keep_their_digits() -> None:
    chat = make_chat(budget=256, policy="sir:power=0.01")
    fill(chat, 10)
    text = "\n".join(line for turn in range(1, 11) for line in told(chat, f"/memory why {turn}"))
    values = re.findall(r"(?:decayed: |stayed had )([\d.e-]+)", text)
    assert values and any(0 < float(x) < 0.005 for x in values) and "0.00" not in values


def test_scores_on_request_are_called_what_they_are() -> None:
    chat = make_chat(["ok"], budget=256)
    chat.reply("Hi")
    chat.engine.script[:] = []  # type: ignore[attr-defined]
    title, head, *rows = told(chat, "/memory --scores")
    assert title.endswith("sir forgets, ranking by marginal value of the token to its turn, decayed")
    assert "MEAN SURPRISAL" in head and ">" not in "".join(row.split("you")[0] for row in rows)
    assert re.search(r"\d\.\d\d nats", "".join(rows))
    assert "ranking" not in told(chat, "/memory")[0]


# ---- losses ------------------------------------------------------------------------------------


def losing(n: int, budget: int = 256) -> tuple[Chat, Losses]:
    losses = Losses()
    chat = make_chat(["ok"] * n, budget=budget, on_evict=losses.note)
    losses.transcript = chat.transcript
    for i in range(n):
        chat.reply(f"Convert {i} kilometres to miles for me, please")
    return chat, losses


def test_losses_name_turns_as_they_were_said() -> None:
    _, losses = losing(8)
    text = losses.told()
    part = r"of turn \d+ \(Convert \d kilometres to miles …\) \d+"
    assert re.fullmatch(rf"let go \d+ tokens: {part}(, {part}){{{N_TURNS - 1}}}, and \d more turns? \(/memory\)", text)
    counts = [int(x) for x in re.findall(r"\) (\d+)", text)]
    assert counts == sorted(counts, reverse=True)
    assert re.fullmatch(r"let go \d+ tokens of \d+ turns \(/memory\)", losses.told(0))
    assert losses.take() == text and losses.take() == ""


def test_one_turn_needs_no_list_and_a_long_word_no_line() -> None:
    losses = Losses()
    chat = make_chat(["ok"], budget=128, on_evict=losses.note)
    losses.transcript = chat.transcript
    chat.reply("https://" + "x" * 150)
    assert re.fullmatch(r"let go \d+ tokens of turn 1 \(https://x{32} …\)", losses.told())


def test_why_names_the_turn_and_no_salad() -> None:
    chat, _ = losing(8)
    title, *rows = told(chat, "/memory why 1")
    assert title.startswith("turn 1 (Convert 0 kilometres to miles …): ")
    assert not any("“" in row for row in rows)
