"""Whole numbers between bounds, digit by digit, as a rule of a grammar."""

from edge_sir.errors import ConfigError

__all__ = ["integers_between"]

_MOST_DIGITS = 16


def integers_between(least: int | None, most: int | None) -> str:
    """What stands for the whole numbers from `least` to `most`, None for no bound. Raises ConfigError for none."""
    if least is not None and most is not None and least > most:
        raise ConfigError(f"no whole number is between {least} and {most}; change the bounds")
    limit = 10**_MOST_DIGITS - 1
    low, high = -limit if least is None else least, limit if most is None else most
    found = []
    if low < 0:
        found.append(f'"-" ({_naturals(max(1, -high), -low)})')
    if high >= 0:
        found.append(_naturals(max(0, low), high))
    return " | ".join(found)


def _naturals(low: int, high: int) -> str:
    """Of 0 <= low <= high."""
    found = []
    for n in range(len(str(low)), len(str(high)) + 1):
        first = low if n == len(str(low)) else 10 ** (n - 1)
        last = high if n == len(str(high)) else 10**n - 1
        found.append(_same_length(str(first), str(last)))
    return " | ".join(found)


def _same_length(low: str, high: str) -> str:
    """Of numbers with as many digits."""
    n = len(low)
    if low == "0" * n and high == "9" * n:
        return f"[0-9]{{{n}}}" if n else '""'
    if low[0] == high[0]:
        return f'"{low[0]}" ({_same_length(low[1:], high[1:])})' if n > 1 else f'"{low[0]}"'
    if n == 1:
        return f"[{low}-{high}]"
    found = []
    first, last = int(low[0]), int(high[0])
    if low[1:] != "0" * (n - 1):
        found.append(f'"{first}" ({_same_length(low[1:], "9" * (n - 1))})')
        first += 1
    if high[1:] != "9" * (n - 1):
        found.append(f'"{last}" ({_same_length("0" * (n - 1), high[1:])})')
        last -= 1
    if first <= last:
        found.append(f"[{first}-{last}] [0-9]{{{n - 1}}}")
    return " | ".join(found)
