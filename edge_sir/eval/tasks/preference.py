"""A standing preference, used later."""

import random

from edge_sir.eval.tasks._fact import FactTask, Plot, ask, tell

_KINDS = (
    (
        "When I travel, I always sit by the {}.",
        "Please reserve a seat for me.",
        "Of course. When you travel, you always sit by the",
        ("window", "aisle", "door", "exit", "stairs", "kitchen", "engine", "piano"),
    ),
    (
        "I always take my tea with {}.",
        "Make me a cup of tea, please.",
        "Here it is. You always take your tea with",
        ("honey", "lemon", "milk", "ginger", "mint", "cinnamon", "cardamom", "rum"),
    ),
    (
        "Good music has to be {}, always.",
        "Please put some music on.",
        "With pleasure. Good music has to be",
        ("jazz", "tango", "opera", "reggae", "blues", "folk", "techno", "fado"),
    ),
    (
        "I never drive, I always travel by {}.",
        "How do I get to my aunt?",
        "Let me see. You always travel by",
        ("bus", "tram", "bike", "boat", "taxi", "plane", "sledge", "zeppelin"),
    ),
    (
        "The colour I always wear is {}.",
        "Order some new clothes for me.",
        "I will. The colour you always wear is",
        ("green", "white", "purple", "grey", "orange", "beige", "turquoise", "crimson"),
    ),
    (
        "In restaurants my usual choice is the {}.",
        "Call the restaurant and order something for me.",
        "Gladly. In restaurants your usual choice is the",
        ("soup", "salad", "pizza", "steak", "curry", "pasta", "tofu", "paella"),
    ),
)


class Preference(FactTask):
    """What somebody always likes is followed when it matters, not asked for."""

    def plot(self, r: random.Random) -> Plot:
        fact, user, stem, options = r.choice(_KINDS)
        right, *wrong = r.sample(options, 4)
        return Plot((tell(r, fact.format(right), [right]),), ask(r, user, stem, right, wrong), (right, *wrong))
