"""A standing preference, used later."""

import random

from edge_sir.eval.tasks._fact import FactTask, Plot, ask, tell

_KINDS = (
    (
        "When I travel, I always sit by the {}.",
        "Please reserve a seat for me.",
        "Of course. When you travel, you always sit by the",
        ("aisle", "door", "ladder", "exit", "stairs", "kitchen", "engine", "piano"),
    ),
    (
        "I always take my tea with {}.",
        "Make me a cup of tea, please.",
        "Here it is. You always take your tea with",
        ("honey", "lemon", "milk", "ginger", "mint", "cinnamon", "cardamom", "rum"),
    ),
    (
        "The only music I can stand is {}.",
        "Please put some music on.",
        "With pleasure. The only music you can stand is",
        ("jazz", "tango", "opera", "reggae", "blues", "folk", "techno", "fado"),
    ),
    (
        "I never drive, I always go everywhere by {}.",
        "How do I get to my aunt?",
        "You never drive, you always go everywhere by",
        ("bus", "tram", "bike", "boat", "taxi", "ferry", "sledge", "zeppelin"),
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
