"""What would end an evaluation half-way is refused before anything is played."""

from collections.abc import Iterable

from edge_sir.core.policy import Policy
from edge_sir.errors import BudgetError, ConfigError
from edge_sir.eval.play.controls import FewShot, Retrieval
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.eval.play.no_cache import few_shot_windows, question_sizes

__all__ = ["check"]


def check(
    dialogue: EncodedDialogue, arms: Iterable[tuple[Policy | FewShot | Retrieval, int]], n_ctx_train: int
) -> None:
    """Raises ConfigError or BudgetError where an arm, a policy at a budget, cannot play a dialogue to its end."""
    for policy, budget in arms:
        if isinstance(policy, FewShot):
            _check_few_shot(dialogue, policy, n_ctx_train)
        elif isinstance(policy, Retrieval):
            _check_retrieval(dialogue, budget, n_ctx_train)
        elif budget:
            _check_opening(dialogue, budget)


def _check_opening(dialogue: EncodedDialogue, budget: int) -> None:
    n = sum(len(tokens) for _, tokens in dialogue.opening())
    if budget <= n:
        raise BudgetError(f"the system prompt of {_named(dialogue)} takes {n} of {budget} cells; {_LARGER}")


def _check_few_shot(dialogue: EncodedDialogue, policy: FewShot, n_ctx_train: int) -> None:
    _check_asks(dialogue, "few-shot")
    most = max((n for _, _, n in few_shot_windows(dialogue, policy.rounds)), default=0)
    if most > n_ctx_train:
        raise ConfigError(
            f"few-shot:rounds={policy.rounds} takes up to {most} tokens in {_named(dialogue)}, and the model was"
            f" trained on {n_ctx_train}; take fewer rounds"
        )


def _check_retrieval(dialogue: EncodedDialogue, budget: int, n_ctx_train: int) -> None:
    _check_asks(dialogue, "retrieval")
    if budget > n_ctx_train:
        raise ConfigError(
            f"retrieval writes prompts of {budget} tokens, and the model was trained on {n_ctx_train};"
            " give a smaller --budget"
        )
    for number, n in enumerate(question_sizes(dialogue)):
        if n > budget:
            raise BudgetError(f"question {number} of {_named(dialogue)} takes {n} of {budget} cells; {_LARGER}")


def _check_asks(dialogue: EncodedDialogue, what: str) -> None:
    if dialogue.plain:
        raise ConfigError(f"{what} answers questions, and {_named(dialogue)} is plain text; leave out --policy {what}")


_LARGER = "give a larger --budget"


def _named(dialogue: EncodedDialogue) -> str:
    return f"dialogue '{dialogue.source.id}'"
