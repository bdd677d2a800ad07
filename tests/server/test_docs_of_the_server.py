"""The page of fields is the table in code."""

import re
from pathlib import Path

import pytest

from edge_sir.server.contract import CHAT, COMPLETIONS, RESPONSES, Contract

PAGE = Path(__file__).resolve().parents[2] / "docs" / "server-requests.md"


@pytest.mark.parametrize(
    ("path", "contract"),
    [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETIONS), ("/v1/responses", RESPONSES)],
)
def test_the_page_says_of_each_field_what_the_table_does(path: str, contract: Contract) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"## `{path}`\n")[2].partition("\n## ")[0]
    shown = {}
    for fields, what in re.findall(r"^\| (`.*?`) \| (.*) \|$", section, re.MULTILINE):
        shown |= {name: re.split(r"\W", what)[0] for name in re.findall(r"`(\w+)`", fields)}
    assert shown == {name: rule.kind for name, rule in contract.items()}
