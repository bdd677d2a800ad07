"""Names and relations."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactTask, Plot, ask, tell

_NAMES = words(
    "Anna,Tom,Mary,John,Peter,Lucy,Paul,Emma,George,Alice,Frank,Helen,Martin,Sarah,David,Laura,Greta,Oscar,Sven,Nina,"
    "Thorvald,Xiomara,Eudora,Balthazar,Ottilie,Zebedee,Saoirse,Ignatius,Calliope,Wolfgang"
)
_RELATIONS = words("sister,brother,boss,landlady,flatmate,cousin,daughter,son,dentist,teacher,doctor,best friend")

_FACTS = (
    "My {relation} is called {name}.",
    "I sat next to {second} today. My {relation} is called {name}, did you know?",
    "It is not {second}: my {relation} is called {name}.",
    "{second} is only a friend, and my {relation} is called {name}.",
)


class Names(FactTask):
    """What somebody's sister, boss, ... is called; often another name is told in the same breath."""

    def plot(self, r: random.Random) -> Plot:
        right, second, *others = r.sample(_NAMES, 5)
        relation = r.choice(_RELATIONS)
        fact = r.choice(_FACTS).format(relation=relation, name=right, second=second)
        wrong = [second if second in fact else others[0], *others[1:]]
        question = ask(r, f"What is my {relation} called?", f"Your {relation} is called", right, wrong)
        return Plot((tell(r, fact, [right]),), question, (right, *wrong))
