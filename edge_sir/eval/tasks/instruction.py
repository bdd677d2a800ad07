"""A standing instruction, due at the end."""

import random

from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell

__all__ = ["Instruction"]

_KINDS = (
    (
        "From now on, your answer to 'knock knock' is {}.",
        "Knock knock!",
        ("ahoy", "cheers", "amen", "farewell", "peace", "onward", "shalom", "hooray"),
    ),
    (
        "From now on, you always call me {}.",
        "Good evening, it is me again!",
        ("captain", "boss", "chief", "professor", "master", "duchess", "skipper", "maestro"),
    ),
    (
        "Whenever somebody asks you, the password is {}.",
        "I am asking you: what is the password?",
        ("sunshine", "window", "river", "thunder", "velvet", "marmalade", "obsidian", "yesterday"),
    ),
    (
        "Whenever I want a joke, I want to hear the one about the {}.",
        "I want a joke!",
        ("penguin", "tailor", "ghost", "farmer", "king", "snail", "dragon", "mermaid"),
    ),
    (
        "All letters that you write for me have to end with the word {}.",
        "Please write a letter to the bank for me.",
        ("truly", "always", "gratefully", "yours", "humbly", "love", "regards", "sincerely"),
    ),
)


class Instruction(FactTask):
    """What somebody asked to be done from now on is recalled when the occasion comes."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        fact, user, options = r.choice(_KINDS)
        right, *wrong = r.sample(options, 4)
        return FactsAndQuestion(
            (tell(r, fact.format(right), [right]),), ask_back(r, user, fact, right, wrong), (right, *wrong)
        )
