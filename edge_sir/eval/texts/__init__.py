"""What the dialogues are made of, as text: edited without touching code, though every change is another dialogue."""

from pathlib import Path

__all__ = ["read"]


def read(name: str) -> str:
    """A file of this folder."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
