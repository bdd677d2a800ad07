"""Word lists, written as one string."""

__all__ = ["words"]


def words(text: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(word.strip() for word in text.split(","))
