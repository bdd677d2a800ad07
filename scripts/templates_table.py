"""Which chat templates a conversation follows to the letter: those of llama.cpp's source and of the gate's families.

Each template is taken apart, and a conversation of three turns is held on the toy engine: with and without a system
prompt, with and without thoughts in the template's own dialect. Before each reply the cache must hold what the
template renders of the whole history.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rendering import BOS, EOS, passage, routes
from tiny_families import FAMILIES

from edge_sir.errors import TemplateError
from edge_sir.llama.gguf.reader import read_header
from edge_sir.text.template import ChatTemplate

PAGE = Path(__file__).parents[1] / "docs" / "templates.md"
SOURCE = "llama-cpp-python"
HEAD = """# Chat templates

Made by `scripts/templates --write`; do not edit. Each template is compared by two routes: a conversation of three turns
put together message by message, as edge-sir holds it, and the template's own rendering of the whole history, before
each reply. With a system prompt and without, with a thought and without.

- *equal*: the same text, to the letter.
- *declared difference*: it runs, and the passage named is written otherwise. `edge-sir doctor MODEL` says so for a
  model's own template.
- *refused*: the template cannot be followed, for the reason given; `--chat-template FILE` gives another one.

A reply's opening may differ from what history has there, such as a thought's tag or a channel. When the turn ends it
takes the form of history: thoughts leave, what history keeps of them stays, and where history has something that the
model did not write, the answer is read once more behind it.
"""


@dataclass(frozen=True)
class Verdict:
    """What became of one template."""

    name: str
    kind: str
    notes: tuple[str, ...] = ()


def judge(name: str, source: str) -> Verdict:
    """Takes a template apart and compares the two routes."""
    try:
        template = ChatTemplate(source, bos=BOS, eos=EOS)
    except TemplateError as error:
        return Verdict(name, "refused", (str(error),))
    notes = list(template.differences)
    has_system = not any("system" in note for note in notes)
    for system in (False, True)[: 1 + has_system]:
        notes += [passage(route) for route in routes(template, system=system) if route.cached != route.rendered]
    return Verdict(name, "declared difference" if notes else "equal", tuple(notes[:3]))


def of_source(folder: Path) -> Iterator[Verdict]:
    """The verdicts on all templates in a folder."""
    for path in sorted(folder.rglob("*.jinja"), key=lambda path: path.stem.lower()):
        yield judge(path.stem, path.read_text(encoding="utf-8"))


def of_families() -> Iterator[Verdict]:
    """The verdicts on the templates of the families that the gate is tried on."""
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            yield judge(family.name, read_header(family.file(Path(folder))).chat_template or "")


def fetch(folder: Path) -> tuple[Path, str]:
    """llama.cpp's templates out of the source package, and which version that is."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", SOURCE, "--dest"]
    subprocess.run([*command, str(folder), f"{SOURCE}=={_version()}"], check=True)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        for member in source:
            if "/models/templates/" in member.name and member.name.endswith(".jinja"):
                content = source.extractfile(member)
                assert content is not None
                (folder / Path(member.name).name).write_bytes(content.read())
    return folder, _version()


def _version() -> str:
    return importlib.metadata.version("llama_cpp_python").partition("+")[0]


def table(title: str, verdicts: list[Verdict]) -> list[str]:
    """A heading, how many of each kind, and a row for each."""
    counts = [f"{sum(v.kind == kind for v in verdicts)} {kind}" for kind in ("equal", "declared difference", "refused")]
    rows = [f"| {v.name} | {v.kind} | {'<br>'.join(map(_cell, v.notes))} |" for v in verdicts]
    head = [
        f"## {title}",
        "",
        f"{len(verdicts)} templates: {', '.join(counts)}.",
        "",
        "| template | | |",
        "|---|---|---|",
    ]
    return [*head, *rows, ""]


def _cell(note: str) -> str:
    return note.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Prints the tables, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="where .jinja files are")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, version = (args.folder, _version()) if args.folder else fetch(Path(scratch))
        lines = [HEAD, *table(f"llama.cpp's own, as in {SOURCE} {version}", list(of_source(folder)))]
    lines += table("The families of the gate matrix", list(of_families()))
    text = "\n".join(lines)
    if args.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
