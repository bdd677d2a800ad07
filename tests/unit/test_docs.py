"""The pages are true: their examples run, their commands parse, their links lead somewhere."""

import importlib
import re
import shlex
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_model import toy_contexts

import edge_sir
from edge_sir import errors, policies
from edge_sir.cli._flags import from_args
from edge_sir.eval import task as tasks
from edge_sir.eval.play.arms import arms_of
from edge_sir.eval.play.evaluate import Request, evaluate
from edge_sir.eval.report import drawing

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN_ELSEWHERE = {"clients.md": "tests/clients/test_page.py", "own-dialogues.md": "tests/eval/test_file_task.py"}
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
A_FILE = re.compile(r"# edge_sir/(policies|eval/tasks)/(\w+)\.py\n")
"""The first line of a block that is a file of its own, not a piece of a program."""

each_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


@pytest.fixture
def make_docs(import_script: Callable[[str], types.ModuleType]) -> types.ModuleType:
    return import_script("make_docs")


# ---- examples ------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The files that the pages show, where policies and tasks are looked for."""
    from edge_sir.eval import tasks as task_files

    packages: dict[str, types.ModuleType] = {"policies": policies, "eval/tasks": task_files}
    for folder, package in packages.items():
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / folder)])
    names = []
    for block in (block for page in PAGES for block in blocks(page, "python")):
        if found := A_FILE.match(block):
            (tmp_path / found[1] / f"{found[2]}.py").write_text(block, encoding="utf-8")
            names.append((packages[found[1]], found[2]))
    importlib.invalidate_caches()
    yield
    for package, name in names:
        sys.modules.pop(f"{package.__name__}.{name}", None)
        vars(package).pop(name, None)


def run_examples(page: Path, *, with_model: bool) -> int:
    """Runs the page's programs, one after the other as one; those that load a model, or the others.

    Those of Ray are run where its tests are, and those of clients where there is a server.
    """
    program: dict[str, Any] = {"__name__": "example"}
    n = 0
    for block in blocks(page, "python") if page.name not in RUN_ELSEWHERE else ():
        if "import ray\n" in block:
            continue
        if not A_FILE.match(block) and ("edge_sir.load(" in block or "open_chat(" in block) == with_model:
            exec(compile(block, page.name, "exec"), program)
            n += 1
    return n


@each_page
def test_examples_run(page: Path, written: None) -> None:
    run_examples(page, with_model=False)


@pytest.mark.model
def test_examples_with_a_model_run(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    real = edge_sir.load

    def load_briefly(**options: Any) -> edge_sir.Model:
        return real(smollm2_path, **(options | {"max_tokens": 8, "threads": 1}))

    monkeypatch.setattr(edge_sir, "load", load_briefly)
    assert sum(run_examples(page, with_model=True) for page in PAGES) == 4
    assert "ChatStats(" in capsys.readouterr().out


def test_the_policy_of_the_page_is_found_by_its_name(written: None) -> None:
    assert "user-first" in policies.names()
    policy = policies.from_spec("user-first:bonus=6,decay=0.98")
    assert policy.spec == "user-first:decay=0.98,bonus=6.0"


def test_the_task_of_the_page_is_played_and_its_fact_followed(written: None) -> None:
    assert tasks.task("colour").summary() == "Remembers the favourite colour."
    arms = arms_of(["keep-all", "keep-gold", "drop-gold", "user-first"], [512])
    rows = evaluate(toy_contexts(1 << 15), arms, Request("colour", n=2)).rows
    resident = {arm.spec: [row.gold_resident for row in rows if row.policy == arm.spec] for arm in arms}
    assert len(rows) == 2 * len(arms)
    assert resident["keep-all"] == resident["keep-gold"] == [1, 1] and resident["drop-gold"] == [0, 0]
    setup = tasks.Setup(count_tokens=len, lead=0)
    first = tasks.task("colour").dialogue(setup, 5)
    assert isinstance(first.steps[0], tasks.Say) and first.steps[0].fact == "colour"
    asked = [dialogue.steps[-1] for dialogue in tasks.task("colour").dialogues(setup, 20, 0)]
    assert {step.gold for step in asked if isinstance(step, tasks.Ask)} == {0, 1, 2, 3}


def test_the_task_of_the_docstring_is_the_one_of_the_page() -> None:
    (block,) = (b for b in blocks(ROOT / "docs" / "writing-a-policy.md", "python") if b.startswith("# edge_sir/eval"))
    indented = textwrap.indent(block.replace('"""', "'''"), "    ")
    assert indented in (tasks.__doc__ or "")


def test_every_policy_has_a_colour_of_its_own() -> None:
    colours = {name: drawing.look(name) for name in policies.names()}
    assert (
        len({colour for colour, _ in colours.values()}) == len({mark for _, mark in colours.values()}) == len(colours)
    )


# ---- commands ------------------------------------------------------------------------------------


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every call of the command line in a shell example, as (page, arguments)."""
    for page in PAGES:
        for line in "\n".join(blocks(page, "sh")).splitlines():
            words = shlex.split(line.rpartition(" | ")[2], comments=True)
            words = [w for w in words if not re.fullmatch(r"[A-Z_]+=.*", w)]
            words = [w for w in words if w != "--help"]  # it would end the parser
            if words and words[0].rpartition("/")[2] == "edge-sir":
                yield page.name, words[1:]
            elif words[:1] == ["scripts/chat"]:
                yield page.name, ["chat", *words[1:]]


def test_commands_in_examples_parse(
    written: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_docs: types.ModuleType
) -> None:
    monkeypatch.chdir(tmp_path)  # no edge-sir.toml of the checkout
    parser = make_docs.parser()
    lines = list(command_lines())
    assert len(lines) > 20
    for page, words in lines:
        try:
            args = parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"{page}: edge-sir {' '.join(words)}")
        if args.command in ("chat", "config"):
            from_args(args)
        for spec in args.policy if args.command in ("eval", "replay") and args.policy else []:
            arms_of([spec], [256])
        if args.command == "eval" and args.task not in ("list", "report", "all"):
            tasks.task(args.task)


def test_the_pages_that_are_made_are_current(make_docs: types.ModuleType) -> None:
    assert text_of(ROOT / "docs" / "commands.md") == make_docs.page(), "run scripts/make-docs"
    assert text_of(ROOT / "docs" / "api.md") == make_docs.api_docs.page(), "run scripts/make-docs"


def test_every_public_name_is_on_its_page(make_docs: types.ModuleType) -> None:
    text = text_of(ROOT / "docs" / "api.md")
    assert [name for name in edge_sir.__all__ if f"\n## {name}\n" not in text] == []
    assert "- `next_slice()`:" in text and "- `commit(result)`:" in text


# ---- what the pages say --------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"\n", " ", text_of(page))):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists() or there == ROOT / "docs" / "results", f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = text_of(ROOT / "docs" / "README.md")
    assert [page.name for page in PAGES[1:] if page.name != "README.md" and f"({page.name})" not in index] == []


@pytest.mark.parametrize("page", ["docs/chatting.md", "docs/method.md", "docs/choosing.md"])
def test_every_policy_is_told_of(page: str) -> None:
    missing = [name for name in policies.names() if f"`{name}`" not in text_of(ROOT / page)]
    assert missing == []


def test_messages_that_are_explained_exist() -> None:
    """Of a quoted message each part between the dots stands in the source or in a script."""
    files = [*(ROOT / "edge_sir").rglob("*.py"), *(p for p in (ROOT / "scripts").iterdir() if p.is_file())]
    source = " ".join(text_of(file) for file in files)
    rows = re.findall(r"^\| (`.+?) \| ", text_of(ROOT / "docs" / "troubleshooting.md"), re.MULTILINE)
    quoted = [part.strip() for row in rows for text in re.findall(r"`(.+?)`", row) for part in text.split("…")]
    unknown = [part for part in quoted if part and part not in source]
    assert len(quoted) > 20 and unknown == []


def test_exceptions_that_are_explained_exist() -> None:
    named = re.findall(r"`(\w+Error)`", text_of(ROOT / "docs" / "troubleshooting.md"))
    assert named and [name for name in named if name not in errors.__all__] == []
