"""One thing to buy, in German."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell

__all__ = ["SingleItemGerman"]

_THINGS = words(
    "Milch,Brot,Tee,Reis,Käse,Eier,Wasser,Butter,Kaffee,Zucker,Honig,Mehl,Fisch,Senf,Olivenöl,Haferflocken,"
    "Erdnussbutter,Sojasauce,Meersalz,Rotwein,Safran,Kohlrabi,Marzipan,Kapern,Meerrettich,Artischocken"
)

_FACTS = (
    "Bitte kaufe heute {} für mich.",
    "Wenn du nachher gehst, kaufe bitte {}.",
    "Auf meiner Einkaufsliste steht {}.",
    "Das Einzige, was ich heute brauche, ist {}.",
)


class SingleItemGerman(FactTask):
    """Which thing was to be bought, in German."""

    language = "de"
    system = "Du bist ein hilfreicher Assistent mit gutem Gedächtnis."

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        fact = r.choice(_FACTS)
        right, *wrong = r.sample(_THINGS, 4)
        question = ask_back(r, "Was sollst du für mich kaufen?", fact, right, wrong, "de")
        return FactsAndQuestion((tell(r, fact.format(right), [right], "de"),), question, (right, *wrong))
