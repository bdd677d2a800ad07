"""Two routes for templates: what the cache holds before each reply is what the template renders of the whole."""

import pytest
from rendering import BOS, EOS, SYSTEM, MarkerTokenizer, replies_of, routes
from templates import FIRST_REPLY_DIFFERS, KINDS, MOVES_ITS_SYSTEM_PROMPT

from edge_sir.text.encoder import MessageEncoder
from edge_sir.text.template import ChatTemplate


def template_of(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos=BOS, eos=EOS)


@pytest.mark.parametrize("system", [False, True], ids=["no system prompt", "a system prompt"])
@pytest.mark.parametrize("kind", KINDS)
def test_message_by_message_the_cache_holds_what_the_template_renders(kind: str, system: bool) -> None:
    template = template_of(KINDS[kind])
    if system and template.differences:
        assert template.differences == ("it takes no system message; a system prompt begins the first user message",)
        return
    compared = list(routes(template, system=system))
    assert len(compared) == 3 * len(replies_of(template))
    for route in compared:
        assert route.cached == route.rendered, route.case


@pytest.mark.parametrize("kind", set(KINDS) - {"only roles that it knows"})
def test_a_template_that_agrees_has_no_differences(kind: str) -> None:
    assert template_of(KINDS[kind]).differences == ()


def test_a_system_prompt_that_moves_is_a_difference_that_is_named() -> None:
    template = template_of(MOVES_ITS_SYSTEM_PROMPT)
    [difference] = template.differences
    assert "in the order user, assistant, user, assistant, system, user; here each message stays" in difference
    assert all(route.cached == route.rendered for route in routes(template, system=False))
    routed = [route.cached for route in routes(template, system=True)]
    assert all(cached.startswith(f"<|user|>{SYSTEM}\n\nHi there.") for cached in routed)


def test_a_passage_that_differs_is_named_once() -> None:
    differences = template_of(FIRST_REPLY_DIFFERS).differences
    assert differences[0] == (
        "before message 3 of user, assistant, user, assistant, user it writes '<|end|><|first|>\\n<|user|>\\n', "
        "and edge-sir '<|end|>\\n<|user|>\\n'"
    )
    assert len(differences) == 2 and "system, user" in differences[1]


@pytest.mark.parametrize(
    ("kind", "opening", "close", "thinking"),
    [
        ("a thought is opened", "<think>", "</think>", True),
        ("an empty thought is opened", "<think>", "</think>", False),
        ("history has a closing tag", "<think>", "</think>", True),
        ("an empty channel is opened", "<|channel>thought", "<channel|>", False),
        ("brackets", "[THINK]", "[/THINK]", False),
        (
            "channels",
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
            False,
        ),
        ("thought and text have markers", "<|START_THINKING|>", "<|END_THINKING|><|START_TEXT|>", True),
    ],
)
def test_how_thoughts_are_marked_is_read_off_the_template(kind: str, opening: str, close: str, thinking: bool) -> None:
    template = template_of(KINDS[kind])
    form = MessageEncoder(MarkerTokenizer(template), template, None).reply_form
    assert (form.tags.open, form.tags.close, form.thinking) == (opening, close, thinking)
