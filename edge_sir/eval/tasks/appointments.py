"""Dates and appointments."""

import random

from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask, tell

__all__ = ["Appointments"]

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TIMES = ("noon", "nine", "half past four", "8:15", "eleven", "2:30", "ten to six", "7:40", "three", "quarter past one")
_MONTHS = ("January", "March", "April", "June", "July", "August", "September", "October", "December")
_DATES = tuple(map(str, range(2, 29)))

_FACTS = (
    "I see the {who} on {when}.",
    "My appointment with the {who} is on {when}.",
    "The {who} expects me on {when}.",
)
_WHO = ("dentist", "lawyer", "hairdresser", "bank manager", "eye doctor", "electrician", "tax adviser", "piano tuner")


class Appointments(FactTask):
    """When an appointment is: the day and the time, or the day and the month, both must be right."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        who = r.choice(_WHO)
        form, days, times = r.choice((("{} at {}", _DAYS, _TIMES), ("{} {}", _MONTHS, _DATES)))
        (a, b), (x, y) = r.sample(days, 2), r.sample(times, 2)
        right, *wrong = (form.format(p, q) for p, q in ((a, x), (a, y), (b, x), (b, y)))
        question = ask(r, f"When do I see the {who}?", f"You see the {who} on", right, wrong)
        fact = tell(r, r.choice(_FACTS).format(who=who, when=right), [right])
        return FactsAndQuestion((fact,), question, (a, b, x, y))
