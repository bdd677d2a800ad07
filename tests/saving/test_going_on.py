"""What a chat goes on from: small cases of what the walks do at random."""

from pathlib import Path

from keeping import die, open_kept, picture, same_picture


def test_after_a_new_conversation_began_the_log_is_of_that_alone(tmp_path: Path) -> None:
    """It held the end of the old one's rows, which no ledger of the new one has: nothing could be done again."""
    chat = open_kept(tmp_path / "state")
    chat.reply("My name is Ada.", max_tokens=3)
    chat.clear()
    chat.reply("My name is Eve.", max_tokens=3)
    then = picture(chat)
    die(chat)
    with open_kept(tmp_path / "state") as other:
        assert other._saver.going_on.how == "replayed"  # type: ignore[union-attr]
        same_picture(picture(other), then)


def test_scores_that_an_earlier_policy_asked_for_are_still_computed_after_a_snapshot(tmp_path: Path) -> None:
    chat = open_kept(tmp_path / "state", policy="entropy")
    chat.reply("My name is Ada.", max_tokens=3)
    chat.set_policy("streaming")
    chat.close()
    with open_kept(tmp_path / "state") as other:
        assert other._saver.going_on.how == "exact"  # type: ignore[union-attr]
        other.reply("My name is Eve.", max_tokens=3)
        assert other.set_policy("entropy") == 0


def test_what_was_rebuilt_need_not_be_rebuilt_again(tmp_path: Path) -> None:
    chat = open_kept(tmp_path / "state")
    chat.reply("My name is Ada.", max_tokens=3)
    chat.close()
    for snapshot in (tmp_path / "state" / "snapshots").iterdir():
        snapshot.write_bytes(b"damaged")
    other = open_kept(tmp_path / "state")
    assert other._saver.going_on.how == "rebuilt"  # type: ignore[union-attr]
    then = picture(other)
    die(other)
    with open_kept(tmp_path / "state") as third:
        assert third._saver.going_on.how == "exact"  # type: ignore[union-attr]
        same_picture(picture(third), then)
