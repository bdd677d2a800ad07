"""Arguments of a script, with complaints as `edge-sir` makes them: in one line that names the remedy."""

import argparse
import sys
from typing import NoReturn

__all__ = ["OneLineParser"]


class OneLineParser(argparse.ArgumentParser):
    """Complaints in one line, without the usage text. prog: the script as it is called, "scripts/NAME"."""

    def error(self, message: str) -> NoReturn:
        name = self.prog.rpartition("/")[2]
        print(f"{name}: {message} (`{self.prog} --help` shows the options)", file=sys.stderr)
        raise SystemExit(2)
