"""A standing preference, used later."""

import random

from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell

__all__ = ["Preference"]

_KINDS = (
    (
        "When I travel, I always sit by the {}.",
        "Please reserve a seat for me.",
        ("aisle", "door", "ladder", "exit", "stairs", "kitchen", "engine", "piano"),
    ),
    (
        "I always take my tea with {}.",
        "Make me a cup of tea, please.",
        ("honey", "lemon", "milk", "ginger", "mint", "cinnamon", "cardamom", "rum"),
    ),
    (
        "The only music I can stand is {}.",
        "Please put some music on.",
        ("jazz", "tango", "opera", "reggae", "blues", "folk", "techno", "fado"),
    ),
    (
        "I never drive, I always go everywhere by {}.",
        "How do I get to my aunt?",
        ("bus", "tram", "bike", "boat", "taxi", "ferry", "sledge", "zeppelin"),
    ),
    (
        "The colour I always wear is {}.",
        "Order some new clothes for me.",
        ("green", "white", "purple", "grey", "orange", "beige", "turquoise", "crimson"),
    ),
    (
        "In restaurants my usual choice is the {}.",
        "Call the restaurant and order something for me.",
        ("soup", "salad", "pizza", "steak", "curry", "pasta", "tofu", "paella"),
    ),
)


class Preference(FactTask):
    """What somebody always likes is recalled when it matters, not asked for."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        fact, user, options = r.choice(_KINDS)
        right, *wrong = r.sample(options, 4)
        return FactsAndQuestion(
            (tell(r, fact.format(right), [right]),), ask_back(r, user, fact, right, wrong), (right, *wrong)
        )
