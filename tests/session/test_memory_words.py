"""What commands say of a memory that a policy thinned word by word. On the toy."""

import re
from dataclasses import replace

import numpy as np
import pytest
from chatting import N_TOKENS, SENTENCE, evict, fill, make_chat, script, thinned, told

from edge_sir.chat import Chat, Undone
from edge_sir.cli._commands import cost_of, perform
from edge_sir.cli._losses import N_TURNS, Losses, loss_line
from edge_sir.cli._views import losses_view, stats_view
from edge_sir.core.ledger import ROLES
from edge_sir.core.records import Eviction
from edge_sir.errors import ConfigError
from edge_sir.testing import ToyEngine

# ---- by words ----------------------------------------------------------------------------------


def test_forget_and_pin_say_how_much_was_still_there() -> None:
    title, *rows = told(thinned(), "/pin My name is Ada")
    assert re.fullmatch(r"pinned: \d+ tokens", title)
    assert "6 more tokens of it were evicted already, and a pin cannot bring them back" in rows[-1]
    assert perform(thinned(), "/pin My name is Ada").document["n_evicted"] == 6
    assert "6 more" in told(thinned(), "/pin 1")[-1]
    assert "evicted" not in "".join(told(thinned(), "/pin Hello there"))
    assert told(thinned(), "/forget My name is Ada")[0].startswith(f"forgotten: {N_TOKENS - 6} of {N_TOKENS} tokens")
    assert told(thinned(), "/forget Hello there")[0] == "forgotten: 12 tokens"


def test_find_tells_whole_from_in_part_from_evicted() -> None:
    chat = thinned()
    assert told(chat, "/memory find Ada")[0] == "yes, “Ada” is in memory: turn 1"
    title, row = told(chat, "/memory find name is Ada")
    assert title == "in part: of “name is Ada” turn 1 still has “name … Ada”"
    assert row == "1  in part  you: My name … Ada and my sister … Eve."
    title, row = told(thinned("Ada"), "/memory find Ada")
    assert title.startswith("no, “Ada” is not in memory any more")
    assert row == f"1  evicted in turn 1  you: {SENTENCE}"
    assert told(chat, "/memory find Bob") == ["nobody said “Bob” in this conversation"]
    (turn,) = perform(chat, "/memory find name is Ada").document["turns"]
    assert (turn["turn"], turn["state"], turn["words"]) == (1, "partly", ("name", "Ada"))


def test_find_shows_two_lines_around_the_words_however_long_the_sentence() -> None:
    chat = make_chat(["Fine."], budget=2000, engine=ToyEngine(2000))
    paste = " ".join(["river stones"] * 60)
    chat.reply(f"{paste} my code is 8823 {paste}")
    _, row = told(chat, "/memory find 8823")
    assert re.fullmatch(r"1  has it  you: \.\.\. [\w ]*stones my code is 8823 river [\w ]* \.\.\.", row)
    assert 130 < len(row) < 190
    evict(chat, np.isin(chat.session.ledger["token"], list(b"cde")))
    _, row = told(chat, "/memory find code is 8823")
    assert re.fullmatch(r"1  in part  you: \.\.\. .* is 8823 riv … r .* \.\.\.", row) and len(row) < 190
    evict(chat, chat.session.ledger["token"] == ord("8"))
    title, row = told(chat, "/memory find 8823")
    assert title.startswith("no, ") and "code is 8823 river" in row and len(row) < 200
    (turn,) = perform(chat, "/memory find 8823").document["turns"]
    assert len(turn["said"]) > 1500  # a program gets all of it


def test_an_excerpt_of_one_long_word_is_cut_within_it() -> None:
    chat = make_chat(["Fine."], budget=700, engine=ToyEngine(700))
    chat.reply("x" * 500 + " 8823")
    assert told(chat, "/memory find 8823")[1].endswith("xxx 8823")
    assert len(told(chat, "/memory find " + "x" * 500)[1]) < 190


def test_a_message_evicted_as_a_whole_counts_when_its_turn_is_pinned() -> None:
    chat = make_chat(["Fine."])
    chat.reply("Hello there.")
    evict(chat, (chat.session.ledger["role"] == ROLES.index("user")) & (chat.session.ledger["turn"] == 1))
    assert "12 more tokens of it were evicted already" in told(chat, "/pin 1")[-1]
    assert told(chat, "/forget 1")[0].endswith(" of 17 tokens, the others were evicted already; it was pinned")


def test_a_turn_has_as_many_tokens_for_one_command_as_for_another() -> None:
    chat = make_chat(["Fine."])
    chat.reply("Hello there.")
    assert told(chat, "/memory")[3].split()[:2] == ["1", "17"]
    assert told(chat, "/pin 1") == ["pinned: 17 tokens", "turn 1  12  you: Hello there.", "turn 1  5  model: Fine."]
    assert chat.memory().turn(1).n_pinned > 17  # type: ignore[union-attr]
    assert told(chat, "/unpin")[0] == "unpinned: 17 tokens"
    assert told(chat, "/forget 1")[0] == "forgotten: 17 tokens"


def test_what_was_forgotten_before_is_not_missed() -> None:
    chat = thinned()
    n = len("Hello there." + " Mind it." + "Fine.")
    perform(chat, "/forget My name is Ada")
    assert told(chat, "/pin 1")[0] == f"pinned: {n} tokens" and "evicted" not in "".join(told(chat, "/pin 1"))
    evict(chat, (chat.session.ledger["role"] != ROLES.index("frame")) & (chat.session.ledger["turn"] == 1))
    outcome = perform(chat, "/forget 1")  # of which there were only markers
    assert outcome.view.title.startswith("it was not in memory any more") and outcome.document["n_evicted"] == n


def test_forget_says_that_it_was_pinned() -> None:
    chat = make_chat(["Fine."])
    chat.reply("Hello there. Mind it.")
    chat.pin("Hello there")
    assert re.fullmatch(r"forgotten: \d+ tokens; \d+ of them were pinned", told(chat, "/forget 1")[0])
    chat = make_chat(["Fine."])
    chat.reply("Hello there. Mind it.")
    chat.pin(1)
    assert told(chat, "/forget Mind it")[0] == "forgotten: 9 tokens; it was pinned"
    assert "pinned" not in told(thinned(), "/forget 1")[0]


def test_what_is_missing_after_quotes_is_asked_for() -> None:
    for line in ("/pin", '/pin ""', "/unpin ''", "/forget ' '", "/memory find", "/save ''", "/load"):
        with pytest.raises(ConfigError, match=rf"{line.split()[0]} .*: (find what|which file|which)\?"):
            perform(thinned(), line)


@pytest.mark.parametrize("line", ["/clear now", "/UNDO foo", "/bye extra", "/regen 2", "/stats x"])
def test_a_stray_word_behind_a_command_that_takes_none_stops_it(line: str) -> None:
    chat = make_chat(["Fine."])
    chat.reply("Hello there.")
    chat.pin(1)
    before = chat.session.ledger["token"].tolist(), list(chat.transcript)
    with pytest.raises(ConfigError, match=rf"{line.split()[0].lower()} takes no argument; nothing was done"):
        perform(chat, line)
    assert (chat.session.ledger["token"].tolist(), list(chat.transcript)) == before


# ---- markers -----------------------------------------------------------------------------------


def test_markers_that_went_are_no_words_that_are_missing() -> None:
    chat = make_chat(["Fine."])
    losses = Losses(chat)
    chat.reply("Hello there.")
    ledger = chat.session.ledger
    n = evict(chat, (ledger["role"] == ROLES.index("frame")) & (ledger["turn"] == 1))
    turn = chat.memory().turn(1)
    assert turn is not None and (turn.state, turn.n_dropped, turn.n_content_dropped) == ("whole", n, 0)
    title, _, _, *rows = told(chat, "/memory")
    assert title == f"{len(ledger)} of 256 cells hold 1 of 1 turns, all whole; 1 cell pinned; sir evicts"
    assert [row.split() for row in rows] == [["1", "17", "you", "Hello", "there."], ["model", "Fine."]]
    assert told(chat, "/memory why 1")[0] == "turn 1 (Hello there.): 17 of 17 tokens are resident"
    assert (losses.line(), chat.evictions.n_evicted) == ("", 0)
    assert losses.listed() == [{"turn": 1, "tokens": n, "markers": n, "text": "Hello there."}]


def test_the_title_says_how_many_turns_are_more_than_fragments() -> None:
    chat = thinned()
    assert "hold 1 of 1 turns, none whole; 1 cell pinned; sir" in told(chat, "/memory")[0]
    chat.engine.script[:] = script("Yes.")  # type: ignore[attr-defined]
    chat.reply("And?")
    chat.pin(2)
    assert re.search(r"hold 2 of 2 turns, 1 whole; \d+ cells pinned; sir", told(chat, "/memory")[0])


def test_an_undo_that_cost_markers_alone_cost_nothing() -> None:
    chat = make_chat(["Fine.", "Yes."])
    chat.reply("Hello there.")
    chat.reply("And?")
    frames = (chat.session.ledger["role"] == ROLES.index("frame")) & (chat.session.ledger["turn"] == 1)
    evict(chat, frames & (np.arange(len(frames)) > 4))
    outcome = perform(chat, "/undo")
    assert re.fullmatch(r"took back turn 2 \(\d+ cells free again\): “And\?”", outcome.view.title)
    assert outcome.document["lost"] and outcome.view.rows == []


def test_a_forgotten_turn_is_forgotten_whatever_went_of_its_thoughts_and_markers() -> None:
    chat = make_chat(["<think>Let me see.</think>Fine.", "Yes."])
    chat.reply("Hello there.")
    chat.reply("And?")
    perform(chat, "/forget 1")
    assert re.match(r"1 +0/17 +forgotten", told(chat, "/memory")[3])


def test_the_blank_where_a_pin_begins_or_ends_is_shown() -> None:
    chat = make_chat(["Fine."])
    chat.reply("I met Dr. Achterberg.  My name is Ada. I live in Ghent. I hate coriander.")
    chat.pin("My name is Ada")
    chat.pin("I hate")
    row = next(row for row in told(chat, "/memory") if "Ghent" in row)
    assert row.endswith("I met Dr. Achterberg. My name is Ada. I live in Ghent. I hate coriander.")
    evict(chat, chat.session.ledger["token"] == ord("h"))  # whose neighbours are blanks and letters
    row = next(row for row in told(chat, "/memory") if "G" in row)
    assert (
        "Ac [1 dropped] terberg. My name" in row
        and "I [1 dropped] ate" in row
        and "  " not in row.partition("I met")[2]
    )


# ---- thoughts ----------------------------------------------------------------------------------


def test_a_thought_that_made_room_is_no_word_that_is_missing() -> None:
    events: list[Eviction] = []
    chat = make_chat(on_evict=events.append, budget=128)
    losses = Losses(chat)
    chat.reply("Hello there.", max_tokens=1)
    chat.engine.script[:] = script(f"<think>{'Let me see. ' * 15}</think>Fine.")  # type: ignore[attr-defined]
    losses.clear()
    chat.reply("And?")
    thought = ROLES.index("thought")
    assert sum((event.columns["role"] == thought).sum() for event in events if event.why == "room") > 50
    turn, before = chat.memory().turn(2), chat.memory().turn(1)
    assert turn is not None and before is not None
    assert turn.n_content == len("And?") + len("Fine.") and turn.n_tokens < 40
    assert turn.n_content_dropped == sum(loss.n_content for loss in turn.losses) == 0  # the question stays
    assert sum(loss.n_thought for loss in turn.losses) > 180
    assert chat.evictions.n_evicted == before.n_content_dropped + turn.n_content_dropped
    assert [row.split() for row in told(chat, "/memory")[-2:]] == [["2", "9", "you", "And?"], ["model", "Fine."]]
    assert losses.listed() == [] and before.n_content_dropped == 0


# ---- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "ranks_by"),
    [
        ("sir", "marginal value of the word to its turn, decayed"),
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
    assert title.endswith("sir evicts, ranking by marginal value of the word to its turn, decayed")
    assert "MEAN SURPRISAL" in head and ">" not in "".join(row.split("you")[0] for row in rows)
    assert re.search(r"\d\.\d\d nats", "".join(rows))
    assert "ranking" not in told(chat, "/memory")[0]


def test_why_without_a_turn_tells_what_was_dropped_last() -> None:
    assert told(make_chat(), "/memory why") == ["nothing was dropped so far"]
    chat, _ = losing(16)
    title, head, *rows = told(chat, "/memory why")
    assert head.split() == ["TURN", "TOKENS", "WHEN", "WHY"]
    assert "/memory why TURN" in title and re.fullmatch(r"and \d more turns", rows.pop())
    assert len(rows) == 10
    found = [re.match(r"(\d+) +-\d+ +in turn (\d+) +Convert \d+ kilometres to miles …: evicted", row) for row in rows]
    when = [int(m[2]) for m in found]  # type: ignore[index]
    assert when == sorted(when, reverse=True) and when[0] == 16
    assert len(perform(chat, "/memory why --json").document["turns"]) > 10


def test_template_tokens_that_went_are_not_passed_over() -> None:
    chat, _ = losing(16)
    turns = [t for t in chat.memory() if any(loss.n_template for loss in t.losses)]
    markers = [
        replace(t, losses=tuple(replace(x, n_tokens=1, n_content=0, n_thought=0) for x in t.losses[:1])) for t in turns
    ]
    assert losses_view(markers[:1]).title == "nothing was dropped so far but 1 template token"
    assert losses_view(markers[:2]).title == "nothing was dropped so far but 2 template tokens"


def test_one_is_one() -> None:
    assert loss_line({3: 1}, 0, "turn {}".format, 4) == "evicted 1 token of turn 3"
    assert loss_line({3: 1}, 0, "turn {}".format, 0) == "evicted 1 token of 1 turn (/memory)"
    assert loss_line({3: 1, 4: 1}, 0, "turn {}".format, 1).endswith("and 1 more turn (/memory)")
    chat, _ = losing(16)
    why = [turn for turn in chat.memory() if any(loss.n_content for loss in turn.losses)]
    assert losses_view(why[:11]).rows[-1].text[0][0] == "and 1 more turn"
    loss = next(loss for loss in why[0].losses if loss.n_content)
    undone = Undone(9, (), 1, (replace(loss, n_content=1),))
    assert cost_of(undone).endswith(f"1 token of turn {loss.turn}")
    assert cost_of(replace(undone, lost=(loss, replace(loss, turn=7)))).endswith(f" tokens of turns {loss.turn}, 7")
    stats = replace(chat.stats(), tokens_in=1, evicted=1, evictions=1)
    rows = {row.cells[0]: row.text[0][0] for row in stats_view(stats, stats).rows}
    assert rows["turns"].startswith("16; 1 token read,") and rows["evicted"].startswith("1 token in 1 eviction,")


# ---- help --------------------------------------------------------------------------------------


def test_help_on_one_command() -> None:
    title, pin = told(make_chat(), "/help pin")
    assert pin.startswith("/pin TEXT|TURN  never evict") and "cannot bring back" in pin
    assert title == "" and told(make_chat(), "/help /pin") == ["", pin]
    assert [row.split("  ")[0] for row in told(make_chat(), "/help memory")[1:]] == [
        "/memory [N] [--scores] [--json]",
        "/memory find TEXT",
        "/memory why [TURN]",
    ]
    assert len(told(make_chat(), "/help memory why")) == 2
    with pytest.raises(ConfigError, match=r"unknown command /pni; did you mean /pin\?"):
        perform(make_chat(), "/help pni")


def test_the_list_of_commands_tells_of_traces() -> None:
    rows = told(make_chat(), "/help")
    assert any(row.startswith("--trace FILE") and "edge-sir replay FILE" in row for row in rows)


# ---- figures -----------------------------------------------------------------------------------


def test_figures_begin_anew_with_the_conversation_and_the_run_keeps_all() -> None:
    chat, _ = losing(8)
    before = chat.stats()
    assert before.evicted > 0 and chat.evictions.n_evicted > 0
    chat.clear()
    assert (chat.stats().turns, chat.stats().evicted, chat.stats().tokens_out, chat.evictions.n_evicted) == (0, 0, 0, 0)
    assert "in all" not in " ".join(told(losing(1)[0], "/stats"))
    fill(chat, 2)
    now, run = chat.stats(), chat.run_stats()
    assert now.resident == now.tokens_in + now.tokens_out - now.evicted
    assert (run.turns, run.conversations, run.evicted) == (10, 2, before.evicted)
    assert run.tokens_out == before.tokens_out + now.tokens_out
    assert run.max_resident == before.max_resident > now.max_resident
    assert told(chat, "/stats")[-1].startswith("in all  2 conversations, 10 turns; ")
    assert perform(chat, "/stats").document["run"]["turns"] == 10


def test_another_system_prompt_before_anything_is_said_is_no_conversation() -> None:
    chat = make_chat(system="Be kind.")
    chat.set_system("Be rude.")
    assert chat.run_stats().conversations == 1


# ---- losses ------------------------------------------------------------------------------------


def losing(n: int, budget: int = 256) -> tuple[Chat, Losses]:
    chat = make_chat(["ok"] * n, budget=budget)
    losses = Losses(chat)
    for i in range(n):
        chat.reply(f"Convert {i} kilometres to miles for me, please")
    return chat, losses


def test_losses_name_turns_as_they_were_said() -> None:
    _, losses = losing(8)
    text = losses.line()
    part = r"of turn \d+ \(Convert \d kilometres to miles …\) \d+"
    assert re.fullmatch(rf"evicted \d+ tokens: {part}(, {part}){{{N_TURNS - 1}}}, and \d more turns? \(/memory\)", text)
    counts = [int(x) for x in re.findall(r"\) (\d+)", text)]
    assert counts == sorted(counts, reverse=True)
    assert re.fullmatch(r"evicted \d+ tokens of \d+ turns \(/memory\)", losses.line(0))
    assert losses.take() == text and losses.take() == ""


def test_one_turn_needs_no_list_and_a_long_word_no_line() -> None:
    chat = make_chat(["ok"], budget=128)
    losses = Losses(chat)
    chat.reply("https://" + "x" * 150)
    assert re.fullmatch(r"evicted \d+ tokens of turn 1 \(https://x{32} …\)", losses.line())


def test_why_names_the_turn_and_no_salad() -> None:
    chat, _ = losing(8)
    title, *rows = told(chat, "/memory why 1")
    assert title.startswith("turn 1 (Convert 0 kilometres to miles …): ")
    assert not any("“" in row for row in rows)
