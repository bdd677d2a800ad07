"""What goes from machine to machine: text, and from it the same values again."""

import pytest

from edge_sir import errors
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.errors import BudgetError, DamagedError, EdgeSirError
from edge_sir.memory.transcript import Message
from edge_sir.ray.wire import of_error, of_request, of_result, request_of, result_of
from edge_sir.text.reply import Drawn, Recalled, Reply, ToolCall

TEXT = 'line\nbreak\u2028 \ud800 \0 "東京"'


def test_a_request_comes_through() -> None:
    terms = {"temperature": 0.1 + 0.2, "stop": ("END", TEXT), "seed": 2**31, "template_args": {"effort": "low"}}
    request = BatchRequest(TEXT, (Message(0, "system", TEXT), Message(1, "user", "")), ("One", TEXT), terms)
    assert request_of(of_request(request)) == request
    assert request_of(of_request(BatchRequest("a", (), ("x",)))) == BatchRequest("a", (), ("x",))


def test_a_result_comes_through() -> None:
    calls, drawn = (ToolCall("a", TEXT, "{}"),), (Drawn(b"\xff\xe6", -0.1, ((b"\x00", -0.5),)), Drawn(b"", 0.0))
    replies = (
        Reply(1, TEXT, "Hm", "stop", 11, 5, 90, 7, 2, (Recalled(1, 4, TEXT), Recalled(2, 5, "x")), calls, drawn),
        Reply(2, "", "", "length", 1, 0, 3, 0),
    )
    result = BatchResult(TEXT, replies, {"budget": 256, "lost": {"3": 4}}, RequestError("server_error", TEXT))
    assert result_of(of_result(result)) == result
    assert result_of(of_result(BatchResult("a", ()))) == BatchResult("a", ())


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_raised_as_what_it_was(name: str) -> None:
    error = getattr(errors, name)("it broke; mend it")
    assert isinstance(error, EdgeSirError)
    with pytest.raises(type(error)) as raised:
        result_of(of_error(error))
    assert type(raised.value) is type(error) and str(raised.value) == "it broke; mend it"


def test_an_error_with_its_remedy_apart_keeps_its_words() -> None:
    with pytest.raises(DamagedError, match=r"^torn; mend it$"):
        result_of(of_error(DamagedError("torn", "mend it")))


def test_what_is_no_error_of_ours_is_no_name_that_is_looked_up() -> None:
    text = of_error(BudgetError("x")).replace("BudgetError", "SystemExit")
    with pytest.raises(RuntimeError, match=r"^x$"):
        result_of(text)
