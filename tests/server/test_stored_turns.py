"""Conversations over HTTP: where each request goes on, and which tokens are read for it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from stored_toy import ANSWERING, END, Client, asking, said_tokens, talking

from edge_sir.errors import EngineError

A, B, C = "My name is Ada.", "What is a monad?", "And a functor?"


def long(text: str) -> str:
    """A reply that no other conversation has by chance."""
    return f"{text}: " + f"this is what I have to say about {text}, at some length. " * 2 + "Fine."


R1, R2, R3 = long("one"), long("two"), long("three")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with talking(tmp_path / "state") as client:
        yield client


def three_turns(client: Client, **more: str) -> str:
    """A R1 B R2 C R3; the session's name."""
    first = client.ask(A, reply=R1, **more)
    client.ask(A, R1, B, reply=R2, **more)
    last = client.ask(A, R1, B, R2, C, reply=R3, **more)
    assert (first.match, last.match, first.session) == ("new", "exact", last.session)
    assert last.read == asking(C)
    return last.session


def test_only_what_is_new_is_read(client: Client) -> None:
    first = client.ask(A, reply=R1)
    assert (first.match, first.text, first.held) == ("new", R1, 0)
    second = client.ask(A, R1, B, reply=R2)
    assert (second.match, second.text, second.read, second.session) == ("exact", R2, asking(B), first.session)
    assert second.held == first.document["edge_sir"]["resident"]
    assert client.said(first.session) == [A, R1, B, R2]


def test_the_same_request_again_reads_nothing_but_what_opens_the_reply(client: Client) -> None:
    session = three_turns(client)
    again = client.ask(A, R1, B, R2, C, reply="Another.")
    assert (again.match, again.read, again.session, again.text) == ("retry", ANSWERING, session, "Another.")
    assert client.said(session) == [A, R1, B, R2, C, "Another."]


def test_a_client_that_goes_on_from_the_first_of_two_replies(client: Client) -> None:
    session = three_turns(client)
    client.ask(A, R1, B, R2, C, reply="Another.")
    on = client.ask(A, R1, B, R2, C, R3, "next", reply="Yes.")
    assert on.session == session and on.read == said_tokens("assistant", R3) + asking("next")
    assert client.said(session) == [A, R1, B, R2, C, R3, "next", "Yes."]
    further = client.ask(A, R1, B, R2, C, R3, "next", "Yes.", "and", reply="No.")
    assert (further.match, further.read) == ("exact", asking("and"))
    back = client.ask(A, R1, B, R2, C, "Another.", "x", reply="Good.")
    assert back.match == "fork" and back.session != session
    assert client.said(back.session) == [A, R1, B, R2, C, "Another.", "x", "Good."]


def test_a_reply_that_says_nothing_is_read_again_where_a_client_goes_on_from_it(client: Client) -> None:
    session = client.ask(A, reply=R1).session
    client.ask(A, R1, B, reply="")
    assert client.ask(A, R1, B, reply="Another.").match == "retry"
    on = client.ask(A, R1, B, "", "next", reply="Yes.")
    assert on.session == session and client.said(session) == [A, R1, B, "", "next", "Yes."]


def test_a_reply_with_a_nul_can_be_sent_back(client: Client) -> None:
    first = client.ask(A, reply="one\0two")
    assert first.text == "one\ufffdtwo"
    on = client.ask(A, first.text, B, reply="Yes.")
    assert (on.match, on.read, on.session) == ("exact", asking(B), first.session)


def test_an_edited_message_goes_on_in_a_copy_and_reads_only_that(client: Client) -> None:
    session = three_turns(client)
    fork = client.ask(A, R1, "Something else", reply="Fine.")
    assert (fork.match, fork.read) == ("fork", asking("Something else")) and fork.session != session
    assert client.said(fork.session) == [A, R1, "Something else", "Fine."]
    assert client.said(session) == [A, R1, B, R2, C, R3]
    for history, of in (
        ((A, R1, B, R2, C, R3, "next"), session),
        ((A, R1, "Something else", "Fine.", "next"), fork.session),
    ):
        on = client.ask(*history, reply="Yes.")
        assert (on.match, on.read, on.session) == ("exact", asking("next"), of)


def test_a_fork_has_no_cells_of_what_came_later(client: Client) -> None:
    session = three_turns(client)
    fork = client.ask(A, R1, "Something else", reply="Fine.")
    (live,) = [one for one in client.home.sessions if one.name == fork.session]
    tokens = bytes(min(t, 255) for t in live.chat.session.ledger["token"].tolist())
    assert B.encode() not in tokens and R2.encode() not in tokens and R1.encode() in tokens
    assert client.home._folder.search("functor", session=session)
    assert not client.home._folder.search("functor", session=fork.session)


def test_two_tabs(client: Client) -> None:
    session = three_turns(client)
    history = (A, R1, B, R2, C, R3)
    one = client.ask(*history, "in tab one", reply="ok")
    other = client.ask(*history, "in tab two", reply="yes")
    assert (one.match, other.match, one.session) == ("exact", "fork", session) and other.session != session
    assert other.read == asking("in tab two")
    for mine, mark, answer in (("in tab one", "ok", one), ("in tab two", "yes", other)):
        again = client.ask(*history, mine, mark, B, reply="on")
        assert (again.match, again.session, again.read) == ("exact", answer.session, asking(B))


def test_short_replies_do_not_lead_astray(client: Client) -> None:
    for first, second in (("a", "b"), ("x", "y")):
        client.ask(first, reply="ok")
        client.ask(first, "ok", second, reply="ok")
    found = client.ask("a", "ok", "b", "ok", "c", reply="ok")
    assert found.match == "exact" and client.said(found.session) == ["a", "ok", "b", "ok", "c", "ok"]
    assert found.read == asking("c")


def test_identical_dialogues_then_divergence(client: Client) -> None:
    session = three_turns(client)
    second = client.ask(A, reply=R1)  # word for word the same
    assert second.match in ("retry", "fork") and second.session != session and second.read == ANSWERING
    diverged = client.ask(A, R1, "Something else", reply=R2)
    assert (diverged.match, diverged.session) == ("exact", second.session)
    assert client.said(diverged.session) == [A, R1, "Something else", R2]
    assert client.ask(A, R1, B, R2, C, R3, "x", reply="ok").session == session


def test_a_deleted_pair(client: Client) -> None:
    three_turns(client)
    found = client.ask(A, R1, C, R3, "next", reply="ok")
    assert found.match == "fork" and client.said(found.session) == [A, R1, C, R3, "next", "ok"]
    assert found.read == said_tokens("user", C) + said_tokens("assistant", R3) + asking("next")


def test_the_last_pair_deleted(client: Client) -> None:
    three_turns(client)
    found = client.ask(A, R1, B, R2, "next", reply="ok")
    assert (found.match, found.read) == ("fork", asking("next"))


def test_an_edited_reply_takes_the_place_of_ours(client: Client) -> None:
    session = three_turns(client)
    edited = R3 + " And more."
    found = client.ask(A, R1, B, R2, C, edited, "next", reply="ok")
    assert (found.match, found.session) == ("fork", session)
    assert found.read == said_tokens("assistant", edited) + asking("next")
    assert client.said(session) == [A, R1, B, R2, C, edited, "next", "ok"]


def test_a_client_that_holds_a_part_of_our_reply_does_not_see_the_rest(client: Client) -> None:
    session = three_turns(client)
    held = R3[:50].rstrip()
    found = client.ask(A, R1, B, R2, C, held, "next", reply="ok")
    assert found.match == "fork" and found.read == said_tokens("assistant", held) + asking("next")
    assert client.said(session) == [A, R1, B, R2, C, held, "next", "ok"]


def test_the_front_trimmed(client: Client) -> None:
    session = three_turns(client)
    found = client.ask(B, R2, C, R3, "next", reply="ok")
    assert (found.match, found.session, found.read) == ("anchor", session, asking("next"))


def test_a_summary_in_place_of_the_front(client: Client) -> None:
    session = three_turns(client)
    found = client.ask("What was said so far: Ada.", R2, C, R3, "next", reply="ok")
    assert (found.match, found.session, found.read) == ("anchor", session, asking("next"))


@pytest.mark.parametrize("sent", [A + " [image]", "CONTEXT\n\n" + A])
def test_a_message_that_changed_before_our_reply(client: Client, sent: str) -> None:
    client.ask(sent, reply=R1)
    found = client.ask(A, R1, B, reply=R2)
    assert (found.match, found.read) == ("anchor", asking(B))


def test_notes_at_depth_are_read_where_they_stand_and_are_not_pinned(client: Client) -> None:
    note = {"role": "system", "content": "Write like a pirate."}
    first = client.send([{"role": "user", "content": A}, note], R1)
    assert first.match == "new"
    messages = [*client_history(A, R1), note, {"role": "user", "content": B}]
    found = client.send(messages, R2)
    assert (found.match, found.read) == ("anchor", said_tokens("system", note["content"]) + asking(B))
    (live,) = client.home.sessions
    assert not live.chat.has_pins


def client_history(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def test_emoji_and_letters_of_another_form(client: Client) -> None:
    first = client.ask("Café 🇳🇴", reply="Naïve 👍🏽")
    found = client.ask("Café 🇳🇴", "Naïve 👍🏽\r\n", B, reply="ok")
    assert (found.match, found.session, found.read) == ("exact", first.session, asking(B))


def test_another_key_and_another_person_find_nothing(client: Client) -> None:
    session = three_turns(client)
    for headers in ({"authorization": "Bearer other"}, {"x-edge-sir-user": "eve"}, {"x-openwebui-chat-id": "9"}):
        found = client.ask(A, R1, B, R2, C, R3, "next", reply="ok", headers=headers)
        assert found.match == "new" and found.session != session


def test_a_history_of_somewhere_else_is_read_once(client: Client) -> None:
    history = tuple(f"{'a reply' if i % 2 else 'a question'} number {i}" for i in range(40))
    first = client.ask(*history, "next", reply=R1)
    n = sum(said_tokens(("user", "assistant")[i % 2], text) for i, text in enumerate(history))
    assert first.match == "new" and first.read == n + asking("next") + 1  # and the token that begins a text
    second = client.ask(*history, "next", R1, "more", reply=R2)
    assert (second.match, second.read) == ("exact", asking("more"))


def test_an_import_beyond_the_budget(tmp_path: Path) -> None:
    with talking(tmp_path / "state", budget=256, max_tokens=20) as client:
        history = tuple(f"message number {i} of many" for i in range(60))
        first = client.ask(*history, "next", reply="ok")
        assert first.status == 200 and first.document["edge_sir"]["resident"] <= 256
        second = client.ask(*history, "next", "ok", "more", reply="yes")
        assert (second.match, second.read) == ("exact", asking("more"))


def test_a_clock_in_the_system_prompt_changes_nothing(client: Client) -> None:
    first = client.ask(A, reply=R1, system="It is 10:15 on Monday. Be kind.")
    found = client.ask(A, R1, B, reply=R2, system="It is 10:17 on Tuesday. Be kind.")
    assert (found.match, found.read, found.session) == ("exact", asking(B), first.session)


def test_another_system_prompt_takes_the_place_of_the_old_one(client: Client) -> None:
    first = client.ask(A, reply=R1, system="Be kind.")
    found = client.ask(A, R1, B, reply=R2, system="Speak like a pirate.")
    assert (found.match, found.session) == ("exact", first.session)
    assert found.read == said_tokens("system", "Speak like a pirate.") + asking(B)
    (live,) = client.home.sessions
    assert live.chat.system == "Speak like a pirate."
    assert int(live.chat.session.ledger["pinned"].sum()) <= said_tokens("system", "Speak like a pirate.") + 20
    later = client.ask(A, R1, B, R2, C, reply=R3, system="Speak like a pirate.")
    assert (later.match, later.read) == ("exact", asking(C))
    again = client.ask(A, R1, B, R2, C, reply="Arr.", system="Speak like a pirate.")
    assert (again.match, again.read) == ("retry", ANSWERING)


def test_a_reply_that_is_to_be_continued(client: Client) -> None:
    first = client.ask(A, "Well,", reply=" hello Ada.")
    assert (first.match, first.text) == ("prefill", " hello Ada.")
    assert client.said(first.session) == [A, "Well, hello Ada."]
    on = client.ask(A, "Well, hello Ada.", B, reply=R2)
    assert (on.match, on.read) == ("exact", asking(B))
    ours = client.ask(A, "Well, hello Ada.", B, R2, reply=" And so on.")
    assert (ours.match, ours.text) == ("prefill", " And so on.")
    assert client.said(on.session) == [A, "Well, hello Ada.", B, R2 + " And so on."]
    further = client.ask(A, "Well, hello Ada.", B, R2 + " And so on.", C, reply="ok")
    assert (further.match, further.session, further.read) == ("exact", on.session, asking(C))


def test_several_replies_of_which_one_comes_back(client: Client) -> None:
    first = client.ask(A, reply=[R1, R2, R3], n=3)
    texts = [choice["message"]["content"] for choice in first.document["choices"]]
    assert texts == [R1, R2, R3] and first.read == asking(A) + 2 * ANSWERING + 1
    last = client.ask(A, R3, B, reply="ok")
    assert (last.match, last.read, last.session) == ("exact", asking(B), first.session)
    other = client.ask(A, R1, B, reply="yes")
    assert other.match == "fork" and client.said(other.session) == [A, R1, B, "yes"]
    assert client.said(first.session) == [A, R3, B, "ok"]


def test_what_a_tool_says(client: Client) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "content": "3 degrees", "tool_call_id": "call_1"}
    first = client.send([*client_history(A), called, result], R1)
    assert first.match == "new" and first.text == R1
    second = client.send(
        [*client_history(A), called, result, *client_history(A, R1)[1:], {"role": "user", "content": B}], R2
    )
    assert (second.match, second.read) == ("exact", asking(B))


def test_a_task_leaves_no_trace(client: Client) -> None:
    session = three_turns(client)
    task = client.ask("### Task:\nA title, please.\n<chat_history>x</chat_history>", reply="Monads")
    assert (task.match, task.session, task.text) == ("scratch", "scratch", "Monads")
    header = client.ask(A, R1, B, reply="Tags", headers={"x-openwebui-task": "tags"})
    assert header.match == "scratch"
    on = client.ask(A, R1, B, R2, C, R3, "next", reply="ok")
    assert (on.match, on.session, on.read) == ("exact", session, asking("next"))
    assert client.home._folder.names() == [session]


def test_ids_of_responses(client: Client) -> None:
    client.models.says(R1)
    first = httpx.post(f"{client.url}/v1/responses", json={"input": A}).json()
    client.models.says(R2)
    second = httpx.post(f"{client.url}/v1/responses", json={"input": B, "previous_response_id": first["id"]})
    assert second.headers["x-edge-sir-match"] == "exact"
    assert second.json()["usage"]["input_tokens_details"]["cache_write_tokens"] == asking(B)
    client.models.says(R3)
    fork = httpx.post(f"{client.url}/v1/responses", json={"input": C, "previous_response_id": first["id"]})
    assert fork.headers["x-edge-sir-match"] == "fork"
    assert client.said(fork.headers["x-edge-sir-session"]) == [A, R1, C, R3]


def test_a_text_is_continued_as_it_is(client: Client) -> None:
    client.models.script[:] = [*b" upon a time.\n\nThe end", END]
    answer = httpx.post(f"{client.url}/v1/completions", json={"prompt": "Once", "stop": ["The"]})
    assert answer.json()["choices"][0]["text"] == " upon a time.\n\n"
    assert answer.headers["x-edge-sir-match"] == "scratch" and client.home._folder.names() == []


def test_the_same_request_after_an_error_goes_on_as_if_there_had_been_none(client: Client) -> None:
    client.ask(A, reply=R1)
    client.models.made[-1].fail_next = EngineError("it broke")
    failed = client.ask(A, R1, B, reply=R2)
    assert failed.status == 500 and "it broke" not in failed.text
    again = client.ask(A, R1, B, reply=R2)
    assert (again.match, again.read, again.text) == ("exact", asking(B), R2)
    assert client.said(again.session) == [A, R1, B, R2]


def test_another_model_finds_nothing_and_the_first_one_finds_all(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with talking(path) as client:
        session = three_turns(client)
    with talking(path, seed_of_model=1) as client:
        found = client.ask(A, R1, B, R2, C, R3, "next", reply="ok")
        assert found.match == "new" and found.session != session
    with talking(path) as client:
        found = client.ask(A, R1, B, R2, C, R3, "next", reply="ok")
        assert (found.match, found.session, found.read) == ("exact", session, asking("next"))


def test_many_clients_at_once_never_get_a_turn_of_another(tmp_path: Path) -> None:
    """The toy says what it likes; each client checks that its conversation is the one that it holds."""
    n_clients, n_turns = 8, 6
    with talking(tmp_path / "state", n_live=3, max_tokens=8, temperature=1.0) as client:

        def talk(number: int) -> tuple[str, list[str]]:
            history, sessions = [f"I am number {number}."], set()
            for turn in range(n_turns):
                answer = client.ask(*history, seed=number)
                assert answer.status == 200 and answer.match == ("exact" if turn else "new")
                assert answer.read == asking(history[-1]) + (turn == 0)
                sessions.add(answer.session)
                history += [answer.text, f"turn {turn} of {number}"]
            (session,) = sessions
            return session, history[:-1]

        with ThreadPoolExecutor(n_clients) as pool:
            ended = list(pool.map(talk, range(n_clients)))
        assert len({session for session, _ in ended}) == n_clients and len(client.models.made) == 3
        for session, history in ended:
            assert client.said(session) == history
