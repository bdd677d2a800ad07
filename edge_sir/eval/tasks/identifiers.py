"""Code-like identifiers."""

import random
from collections.abc import Callable

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask, tell

__all__ = ["Identifiers"]

_WORDS = words("login,cache,parser,index,queue,upload,search,report,logger,router,worker,schema,cursor,socket")
_PARTS = words("max,retry,user,total,token,buffer,next,frame,batch,limit,offset,input")


def _snake(r: random.Random) -> str:
    return "_".join(r.sample(_PARTS, 3))


def _camel(r: random.Random) -> str:
    first, *rest = r.sample(_PARTS, 3)
    return first + "".join(map(str.title, rest))


_KINDS: tuple[tuple[Callable[[random.Random], str], str, str, str], ...] = (
    (
        lambda r: f"fix/{r.choice(_WORDS)}-{r.randint(10, 99)}",
        "My work is on the branch {}.",
        "Which branch is my work on?",
        "Your work is on the branch",
    ),
    (
        lambda r: f"{r.choice(('OPS', 'WEB', 'APP', 'SQL'))}-{r.randint(1000, 9999)}",
        "The bug has the ticket {}.",
        "Which ticket has the bug?",
        "The bug has the ticket",
    ),
    (
        _snake,
        "The variable that is wrong is called {}.",
        "Which variable is wrong?",
        "The variable that is wrong is called",
    ),
    (_camel, "The slow function is called {}.", "Which function is slow?", "The slow function is called"),
    (
        lambda r: f"{r.choice(_WORDS)}-{r.choice('abcdef')}{r.randint(1, 9)}",
        "The server that crashed is {}.",
        "Which server crashed?",
        "The server that crashed is",
    ),
    (
        lambda r: f"{r.randrange(16**6):06x}",
        "The last good commit is {}.",
        "Which is the last good commit?",
        "The last good commit is",
    ),
)


class Identifiers(FactTask):
    """A branch, a ticket, a variable, ... with a name that is no word."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        make, fact, user, stem = r.choice(_KINDS)
        names: list[str] = []
        while len(names) < 4:
            if (name := make(r)) not in names:
                names.append(name)
        right, *wrong = names
        return FactsAndQuestion(
            (tell(r, fact.format(right), [right]),), ask(r, user, stem, right, wrong), (right, *wrong)
        )
