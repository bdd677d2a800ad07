"""A turn as a step machine, whose reply may be given instead of drawn."""

import numpy as np
from chatting import CODEC, make_chat, said
from driving import agrees

from edge_sir.chat.turn import Terms, Turn, drive
from edge_sir.engine import SamplingParams
from edge_sir.session import Session
from edge_sir.text.encoder import GivenReply


def begin(session: Session, said: str) -> None:
    session.begin_turn()
    session.start_message()
    session.feed(CODEC.encode(said, special=False), "user")


def test_a_given_reply_is_asked_for_once_all_is_read_and_decoded_with_its_marker_at_once() -> None:
    session, close = make_chat().session, CODEC.encode("<|im_end|>", special=True)
    begin(session, "Who?")
    n_before, seen = session.n_born, []

    def given() -> np.ndarray:
        seen.append((session.n_pending, session.last_logits.shape))
        return CODEC.encode("Ada.", special=False)

    turn = Turn(session, CODEC, Terms(SamplingParams(), 0), GivenReply(close), 0, given=given)
    pieces = list(drive(turn, session.engine))
    assert seen == [(0, (session.engine.spec.n_vocab,))]
    assert "".join(piece.text for piece in pieces) == turn.reply.text == "Ada."
    assert (turn.reply.finish, turn.reply.n_generated, turn.reply.n_read) == ("stop", 0, 4 + 4 + 1)
    assert session.n_born == n_before + 9
    assert session.ledger["token"][-5:].tolist() == [*b"Ada.", close[0]]


def test_a_turn_that_gives_no_reply_ends_when_it_is_read() -> None:
    session, nothing = make_chat().session, np.empty(0, np.int32)
    begin(session, "Hello.")
    turn = Turn(session, CODEC, Terms(SamplingParams(), 0), GivenReply(nothing), 0, given=lambda: nothing)
    assert list(drive(turn, session.engine)) == []
    assert turn.phase == "done" and turn.reply.text == "" and turn.reply.n_read == 6
    assert session.ledger["token"][-6:].tolist() == [*b"Hello."]


def test_a_reply_cancelled_inside_what_might_become_a_tag_is_in_transcript_and_cells() -> None:
    chat = make_chat(["<thing>"])
    turn = chat.turn("Hi")
    while (piece := turn.next_slice()) is not None:
        turn.commit(chat.engine.decode([piece])[0])
        if said(chat, "assistant") == "<th":  # the next one is drawn
            turn.cancel()
    assert (turn.reply.text, turn.reply.finish) == ("<thi", "cancelled")
    assert [m.text for m in chat.transcript.of(1)] == ["Hi", said(chat, "assistant")]
    assert agrees(chat.session)
