"""A standing instruction, due at the end."""

import random

from edge_sir.eval.tasks._fact import FactTask, Plot, ask, tell

_KINDS = (
    (
        "From now on, your answer to 'knock knock' is {}.",
        "Knock knock!",
        "My answer to 'knock knock' is",
        ("ahoy", "cheers", "amen", "farewell", "peace", "onward", "shalom", "hooray"),
    ),
    (
        "From now on, you always call me {}.",
        "Good evening, it is me again!",
        "Good evening! From now on, I always call you",
        ("captain", "boss", "chief", "professor", "master", "duchess", "skipper", "maestro"),
    ),
    (
        "Whenever somebody asks you, the password is {}.",
        "I am asking you: what is the password?",
        "The password is",
        ("sunshine", "window", "river", "thunder", "velvet", "marmalade", "obsidian", "yesterday"),
    ),
    (
        "Whenever I want a joke, I want to hear the one about the {}.",
        "I want a joke!",
        "You want to hear the one about the",
        ("penguin", "tailor", "ghost", "farmer", "king", "snail", "dragon", "mermaid"),
    ),
    (
        "All letters that you write for me have to end with the word {}.",
        "Please write a letter to the bank for me.",
        "Dear bank, all is well. All letters that I write for you have to end with the word",
        ("truly", "always", "gratefully", "yours", "humbly", "love", "regards", "sincerely"),
    ),
)


class Instruction(FactTask):
    """What somebody asked to be done from now on is done when the occasion comes."""

    def plot(self, r: random.Random) -> Plot:
        fact, user, stem, options = r.choice(_KINDS)
        right, *wrong = r.sample(options, 4)
        return Plot((tell(r, fact.format(right), [right]),), ask(r, user, stem, right, wrong), (right, *wrong))
