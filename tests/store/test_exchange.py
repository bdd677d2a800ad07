"""Conversations as JSON lines and as Markdown: there and back, and what others write."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Message
from edge_sir.store.exchange import (
    format_of,
    from_json_lines,
    from_markdown,
    read_file,
    to_json_lines,
    to_markdown,
)

SAID = [
    Message(0, "system", "Be kind."),
    Message(1, "user", "My name is Ada.\n\nIt is."),
    Message(1, "assistant", "Hello Ada."),
    Message(2, "user", "東京 ☕"),
    Message(2, "tool", '{"t": 21}'),
    Message(2, "assistant", ""),
]
HOSTILE = [
    "## User",
    "\\## User",
    "## User\n\ntext",
    "# ada",
    "\n",
    "",
    "\n\n\n",
    "## Assistant \r",
    "a\r\nb",
    "\\\\## Tool",
]
lines = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec="utf-8"), max_size=20))
texts = st.lists(lines, min_size=1, max_size=4).map("\n".join)
roles = st.sampled_from(["system", "user", "assistant", "tool"])
talks = st.lists(st.builds(Message, st.just(0), roles, texts), min_size=1, max_size=5)


def said(messages: list[Message]) -> list[tuple[str, str]]:
    return [(m.role, m.text) for m in messages]


# ---- there and back ------------------------------------------------------------------------------


def test_a_conversation_as_json_lines() -> None:
    text = to_json_lines(SAID)
    assert text.splitlines()[3] == '{"role": "user", "content": "東京 ☕"}'
    assert [json.loads(line).keys() for line in text.splitlines()] == [{"role", "content"}] * 6
    assert from_json_lines(text) == SAID


def test_a_conversation_as_markdown() -> None:
    text = to_markdown(SAID[:3], "ada")
    assert (
        text == "# ada\n\n## System\n\nBe kind.\n\n## User\n\nMy name is Ada.\n\nIt is.\n\n## Assistant\n\nHello Ada.\n"
    )
    assert from_markdown(to_markdown(SAID, "ada")) == from_markdown(to_markdown(SAID)) == SAID


def test_a_text_that_looks_like_a_heading_stays_text() -> None:
    talk = [Message(1, "user", "## Assistant\n\\## User\n## Other\n ## User")]
    assert to_markdown(talk) == "## User\n\n\\## Assistant\n\\\\## User\n## Other\n ## User\n"
    assert from_markdown(to_markdown(talk)) == talk


@given(talks)
@example([Message(0, "user", text) for text in HOSTILE])
def test_any_text_comes_back_as_it_was(talk: list[Message]) -> None:
    assert said(from_markdown(to_markdown(talk, "a title"))) == said(talk)
    assert said(from_json_lines(to_json_lines(talk))) == said(talk)


@pytest.mark.parametrize("name", ["t.jsonl", "t.md", "t.MD", "t.json", "t", "t.txt"])
def test_a_file_is_read_by_its_name_or_its_beginning(tmp_path: Path, name: str) -> None:
    for text in (to_json_lines(SAID), to_markdown(SAID, "ada")):
        fits = {"jsonl": "{", "markdown": "#"}.get(format_of(name) or "", text[0])
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        if text.startswith(fits):
            assert read_file(tmp_path / name) == SAID
        else:
            with pytest.raises(ConfigError, match="line 1: "):
                read_file(tmp_path / name)


def test_turns_and_numbers_are_counted_as_a_chat_does() -> None:
    order = ["system", "user", "assistant", "tool", "assistant", "user", "user", "system", "assistant", "user"]
    messages = from_json_lines("".join(json.dumps({"role": role, "content": "x"}) + "\n" for role in order))
    assert [m.turn for m in messages] == [0, 1, 1, 1, 1, 2, 3, 4, 5, 6]
    assert [m.id for m in messages] == list(range(1, 11))
    assert [m.turn for m in from_markdown("## Assistant\n\nHello.\n\n## User\n\nHi.\n")] == [1, 2]


# ---- what others write ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "model": "m"}',
        '{"messages": [{"role": "user", "content": "a"}]}\n\n{"messages": [{"role": "assistant", "content": "b"}]}\n',
        '[\n {"role": "user", "content": "a"},\n {"role": "assistant", "content": "b"}\n]',
        '{"messages": [\n{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        '{"role": "user", "content": [{"type": "text", "text": "a"}]}\r\n{"role": "assistant", "content": ["b"]}\r\n',
        '{"role": "user", "content": "a", "name": "x"}\n{"role": "assistant", "content": null, "tool_calls": []}\n'
        '{"role": "assistant", "content": {"type": "output_text", "text": "b"}}',
    ],
    ids=["one line", "a line a conversation", "a list", "over several lines", "parts", "a call of a tool"],
)
def test_json_of_other_programs(text: str) -> None:
    assert said(from_json_lines(text)) == [("user", "a"), ("assistant", "b")]


def test_other_names_of_roles_and_several_parts() -> None:
    text = '{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]}\n'
    assert said(from_json_lines(text + '{"role": "function", "content": "c"}')) == [("system", "a\nb"), ("tool", "c")]


def test_markdown_that_a_person_changed() -> None:
    changed = "\n# my talk\n## User\nHello.\n## Assistant\n\n\nHi.\n## User"
    assert said(from_markdown(changed)) == [("user", "Hello."), ("assistant", "\nHi."), ("user", "")]
    crlf = to_markdown(SAID, "ada").replace("\n", "\r\n")
    assert from_markdown(crlf) == SAID


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"role": "user", "content": "a"}\nhello', "line 2: it holds no message; write one"),
        ('{"role": "user", "content": "a"}\n{"content": "b"}', "line 2: it holds no message"),
        ('{"role": "user", "content": "a"}\n[["user", "b"]]', "line 2: it holds no message"),
        ('{"role": "robot", "content": "a"}', "line 1: no role 'robot'; it is one of system, user,"),
        ('{"role": ["user"], "content": "a"}', "line 1: no role"),
        ('{"role": "user", "content": 5}', "line 1: content that is no text"),
        ('{"role": "user", "content": [{"type": "text"}]}', "line 1: content that is no text"),
        ('{"role": "user", "content": [{"type": "image_url", "url": "x"}]}', "line 1: a part of type 'image_url'"),
        ('{"messages": {"role": "user"}}', "line 1: it holds no message"),
        ("[" * 100_000, "line 1: it holds no message"),
        ('{"role": "user", "content": ' + "9" * 5000 + "}", "line 1: "),
    ],
)
def test_what_is_no_message_is_named_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_json_lines(text)
    assert str(error.value).startswith(complaint) and "\n" not in str(error.value) and len(str(error.value)) < 200


def test_markdown_without_a_heading_of_ours_is_refused() -> None:
    with pytest.raises(ConfigError, match="line 3: a text before the first message; begin one with '## User'"):
        from_markdown("# ada\n\nHello.\n\n## User\n\nHi.\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"", "holds no message"),
        (b"# only a title\n", "holds no message"),
    ],
)
def test_a_file_that_holds_no_conversation_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "talk"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_file(file)
    assert str(file) in str(error.value) and reason in str(error.value)


@pytest.mark.parametrize("path", [".", "~nobody-here/x", "\0"])
def test_what_is_no_file_is_no_conversation(path: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_file(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason=f"{sys.platform} has no such device")
def test_a_device_without_an_end_is_not_read() -> None:
    with pytest.raises(ConfigError, match="it is no file"):
        read_file("/dev/zero")
