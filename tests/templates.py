"""Small chat templates of every kind that is met, made for these tests."""

_LOOP = "{% for m in messages %}"
_OTHERS = "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n"


def _with_reply(history: str, generation: str, *, reasoning: str = "") -> str:
    """Messages between role markers and `<|end|>`; `history` and `generation` open a reply."""
    return (
        f"{_LOOP}{{% if m.role == 'assistant' %}}{history}{reasoning}{{{{ m.content }}}}<|end|>\n"
        f"{{% else %}}{_OTHERS}{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}{generation}{{% endif %}}"
    )


OPEN = "<|assistant|>\n"
KINDS: dict[str, str] = {
    "the same in history": _with_reply(OPEN, OPEN),
    "a thought is opened": _with_reply(OPEN, OPEN + "<think>\n"),
    "an empty thought is opened": _with_reply(OPEN, OPEN + "<think>\n\n</think>\n\n"),
    "history has an empty thought": _with_reply(OPEN + "<think></think>\n", OPEN),
    "an empty thought in both": _with_reply(OPEN + "<think></think>", OPEN + "<think>\n"),
    "history has a closing tag": _with_reply(OPEN + "</think>", OPEN + "<think>"),
    "an empty channel is opened": _with_reply("<|turn>model\n", "<|turn>model\n<|channel>thought\n<channel|>"),
    "brackets": _with_reply("", "", reasoning="{% if m.thinking %}[THINK]{{ m.thinking }}[/THINK]{% endif %}"),
    "channels": (
        _LOOP + "{% if m.role == 'assistant' %}{% if m.thinking and loop.last %}<|start|>assistant<|channel|>analysis"
        "<|message|>{{ m.thinking }}<|end|>{% endif %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
        "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
        "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    ),
    "recipients": _with_reply(
        "<|start|>assistant to=user<|message|>",
        "<|start|>assistant",
        reasoning="{% if m.reasoning %}{{ 1 / 0 }}{% endif %}",
    ),
    "thought and text have markers": _with_reply(
        "<|bot|>{% if m.reasoning_content %}<|START_THINKING|>{{ m.reasoning_content }}<|END_THINKING|>{% endif %}"
        "<|START_TEXT|>",
        "<|bot|><|START_THINKING|>",
    ),
    "history has a blank": _with_reply("Assistant: ", "Assistant:"),
    "the opening ends in a blank": _with_reply("Assistant: ", "Assistant: "),
    "history has a word": _with_reply(OPEN + ">>>all\n", OPEN + ">>>"),
    "steps are announced": _with_reply(OPEN, OPEN + "Here are my steps:\n"),
    "rules before a reply": _with_reply(OPEN, "<|system|>\nAnswer in one line.<|end|>\n" + OPEN),
    "a reply is always opened": _with_reply(OPEN, OPEN).replace("{% if add_generation_prompt %}", "{% if true %}"),
    "the end is marked": _with_reply(OPEN, OPEN) + "{% if not add_generation_prompt %}<|over|>{% endif %}",
    "the last reply has no end": _with_reply(OPEN, OPEN).replace(
        "{{ m.content }}<|end|>\n{% else %}",
        "{{ m.content }}{% if add_generation_prompt or not loop.last %}<|end|>\n{% endif %}{% else %}",
    ),
    "a name is not defined": "{{ '<|tools|>' + functions + date_of_today }}" + _with_reply(OPEN, OPEN),
    "marked for training": _with_reply(OPEN, OPEN).replace(
        "{{ m.content }}<|end|>\n{% else %}", "{% generation %}{{ m.content }}<|end|>\n{% endgeneration %}{% else %}"
    ),
    "content in parts": _with_reply(OPEN, OPEN).replace(
        "{{ m.content }}",
        "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}",
    ),
    "blanks are taken off": _with_reply(OPEN, OPEN).replace("m.content", "m.content | trim"),
    "only roles that it knows": _with_reply(OPEN, OPEN).replace(
        _OTHERS, "{% if m.role != 'user' %}{{ raise_exception('no') }}{% endif %}" + _OTHERS
    ),
    "no tools is not None": _with_reply(OPEN, OPEN)
    + "{% if tools is defined %}{% for t in tools %}{% endfor %}{% endif %}",
}
"""Each holds the whole conversation as a real template of its kind does."""

MOVES_ITS_SYSTEM_PROMPT = (
    "{% set s = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
    "{% for m in (messages[1:] if s else messages) %}{% if m.role == 'user' %}"
    "<|user|>{{ s if loop.last }}{{ m.content }}<|end|>{% else %}<|assistant|>{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FIRST_REPLY_DIFFERS = (
    _LOOP + "<|{{ m.role }}|>\n{{ m.content }}<|end|>{{ '<|first|>' if loop.index0 == 1 }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
