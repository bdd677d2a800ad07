"""Each thing that clients do with a history: where the request goes on, and what is read of it."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from server.knowing import DiskKnown, MemoryKnown, Server, long, note, reply, user

from edge_sir.server.incoming import Incoming, Said
from edge_sir.server.match import Match, match


@pytest.fixture(params=["memory", "disk"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "memory":
        yield Server(MemoryKnown())
        return
    known = DiskKnown(tmp_path / "state")
    yield Server(known)
    known.database.close()


A, B, C = user("My name is Ada."), user("What is a monad?"), user("And a functor?")
R1, R2, R3 = reply(long("one")), reply(long("two")), reply(long("three"))
OK = reply("ok")


def three_turns(server: Server, **more: str) -> Match:
    """A R1 B R2 C R3, each request sending everything again; the first match."""
    first = server.ask(A, answer=R1, **more)
    assert server.ask(A, R1, B, answer=R2, **more).kind == "exact"
    assert server.ask(A, R1, B, R2, C, answer=R3, **more).kind == "exact"
    return first


def said(found: Match) -> tuple[str, tuple[Said, ...], tuple[str, ...]]:
    return found.kind, found.new, found.tolerated


# ---- the same history ---------------------------------------------------------------------------


def test_the_whole_history_again_goes_on_at_the_tip(server: Server) -> None:
    assert said(three_turns(server)) == ("new", (A,), ())
    found = server.find(A, R1, B, R2, C, R3, user("next"))
    assert said(found) == ("exact", (user("next"),), ()) and found.is_tip
    assert server.held(found) == [m.text for m in (A, R1, B, R2, C, R3)]


def test_short_replies_go_on_where_all_of_it_agrees(server: Server) -> None:
    server.ask(user("a"), answer=OK)
    server.ask(user("a"), OK, user("b"), answer=OK)
    server.ask(user("x"), answer=OK)
    server.ask(user("x"), OK, user("y"), answer=OK)
    found = server.find(user("a"), OK, user("b"), OK, user("c"))
    assert found.kind == "exact" and server.held(found) == ["a", "ok", "b", "ok"]
    other = server.find(user("x"), OK, user("y"), OK, user("c"))
    assert other.kind == "exact" and server.held(other) == ["x", "ok", "y", "ok"]


@pytest.mark.parametrize(
    "first", ["z", "A", "a long message that nobody ever sent to this server, of 80 characters and more"]
)
def test_short_replies_alone_find_nothing(server: Server, first: str) -> None:
    server.ask(user("a"), answer=OK)
    server.ask(user("a"), OK, user("b"), answer=reply("yes"))
    history = (user(first), OK, user("b"), reply("yes"), user("c"))
    assert said(server.find(*history)) == ("new", history, ())


def test_a_script_with_other_data_is_another_conversation(server: Server) -> None:
    """Long instructions that every run begins with, and short replies."""
    script = user("I shall send you a number of records. Read each of them, and say nothing but a single word to it.")
    server.ask(script, answer=OK)
    server.ask(script, OK, user("record one"), answer=reply("yes"))
    found = server.find(script, OK, user("record two"), reply("yes"), user("next"))
    assert said(found)[:2] == ("fork", (user("record two"), reply("yes"), user("next")))
    assert server.held(found) == [script.text, "ok"]


def test_a_reply_that_many_got_is_no_anchor_although_few_of_them_agree(server: Server) -> None:
    """Two of them agree alike; a look-up that stops early might show one."""
    for i in range(6):
        refusal, first = reply(long(f"refusal {i}")), reply(long(f"first {i}"))
        for name in range(60):
            server.ask(user(f"{i} {name}"), answer=refusal)
        for name in (f"{i} x", f"{i} y"):
            server.ask(user(name), answer=first)
            server.ask(user(name), first, user(f"more of {name}"), answer=refusal)
        found = server.find(user("z"), first, user("more"), refusal, user("next"))
        assert found.kind == "new"


def test_a_common_reply_finds_nothing_and_the_one_before_it_does(server: Server) -> None:
    server.ask(A, answer=R1)
    server.ask(A, R1, B, answer=OK)
    for i in range(40):
        server.ask(user(f"other {i}"), answer=OK)
    changed = user("My name is Ada, as I said.")
    found = server.find(changed, R1, B, OK, C)
    assert said(found) == ("anchor", (C,), ("changed messages",))
    assert server.held(found) == [A.text, R1.text, B.text, "ok"]


def test_identical_dialogues_then_divergence(server: Server) -> None:
    """The second gets what both said, and nothing that the first said later."""
    three_turns(server)
    second = server.find(A)
    assert said(second) == ("retry", (), ()) and server.held(second) == [A.text]
    server.ask(A, answer=R1)  # the same reply
    diverged = server.ask(A, R1, user("Something else"), answer=R2)
    assert diverged.kind == "exact" and server.held(diverged) == [A.text, R1.text]
    assert server.find(A, R1, B, R2, C, R3, A).kind == "exact"
    assert server.find(A, R1, user("Something else"), R2, A).kind == "exact"


def test_a_dialogue_that_was_identical_elsewhere_forks(server: Server) -> None:
    three_turns(server)
    found = server.ask(A, R1, user("Something else"), answer=R2)
    assert said(found) == ("fork", (user("Something else"),), ()) and not found.is_tip
    assert server.held(found) == [A.text, R1.text]


def test_two_tabs(server: Server) -> None:
    three_turns(server)
    history = (A, R1, B, R2, C, R3)
    one, other = user("in tab one"), user("in tab two")
    assert server.ask(*history, one, answer=OK).kind == "exact"
    found = server.ask(*history, other, answer=reply("yes"))
    assert said(found) == ("fork", (other,), ()) and "in tab one" not in server.held(found)
    for mine, mark in ((one, OK), (other, reply("yes"))):
        again = server.find(*history, mine, mark, B)
        assert again.kind == "exact" and server.held(again)[-2] == mine.text


def test_of_two_that_are_alike_the_one_that_has_not_gone_on(server: Server) -> None:
    for _ in range(2):
        server.ask(A, answer=R1)
    later = server.ask(A, R1, B, answer=R2)
    found = server.find(A, R1, C)
    assert found.kind == "exact" and found.session != later.session


# ---- an edited history ---------------------------------------------------------------------------


def test_a_deleted_pair(server: Server) -> None:
    three_turns(server)
    found = server.find(A, R1, C, R3, user("next"))
    assert said(found) == ("fork", (C, R3, user("next")), ()) and server.held(found) == [A.text, R1.text]


def test_the_last_pair_deleted(server: Server) -> None:
    three_turns(server)
    found = server.find(A, R1, B, R2, user("next"))
    assert said(found) == ("fork", (user("next"),), ()) and server.held(found)[-1] == R2.text


def test_an_edited_reply(server: Server) -> None:
    three_turns(server)
    edited = reply(R3.text + " And more.")
    found = server.find(A, R1, B, R2, C, edited, user("next"))
    assert said(found) == ("fork", (edited, user("next")), ())
    assert server.held(found) == [m.text for m in (A, R1, B, R2, C)]


def test_an_edited_reply_in_the_middle(server: Server) -> None:
    three_turns(server)
    found = server.find(A, reply("no"), B, R2, C, R3, user("next"))
    assert found.kind == "fork" and server.held(found) == [A.text] and len(found.new) == 6


def test_an_edited_reply_behind_a_changed_front(server: Server) -> None:
    """The last reply that is ours is found, and what follows it is read."""
    three_turns(server)
    found = server.find(user("My name is Eve."), R1, B, R2, C, reply("edited"), user("next"))
    assert said(found) == ("fork", (reply("edited"), user("next")), ("changed messages",))
    assert server.held(found)[-1] == C.text


def test_an_edited_user_message_at_the_end(server: Server) -> None:
    three_turns(server)
    found = server.find(A, R1, B, R2, user("And an applicative?"))
    assert said(found) == ("fork", (user("And an applicative?"),), ()) and server.held(found)[-1] == R2.text


def test_a_mended_indent_is_an_edit_and_a_trailing_blank_is_none(server: Server) -> None:
    server.ask(user("if x:\ny()"), answer=R1)
    assert server.find(user("if x:  \ny()\n")).kind == "retry"
    assert server.find(user("if x:\n    y()")).kind == "new"


@pytest.mark.parametrize("cut", [10, 90, -1])
def test_a_client_that_holds_a_prefix_of_our_reply(server: Server, cut: int) -> None:
    """It was cut by a lost connection or by a stop text of the client's own: the rest must not be seen."""
    three_turns(server)
    held = reply(R3.text.rstrip()[:cut])
    found = server.find(A, R1, B, R2, C, held, user("next"))
    assert said(found) == ("fork", (held, user("next")), ()) and server.held(found)[-1] == C.text


def test_a_client_that_compacts_to_a_summary(server: Server) -> None:
    three_turns(server)
    summary = user("What was said so far: Ada asks about monads.")
    assert said(server.find(summary, reply("Understood."), user("next")))[0] == "new"
    kept = server.find(summary, R2, C, R3, user("next"))
    assert said(kept) == ("anchor", (user("next"),), ("missing front",))
    assert server.held(kept)[0] == A.text


# ---- what is tolerated ---------------------------------------------------------------------------


def test_texts_that_a_search_put_in_are_left_out_later(server: Server) -> None:
    """Each message is sent once with what was found for it, and then without."""
    server.ask(user("CONTEXT 1\n\nWhat is a monad?"), answer=R1)
    second = server.ask(B, R1, user("CONTEXT 2\n\nAnd a functor?"), answer=R2)
    assert said(second) == ("anchor", (user("CONTEXT 2\n\nAnd a functor?"),), ("changed messages",))
    third = server.ask(B, R1, C, R2, user("CONTEXT 3\n\nnext"), answer=R3)
    assert said(third)[0] == "anchor" and third.is_tip and len(third.new) == 1
    assert third.session == second.session


def test_a_request_that_is_sent_twice_behind_a_changed_front(server: Server) -> None:
    server.ask(user("CONTEXT 1\n\nWhat is a monad?"), answer=R1)
    server.ask(B, R1, user("CONTEXT 2\n\nAnd a functor?"), answer=R2)
    again = server.find(B, R1, user("CONTEXT 2\n\nAnd a functor?"))
    assert said(again) == ("retry", (), ("changed messages",)) and not again.is_tip


def test_a_dropped_image_changes_a_message(server: Server) -> None:
    server.ask(user("What is this?\n[image]"), answer=R1)
    found = server.find(user("What is this?"), R1, B)
    assert said(found) == ("anchor", (B,), ("changed messages",))


@pytest.mark.parametrize("n_cut", range(1, 5))
def test_a_front_that_is_cut_off(server: Server, n_cut: int) -> None:
    three_turns(server)
    history = (A, R1, B, R2, C, R3)
    found = server.find(*history[n_cut:], user("next"))
    assert said(found) == ("anchor", (user("next"),), ("missing front",))
    assert server.held(found) == [m.text for m in history]


def test_a_front_that_is_cut_off_further_with_every_turn(server: Server) -> None:
    history = [A]
    first = server.ask(A, answer=long("turn 0"))
    for i in range(1, 12):
        history += [reply(long(f"turn {i - 1}")), user(f"question {i}")]
        sent = history[-5:]
        found = server.ask(*sent, answer=long(f"turn {i}"))
        assert found.is_tip and found.new == (user(f"question {i}"),) and len(server.held(found)) == 2 * i
    assert first.kind == "new"


def test_short_replies_behind_a_cut_front_need_what_was_said_between_them(server: Server) -> None:
    asked = [user(f"Please remember the number {i}, which I shall ask you about later.") for i in range(3)]
    server.ask(asked[0], answer=OK)
    server.ask(asked[0], OK, asked[1], answer=reply("yes"))
    server.ask(asked[0], OK, asked[1], reply("yes"), asked[2], answer=reply("done"))
    found = server.find(reply("yes"), asked[2], reply("done"), user("next"))
    assert found.kind == "new"  # 62 characters
    found = server.find(OK, asked[1], reply("yes"), asked[2], reply("done"), user("next"))
    assert found.kind == "anchor" and found.is_tip
    assert server.find(OK, asked[0], reply("yes"), asked[2], reply("done"), user("next")).kind == "new"


def test_two_conversations_that_agree_alike_are_neither(server: Server) -> None:
    refusal = reply(long("I cannot help with that"))
    server.ask(user("one"), answer=refusal)
    server.ask(user("two"), answer=refusal)
    history = (user("three"), refusal, user("next"))
    assert said(server.find(*history)) == ("new", history, ())
    server.ask(user("one"), refusal, A, answer=R1)
    server.ask(user("two"), refusal, A, answer=R1)
    found = server.find(user("one"), refusal, A, R1, B)
    assert found.kind == "exact" and server.held(found)[0] == "one"


def test_of_two_conversations_with_the_same_replies_the_one_with_the_same_messages(server: Server) -> None:
    for first in ("one", "two"):
        server.ask(user(first), answer=R1)
        server.ask(user(first), R1, user(f"more of {first}"), answer=R2)
    found = server.find(R1, user("more of one"), R2, B)
    assert found.kind == "anchor" and server.held(found)[0] == "one"
    server.ask(user("one"), R1, user("more of one"), R2, C, answer=R3)
    server.ask(user("two"), R1, user("more of two"), R2, C, answer=R3)
    for front in ((), (user("x"),)):  # what differs is cut off, or changed
        assert server.find(*front, R2, C, R3, B).kind == "new"


def test_notes_that_move(server: Server) -> None:
    """SillyTavern puts an author's note a few messages from the end, whichever these are."""
    depth = note("Write like a pirate.")
    server.ask(depth, A, answer=R1)
    second = server.ask(A, R1, depth, B, answer=R2)
    assert said(second) == ("anchor", (depth, B), ("changed notes",))
    third = server.ask(A, R1, B, R2, depth, C, answer=R3)
    assert said(third) == ("anchor", (depth, C), ("changed notes",)) and third.is_tip


def test_a_prefix_of_the_past_that_the_server_never_saw_is_no_match(server: Server) -> None:
    """A client whose history begins earlier than what is known has said more than that."""
    server.ask(B, R2, C, answer=R3)
    assert server.find(A, R1, B, R2, C, R3, user("next")).kind == "new"


def test_letters_that_look_the_same_are_the_same(server: Server) -> None:
    cafe, thumbs = "Café 🇳🇴 naïve 한글", "👍🏽 ok — “so”…"
    server.ask(user(unicodedata.normalize("NFC", cafe)), answer=thumbs + "\r\n\r\n  fine")
    back = (user(unicodedata.normalize("NFD", cafe)), reply(thumbs + "\nfine\n"))
    assert said(server.find(*back, B)) == ("exact", (B,), ())


def test_thoughts_come_back_or_do_not(server: Server) -> None:
    server.ask(A, answer="<think>\nHm.\n</think>\n\nHello Ada.")
    for text in ("Hello Ada.", '<details type="reasoning" done="true">\n> Hm.\n</details>\nHello Ada.'):
        assert server.find(A, reply(text), B).kind == "exact"


def test_what_was_forgotten_is_sent_again_and_not_read_again(tmp_path: Path) -> None:
    """Of it nothing is left to compare; what was said later is enough."""
    known = DiskKnown(tmp_path / "state")
    server = Server(known)
    first = three_turns(server)
    session = server.find(A, R1, B, R2, C, R3, B).session
    assert first.session is None and session is not None
    known.forget(session, [1, 4])  # A, R2
    found = server.find(A, R1, B, R2, C, R3, user("next"))
    assert said(found) == ("anchor", (user("next"),), ("changed messages",)) and found.session == session
    known.database.close()


# ---- once more -----------------------------------------------------------------------------------


def test_the_same_request_again_asks_for_another_reply(server: Server) -> None:
    three_turns(server)
    found = server.ask(A, R1, B, R2, C, answer=long("another"))
    assert said(found) == ("retry", (), ()) and not found.is_tip and server.held(found)[-1] == C.text
    for last in (R3, reply(long("another"))):  # either may be gone on from
        on = server.find(A, R1, B, R2, C, last, user("next"))
        assert on.kind == "exact" and server.held(on)[-1] == last.text


def test_again_after_a_failure(server: Server) -> None:
    """The message was read, and no reply came: it is not read again."""
    server.ask(A, answer=R1)
    server.ask(A, R1, B, answer=None)
    found = server.ask(A, R1, B, answer=R2)
    assert said(found) == ("retry", (), ()) and found.is_tip
    on = server.find(A, R1, B, R2, C)
    assert on.kind == "exact" and server.held(on) == [m.text for m in (A, R1, B, R2)]


def test_another_message_after_a_failure_takes_the_place_of_the_unanswered_one(server: Server) -> None:
    server.ask(A, answer=R1)
    server.ask(A, R1, B, answer=None)
    both = user(f"{B.text}\n\n{C.text}")  # neighbours of one role come as one
    found = server.find(A, R1, both)
    assert said(found) == ("fork", (both,), ()) and server.held(found)[-1] == R1.text


def test_several_replies_of_which_one_comes_back(server: Server) -> None:
    """n > 1: none of them is in the memory until the client has chosen."""
    server.ask(A, answer=None)
    found = server.ask(A, R2, B, answer=R3)
    assert said(found) == ("exact", (R2, B), ()) and server.held(found) == [A.text]
    other = server.find(A, R1, B)
    assert said(other) == ("fork", (R1, B), ()) and server.held(other) == [A.text]


def test_a_reply_that_is_to_be_continued(server: Server) -> None:
    three_turns(server)
    begun = server.find(A, R1, B, R2, C, R3, user("next"), reply("Well,"))
    assert said(begun) == ("prefill", (user("next"), reply("Well,")), ()) and begun.is_tip
    known = server.ask(A, R1, B, R2, C, R3, answer=" and more")
    assert said(known) == ("prefill", (), ()) and server.held(known)[-1] == R3.text
    on = server.find(A, R1, B, R2, C, reply(R3.text + " and more"), user("next"))
    assert on.kind == "exact"
    cut = server.find(A, R1, B, R2, C, reply(R3.text[:50]))
    assert said(cut) == ("prefill", (reply(R3.text[:50]),), ()) and server.held(cut)[-1] == C.text
    assert said(server.find(user("fresh"), reply("Well,"))) == ("prefill", (user("fresh"), reply("Well,")), ())


def test_the_beginning_of_a_reply_finds_no_conversation(server: Server) -> None:
    """It is the client's own words, and the same in many."""
    server.ask(A, answer=R1, key="K")
    server.ask(A, R1, B, answer="Sure", key="K")
    begun = server.find(user("Another first message"), reply("Sure"), key="K")
    assert begun.kind == "prefill" and begun.node is None


# ---- tools ---------------------------------------------------------------------------------------

CALL = '[{"arguments":{"city":"Oslo"},"id":"call_1","name":"weather"}]'


def test_a_loop_of_tools(server: Server) -> None:
    called = Said("assistant", "", tool_calls=CALL)
    result = Said("tool", "3 degrees", tool_call_id="call_1")
    server.ask(A, answer=called, tools="[{}]")
    second = server.ask(A, called, result, answer=R1, tools="[{}]")
    assert said(second) == ("exact", (result,), ())
    renamed = Said("assistant", "", tool_calls=CALL.replace("call_1", "x9"))
    third = server.find(A, renamed, Said("tool", "3 degrees", tool_call_id="x9"), R1, B, tools="[{}]")
    assert said(third) == ("exact", (B,), ())
    assert said(server.find(A, called, tools="[{}]")) == ("fork", (), ())  # a call is no beginning of a reply
    with_text = Said("assistant", "Let me see.", tool_calls=CALL)
    assert server.find(A, with_text, tools="[{}]").kind == "fork"
    elsewhere = Said("assistant", "", tool_calls=CALL.replace("Oslo", "Rome"))
    assert server.find(A, elsewhere, result, tools="[{}]").kind == "fork"


def test_calls_that_a_client_leaves_out_later(server: Server) -> None:
    called, result = Said("assistant", "", tool_calls=CALL), Said("tool", "3 degrees")
    server.ask(A, answer=R1)
    server.ask(A, R1, B, answer=called)
    server.ask(A, R1, B, called, result, answer=R2)
    found = server.ask(A, R1, B, R2, C, answer=R3)
    assert said(found) == ("fork", (R2, C), ()) and server.held(found)[-1] == B.text
    assert server.find(A, R1, B, R2, C, R3, A).kind == "exact"


def test_a_result_that_came_alone_before_the_others(server: Server) -> None:
    called = Said("assistant", "", tool_calls=CALL)
    one, two = Said("tool", "3 degrees"), Said("tool", "rain")
    server.ask(A, answer=called)
    server.ask(A, called, one, answer=None)
    assert said(server.find(A, called, one, two)) == ("exact", (two,), ())


# ---- the system prompt ---------------------------------------------------------------------------

CLOCK = "You run a house. It is {} on {}, {}."


def test_a_clock_in_the_system_prompt(server: Server) -> None:
    server.ask(A, answer=R1, system=CLOCK.format("10:59 AM", "Monday", "May 5, 2026"))
    found = server.find(A, R1, B, system=CLOCK.format("1:02 p.m.", "Wednesday", "June 17, 2026"))
    assert said(found) == ("exact", (B,), ()) and found.prompt == "dates"
    assert server.find(A, R1, B, system=CLOCK.format("10:59 AM", "Monday", "May 5, 2026")).prompt == "same"


def test_another_system_prompt_goes_on_and_is_read(server: Server) -> None:
    server.ask(A, answer=R1, system="Be brief.")
    found = server.ask(A, R1, B, answer=R2, system="Be kind.")
    assert said(found) == ("exact", (B,), ()) and found.prompt == "changed" and found.is_tip
    assert server.find(A, R1, B, R2, C, system="Be kind.").prompt == "same"


def test_other_tools_are_another_prompt(server: Server) -> None:
    server.ask(A, answer=R1)
    assert server.find(A, R1, B, tools='[{"type":"function"}]').prompt == "changed"


@pytest.mark.parametrize("other", ["You serve user 18.", "You serve nobody."])
def test_a_first_message_belongs_to_its_system_prompt(server: Server, other: str) -> None:
    """Two programs of one key: nothing but a greeting in common, and numbers that name people."""
    server.ask(A, answer=R1, system="You serve user 17.")
    assert server.find(A, system=other).kind == "new"
    assert server.find(A, system="You serve user 17.").kind == "retry"


def test_of_two_conversations_alike_the_one_with_the_same_system_prompt(server: Server) -> None:
    one = server.ask(A, answer=R1, system="Be brief.")
    two = server.ask(A, answer=R1, system="Be kind.")
    assert (one.kind, two.kind) == ("new", "new")
    server.ask(A, R1, B, answer=R2, system="Be brief.")
    found = server.find(A, R1, C, system="Be brief.")
    assert found.kind == "fork" and found.prompt == "same"
    found = server.find(A, R1, C, system="Be kind.")
    assert found.kind == "exact" and found.prompt == "same"


# ---- keys, names, and other people ---------------------------------------------------------------


def test_nothing_is_found_for_another_person_or_another_model(server: Server) -> None:
    three_turns(server, key="K", reply_key="m3")
    history = (A, R1, B, R2, C, R3, user("next"))
    for namespace in ("another key", "another person", "another model"):
        for more in ({}, {"key": "K"}, {"node_key": "m3"}, {"key": "K", "node_key": "m3"}):
            assert said(server.find(*history, namespace=namespace, **more)) == ("new", history, ())


def test_a_model_that_is_switched_and_back_reads_what_was_said_meanwhile(server: Server) -> None:
    server.ask(A, answer=R1)
    server.ask(A, R1, B, answer=R2, namespace="other")
    found = server.find(A, R1, B, R2, C)
    assert said(found) == ("exact", (B, R2, C), ())
    assert said(server.find(A, R1, B, R2, C, namespace="other")) == ("exact", (C,), ())


def test_a_foreign_key_finds_nothing(server: Server) -> None:
    three_turns(server, key="K")
    history = (A, R1, B, R2, C, R3, user("next"))
    assert server.find(*history, key="K").kind == "exact"
    for key in ("L", ""):
        assert said(server.find(*history, key=key)) == ("new", history, ())


def test_a_foreign_history_under_a_key_is_a_branch_of_its_own(server: Server) -> None:
    three_turns(server, key="K")
    other = (user("Something else"), reply(long("else")), user("next"))
    found = server.ask(*other, answer=OK, key="K")
    assert said(found) == ("new", other, ())
    assert server.find(A, R1, B, R2, C, R3, B, key="K").kind == "exact"
    assert server.find(*other, OK, B, key="K").kind == "exact"


def test_a_key_needs_no_long_replies(server: Server) -> None:
    server.ask(user("a"), answer=OK, key="K")
    server.ask(user("a"), OK, user("b"), answer=reply("yes"), key="K")
    found = server.find(user("z"), OK, user("b"), reply("yes"), user("c"), key="K")
    assert said(found) == ("anchor", (user("c"),), ("changed messages",))
    found = server.find(reply("yes"), user("c"), key="K")
    assert said(found) == ("anchor", (user("c"),), ("missing front",))
    assert server.find(user("z"), key="K").kind == "new"


def test_a_name_places_what_comes_without_a_history(server: Server) -> None:
    """As /v1/responses does with the id of the response before."""
    server.ask(A, answer=OK, reply_key="resp_1")
    second = server.ask(B, answer=OK, node_key="resp_1", reply_key="resp_2")
    assert said(second) == ("exact", (B,), ())
    server.ask(C, answer=OK, node_key="resp_2", reply_key="resp_3")
    back = server.find(C, node_key="resp_1")
    assert said(back) == ("fork", (C,), ()) and server.held(back) == [A.text, "ok"]
    again = server.find(C, node_key="resp_2")
    assert said(again) == ("retry", (), ()) and server.held(again) == [A.text, "ok", B.text, "ok", C.text]
    assert server.find(C, node_key="resp_9").kind == "new"


def test_a_name_beside_the_history_picks_among_replies_alike(server: Server) -> None:
    for i in (1, 2):
        server.ask(user(f"first {i}"), answer=OK, reply_key=f"m{i}")
    changed = (user("first"), OK, B)
    assert server.find(*changed).kind == "new"
    for i in (1, 2):
        found = server.find(*changed, node_key=f"m{i}")
        assert said(found) == ("anchor", (B,), ("changed messages",)) and server.held(found)[0] == f"first {i}"
    edited = (user("first 1"), reply("no"), B)
    assert said(server.find(*edited, node_key="m1"))[:2] == ("fork", (reply("no"), B))


def test_a_name_picks_among_sessions_that_are_alike(server: Server) -> None:
    for i in (1, 2):
        server.ask(A, answer=OK, reply_key=f"m{i}")
    sessions = {server.find(B, node_key=f"m{i}").session for i in (1, 2)}
    assert len(sessions) == 2 and None not in sessions


def test_a_name_under_another_key_is_not_followed(server: Server) -> None:
    """A copy of a chat keeps the ids of its messages."""
    three_turns(server, key="K", reply_key="m3")
    assert server.find(A, R1, B, R2, C, R3, B, key="copy", node_key="m3").kind == "new"


# ---- beside the conversation, and much of it -----------------------------------------------------

TASK = "### Task:\nSuggest a title.\n### Chat History:\n<chat_history>\nUSER: My name is Ada.\n</chat_history>"


def test_tasks_beside_the_conversation_are_kept_nowhere(server: Server) -> None:
    three_turns(server, key="K")
    assert said(server.ask(user(TASK), answer=OK, key="K")) == ("scratch", (user(TASK),), ())
    marked = Incoming((A, R1, B, R2, C, R3, B), "", "", "n", session_key="K", is_utility=True)
    assert match(marked, server.known).kind == "scratch"
    assert server.find(A, R1, B, R2, C, R3, B, key="K").kind == "exact"


@pytest.mark.parametrize("text", ["### Task: clean the house", "Look at this: " + TASK])
def test_a_message_that_only_looks_like_a_task_is_one_of_the_conversation(server: Server, text: str) -> None:
    assert server.find(user(text)).kind == "new"


def test_a_long_history_from_elsewhere_is_read_once(server: Server) -> None:
    history = [m for i in range(1500) for m in (user(f"q {i}"), reply(long(f"a {i}")))]
    assert said(server.ask(*history, B, answer=R1)) == ("new", (*history, B), ())
    assert said(server.ask(*history, B, R1, C, answer=R2)) == ("exact", (C,), ())
    assert said(server.find(*history[1000:], B, R1, C, R2, A)) == ("anchor", (A,), ("missing front",))
