"""Names and relations."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell

__all__ = ["Names"]

_NAMES = words(
    "Anna,Tom,Mary,John,Peter,Lucy,Paul,Emma,George,Alice,Frank,Helen,Martin,Sarah,David,Laura,Greta,Oscar,Sven,Nina,"
    "Thorvald,Xiomara,Eudora,Balthazar,Ottilie,Zebedee,Saoirse,Ignatius,Calliope,Wolfgang"
)
_RELATIONS = words("sister,brother,boss,landlady,flatmate,cousin,daughter,son,dentist,teacher,doctor,best friend")

_FACTS = (
    ("", "My {relation} is called {{}}."),
    ("I sat next to {second} today. ", "My {relation} is called {{}}, did you know?"),
    ("It is not {second}: ", "my {relation} is called {{}}."),
    ("{second} is only a friend, and ", "my {relation} is called {{}}."),
)


class Names(FactTask):
    """What somebody's sister, boss, ... is called; often another name follows in the same sentence."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        right, second, *others = r.sample(_NAMES, 5)
        relation = r.choice(_RELATIONS)
        before, sentence = (part.format(relation=relation, second=second) for part in r.choice(_FACTS))
        wrong = [second if before else others[0], *others[1:]]
        fact = tell(r, before + sentence.format(right), [right])
        question = ask_back(r, f"What is my {relation} called?", sentence, right, wrong)
        return FactsAndQuestion((fact,), question, (right, *wrong))
