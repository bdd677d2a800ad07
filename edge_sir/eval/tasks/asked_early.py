"""A question that was asked before its answer was told.

A search for the question's words finds it itself, twice, with a reply that says nothing.
"""

import random

from edge_sir.eval._words import words
from edge_sir.eval.task import Say
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell

__all__ = ["AskedEarly"]

_KINDS = (
    (
        "The password for the internet is {}.",
        "What is the password for the internet?",
        "sunshine,window,thunder,velvet,marmalade,obsidian,feather,pencil",
    ),
    (
        "The key to the shed is in the {}.",
        "Where is the key to the shed?",
        "drawer,bucket,basket,teapot,flowerpot,cupboard,toolbox,chimney",
    ),
    (
        "My flight goes to {}.",
        "Where does my flight go?",
        "London,Oslo,Naples,Dublin,Prague,Madrid,Athens,Warsaw",
    ),
    (
        "The meeting is on {}.",
        "When is the meeting?",
        "Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday",
    ),
    (
        "My grandfather was called {}.",
        "What was my grandfather called?",
        "Albert,Walter,Oscar,Martin,Leopold,Cyril,Theodore,Rupert",
    ),
    (
        "The film tonight is about a {}.",
        "What is the film tonight about?",
        "pirate,detective,ghost,robot,princess,soldier,vampire,spy",
    ),
    (
        "The soup in the canteen is made of {}.",
        "What is the soup in the canteen made of?",
        "tomatoes,peas,spinach,broccoli,carrots,leeks,asparagus,cabbage",
    ),
    (
        "The front door will be painted {}.",
        "Which colour will the front door have?",
        "red,green,blue,yellow,purple,white,black,pink",
    ),
    (
        "The winner of the contest is {}.",
        "Who is the winner of the contest?",
        "Peter,Anna,Thomas,Maria,George,Emma,Robert,Alice",
    ),
    (
        "Our next lesson will be about {}.",
        "What will our next lesson be about?",
        "electricity,poetry,dinosaurs,vitamins,earthquakes,planets,democracy,pirates",
    ),
)
_NOT_YET = (
    "I do not know, you have not told me.",
    "You have not said that yet, so I cannot know.",
    "I am sorry, I have no idea. You did not mention it so far.",
    "That is something you have not told me yet.",
)


class AskedEarly(FactTask):
    """The question was asked twice before its answer was told; recall must not stop there.

    The exchanges of a lead stand before the first of these questions.
    """

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        fact, user, options = r.choice(_KINDS)
        right, *wrong = r.sample(words(options), 4)
        early = [Say(user, reply) for reply in r.sample(_NOT_YET, 2)]
        said = tell(r, fact.format(right), [right])
        return FactsAndQuestion((*early, said), ask_back(r, user, fact, right, wrong), (right, *wrong))
