"""Chat templates of all families, taken apart: the parts put together are what the template renders."""

from collections.abc import Mapping, Sequence

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_sir.errors import TemplateError
from edge_sir.testing import ByteTokenizer
from edge_sir.text.template import ChatTemplate

BOS, EOS = "<BOS>", "<EOS>"

# Small templates in the style of each family; made for these tests.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_DEFAULT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}" + CHATML
)  # as in Qwen2.5 and SmolLM2
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set sys = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set sys = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + (sys if loop.first else '') + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA2_DEFAULT = LLAMA2.replace("{% set sys = '' %}", "{% set sys = '<<SYS>>\nYou help.\n<</SYS>>\n\n' %}")
MISTRAL = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set sys = messages[0].content + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set sys = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}[INST] {{ sys if loop.first else '' }}{{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% for m in messages %}{{ bos_token if loop.first }}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}\n{% if m.role == 'user' %}\n{{ '<|user|>\n' + m.content + eos_token }}\n"
    "{% elif m.role == 'system' %}\n{{ '<|system|>\n' + m.content + eos_token }}\n"
    "{% elif m.role == 'assistant' %}\n{{ '<|assistant|>\n' + m.content + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<|User|>{{ m.content }}"
    "{% else %}<|Assistant|>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
THINKING = CHATML.replace(
    "{{ m.content }}",
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}",
).replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")  # as in Qwen3
STRIPPING = LLAMA3.replace("{{ m.content }}", "{{ m['content'] | trim }}")
TOOLS = CHATML.replace("{{ m.role }}", "{{ 'ipython' if m.role == 'tool' else m.role }}")
PLAIN = (
    "{% for m in messages %}{{ m.role | title }}: {{ m.content }}{{ '\n' if not loop.last }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n' }}Assistant: {% endif %}"
)
ENDED = (
    "{% for m in messages %}{{ m.role | title }}: {{ m.content }}"
    "{{ eos_token if m.role == 'assistant' or (loop.last and not add_generation_prompt) else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)

FAMILIES = {
    "chatml": CHATML,
    "chatml with a default system prompt": CHATML_DEFAULT,
    "llama-2": LLAMA2,
    "llama-2 with a default system prompt": LLAMA2_DEFAULT,
    "mistral": MISTRAL,
    "llama-3": LLAMA3,
    "gemma": GEMMA,
    "zephyr": ZEPHYR,
    "deepseek": DEEPSEEK,
    "thinking": THINKING,
    "stripping": STRIPPING,
    "plain lines": PLAIN,
    "ended where it stops": ENDED,
    "of the toy": ByteTokenizer.CHAT_TEMPLATE,
}
HISTORIES = [
    (family, n, system)
    for family in FAMILIES
    for n in (1, 2, 3, 5, 6)
    for system in (False, True)
    # Gemma knows no system role, and some histories end unlike they go on.
    if not (system and family == "gemma")
    and not (n % 2 == 0 and family == "thinking")
    and not (n % 2 == 1 and family.startswith("ended"))
]
Message = Mapping[str, str]


def render(source: str, messages: Sequence[Message], *, generate: bool = False) -> str:
    """The whole history, by Jinja alone."""

    def refuse(message: str) -> None:
        raise AssertionError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(
        messages=messages, add_generation_prompt=generate, bos_token=BOS, eos_token=EOS, raise_exception=refuse
    )


def assemble(template: ChatTemplate, messages: Sequence[Message], *, generate: bool = False) -> str:
    """The whole history, message by message, as `Chat` feeds it."""
    system = messages[0]["role"] == "system"
    text = "" if system else template.preamble  # a system prompt takes its place
    for i, message in enumerate(messages):
        markers = template.markers(message["role"], first=i == 0, after_system=system and i == 1)
        text += markers.open + message["content"] + markers.close
    return text + (template.generation if generate else "")


def dialogue(n: int, *, system: bool) -> list[Message]:
    """`n` messages by turns, the user first, after a system prompt if wanted."""
    contents = ["Hi there.", "Hello!\n\nHow are you?", "Fine: {{ 1 }} [INST] é", "Good."]
    roles = ["user", "assistant"]
    messages = [{"role": roles[i % 2], "content": contents[i % 4]} for i in range(n)]
    return [{"role": "system", "content": "Be brief."}, *messages] if system else messages


@pytest.mark.parametrize(("family", "n", "system"), HISTORIES)
def test_the_parts_make_up_the_history(family: str, n: int, system: bool) -> None:
    messages = dialogue(n, system=system)
    template = ChatTemplate(FAMILIES[family], bos=BOS, eos=EOS)
    assert assemble(template, messages) == render(FAMILIES[family], messages)


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_generation_prompt_follows_the_history(family: str, n: int) -> None:
    messages = dialogue(n, system=False)
    template = ChatTemplate(FAMILIES[family], bos=BOS, eos=EOS)
    assert assemble(template, messages, generate=True) == render(FAMILIES[family], messages, generate=True)


PARTS: list[tuple[str, str, str]] = [
    ("chatml", "", "<|im_start|>assistant\n"),
    ("chatml with a default system prompt", "<|im_start|>system\nYou help.<|im_end|>\n", "<|im_start|>assistant\n"),
    ("llama-3", BOS, "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    ("gemma", BOS, "<start_of_turn>model\n"),
    ("zephyr", "", "<|assistant|>\n"),
    ("deepseek", BOS, "<|Assistant|><think>\n"),
    ("thinking", "", "<|im_start|>assistant\n<think>\n"),
]


@pytest.mark.parametrize(("family", "preamble", "generation"), PARTS)
def test_what_stands_around_a_conversation(family: str, preamble: str, generation: str) -> None:
    template = ChatTemplate(FAMILIES[family], bos=BOS, eos=EOS)
    assert (template.preamble, template.generation) == (preamble, generation)


def test_the_default_system_prompt_is_no_part_of_the_first_message() -> None:
    """Or it would be forgotten with it, instead of being pinned."""
    template = ChatTemplate(LLAMA2_DEFAULT, bos=BOS, eos=EOS)
    assert "You help." in template.preamble
    assert "You help." not in template.markers("user", first=True).open


@pytest.mark.parametrize("first", [False, True])
def test_markers_belong_to_their_message(first: bool) -> None:
    markers = ChatTemplate(CHATML_DEFAULT).markers("user", first=first)
    assert (markers.open, markers.close) == ("<|im_start|>user\n", "<|im_end|>\n")


def test_without_a_system_role_the_prompt_begins_the_first_user_message() -> None:
    messages = dialogue(3, system=True)
    merged = [{"role": "user", "content": "Be brief.\n\n" + messages[1]["content"]}, *messages[2:]]
    assert assemble(ChatTemplate(GEMMA, bos=BOS, eos=EOS), messages) == render(GEMMA, merged)


@pytest.mark.parametrize("family", ["chatml", "llama-3", "zephyr", "plain lines"])
def test_a_system_message_in_mid_conversation_has_its_own_markers(family: str) -> None:
    messages = [*dialogue(2, system=True), {"role": "system", "content": "Be kind."}, *dialogue(1, system=False)]
    template = ChatTemplate(FAMILIES[family], bos=BOS, eos=EOS)
    assert assemble(template, messages) == render(FAMILIES[family], messages)


@pytest.mark.parametrize("family", ["gemma", "mistral"])
def test_a_system_message_where_the_template_knows_none_is_written_like_a_users(family: str) -> None:
    template = ChatTemplate(FAMILIES[family], bos=BOS, eos=EOS)
    assert template.markers("system") == template.markers("user")


@pytest.mark.parametrize(
    ("source", "opening"),
    [(TOOLS, "<|im_start|>ipython\n"), (MISTRAL, "[INST] "), (GEMMA, "<start_of_turn>user\n"), (ZEPHYR, "<|user|>\n")],
    ids=["its own role", "raises", "alternates", "drops it"],
)
def test_a_tool_speaks_in_its_role_or_as_a_user(source: str, opening: str) -> None:
    assert ChatTemplate(source, bos=BOS, eos=EOS).markers("tool").open == opening


def test_templates_get_what_their_authors_test_with() -> None:
    extras = (
        "{{ strftime_now('%Y') | length }}{{ {'a': '<é>'} | tojson }}"
        "{% for i in [1, 2] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    )
    assert ChatTemplate(extras + CHATML).preamble == '4{"a": "<é>"}1'


def test_a_template_that_writes_the_time_is_not_taken_for_one_that_rewrites() -> None:
    template = ChatTemplate("{{ strftime_now('%H:%M:%S.%f') }}" + CHATML)
    assert len(template.preamble) == len("12:34:56.123456") and not template.differences


def test_json_takes_the_arguments_of_transformers() -> None:
    source = "{{ {'b': 'é', 'a': [1]} | tojson(ensure_ascii=True, sort_keys=True, separators=(',', ':')) }}"
    assert ChatTemplate(source + "{{ 'é' | tojson(ensure_ascii=False) }}" + CHATML).preamble == (
        '{"a":[1],"b":"\\u00e9"}"é"'
    )


def test_what_the_sandbox_hides_renders_as_nothing() -> None:
    assert ChatTemplate("{{ '{0.__globals__}'.format(raise_exception) }}" + CHATML).preamble == ""


LOOP = "{% for m in messages %}"
REFUSED: dict[str, tuple[str, str]] = {
    "drops the assistant": (LOOP + "{% if m.role == 'user' %}U{{ m.content }}{% endif %}{% endfor %}", "drops"),
    "drops everything": ("hello", "drops"),
    "keeps only the last": ("{{ messages[-1].content }}", "drops"),
    "repeats": (LOOP + "{{ m.content }}{{ m.content }}{% endfor %}", "drops or repeats"),
    "reverses": ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", "drops or repeats"),
    "numbers its messages": (LOOP + "{{ messages | length }}{{ m.role }}{{ m.content }};{% endfor %}", "rewrites"),
    "does not compile": ("{% for m in messages %}\n{{ m.content", "does not compile"),
    "unknown filter": (LOOP + "{{ m.content | shout }}{% endfor %}", "does not compile"),
    "raises": ("{{ raise_exception('always\nno') }}", "fails: always no"),
    "divides by zero": ("{{ 1 / (messages | length - messages | length) }}", "fails"),
    "calls what is not there": ("{{ nothing.at.all() }}", "fails"),
    "needs a parent": ("{% include 'other' %}", "fails"),
    "climbs out by a class": ("{{ ''.__class__.__mro__[1].__subclasses__() }}" + CHATML, "unsafe"),
    "climbs out by a method": ("{{ messages.append.__globals__ }}{{ cycler.__init__.__globals__.os }}", "fails"),
    "changes what it was given": ("{% set _ = messages.append({}) %}" + CHATML, "fails"),
    "nests too deep": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "does not compile"),
}


@pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED)
def test_a_template_that_cannot_be_used_is_refused_in_one_line(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message) as error:
        ChatTemplate(source)
    assert "\n" not in str(error.value)


# ---- arguments ---------------------------------------------------------------------------------

ASKS = (
    CHATML.replace(
        "assistant\n{% endif %}",
        "assistant\n{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}{% endif %}",
    )
    + "{% if effort is defined and tools %}{{ namespace(n=1).n }}{% endif %}"
)


def test_arguments_are_in_force_in_a_template_of_their_own() -> None:
    template = ChatTemplate(ASKS)
    thinks = template.with_arguments({"enable_thinking": True})
    assert template.generation.endswith("<think>\n\n</think>\n\n") and thinks.generation.endswith(
        "assistant\n<think>\n"
    )
    assert thinks.with_arguments({"effort": "low"}).arguments == {"enable_thinking": True, "effort": "low"}
    assert template.with_arguments({}) is template
    assert template.asks_for == {"enable_thinking", "effort"}


@pytest.mark.parametrize("name", ["self", "args", "kwargs", "context"])
def test_an_argument_of_any_name_is_given_to_the_template(name: str) -> None:
    assert ChatTemplate(CHATML, arguments={name: "x"}).arguments == {name: "x"}
