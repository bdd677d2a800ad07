"""Breaks lines between words while a reply streams."""

import shutil

from prompt_toolkit.utils import get_cwidth

__all__ = ["Wrapped"]


class Wrapped:
    """Text in bits, out again in bits that end between words; the terminal's width is asked for each word."""

    def __init__(self) -> None:
        self._column = 0
        self._word = ""

    def push(self, text: str) -> str:
        """What can be shown now; the beginning of a word waits for its end."""
        out = []
        for c in text:
            if c == "\n":
                out += [self.rest(), c]
                self._column = 0
            elif c.isspace():
                out.append(self.rest())
                if self._column < _width():  # a blank at the end of a line would open the next
                    out.append(c)
                    self._column += 1
            elif get_cwidth(c) == 2:  # scripts without blanks break anywhere
                out.append(self.rest())
                self._word = c
            else:
                self._word += c
                if len(self._word) > _width():
                    out.append(self.rest())
        return "".join(out)

    def rest(self) -> str:
        """The word that waits."""
        word, self._word = self._word, ""
        n = get_cwidth(word)
        if self._column and self._column + n > _width():
            self._column = n
            return "\n" + word
        self._column += n
        return word


def _width() -> int:
    return max(20, shutil.get_terminal_size().columns)
