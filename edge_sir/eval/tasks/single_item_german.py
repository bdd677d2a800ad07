"""One thing to buy, in German."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactTask, Plot, ask, tell

_THINGS = words(
    "Milch,Brot,Tee,Reis,Käse,Eier,Wasser,Butter,Kaffee,Zucker,Honig,Mehl,Fisch,Senf,Olivenöl,Haferflocken,"
    "Erdnussbutter,Sojasauce,Meersalz,Rotwein,Safran,Kohlrabi,Marzipan,Kapern,Meerrettich,Artischocken"
)

_FACTS = (
    ("Bitte kaufe heute {} für mich.", "Du hast gesagt: Bitte kaufe heute", " für mich."),
    ("Wenn du nachher gehst, kaufe bitte {}.", "Wenn ich nachher gehe, kaufe ich bitte", "."),
    ("Auf meiner Einkaufsliste steht {}.", "Auf deiner Einkaufsliste steht", "."),
    ("Das Einzige, was ich heute brauche, ist {}.", "Das Einzige, was du heute brauchst, ist", "."),
)


class SingleItemGerman(FactTask):
    """Which thing was to be bought, in German."""

    language = "de"
    system = "Du bist ein hilfreicher Assistent mit gutem Gedächtnis."

    def plot(self, r: random.Random) -> Plot:
        fact, stem, close = r.choice(_FACTS)
        right, *wrong = r.sample(_THINGS, 4)
        question = ask(r, "Was sollst du für mich kaufen?", stem, right, wrong, close=close)
        return Plot((tell(r, fact.format(right), [right], "de"),), question, (right, *wrong))
