"""What would end an evaluation half-way is refused before anything is played."""

from collections.abc import Iterable

from edge_sir.core.budget import Budget
from edge_sir.core.policy import Policy
from edge_sir.core.room import check_fit
from edge_sir.errors import BudgetError, ConfigError
from edge_sir.eval.play.contexts import Contexts
from edge_sir.eval.play.controls import FewShot, Retrieval
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.eval.play.no_cache import few_shot_windows, question_sizes

__all__ = ["check"]

_LARGER = "give a larger --budget"


def check(
    contexts: Contexts, dialogue: EncodedDialogue, arms: Iterable[tuple[Policy | FewShot | Retrieval, int]]
) -> None:
    """Raises ConfigError or BudgetError where an arm, a policy at a budget, cannot play a dialogue to its end."""
    n_tokens = dialogue.n_tokens()
    for policy, budget in arms:
        if isinstance(policy, FewShot):
            _check_few_shot(contexts, dialogue, policy)
        elif isinstance(policy, Retrieval):
            _check_retrieval(contexts, dialogue, budget)
        elif 0 < budget < n_tokens:
            _check_opening(dialogue, budget)
            check_fit(policy, budget, 0)
            Budget(budget).check_trained_length(contexts.n_ctx_train, contexts.name)


def _check_opening(dialogue: EncodedDialogue, budget: int) -> None:
    if budget <= dialogue.n_opening:
        takes = f"takes {dialogue.n_opening} of {budget} cells"
        raise BudgetError(f"the system prompt of {_named(dialogue)} {takes}; {_LARGER}")


def _check_few_shot(contexts: Contexts, dialogue: EncodedDialogue, policy: FewShot) -> None:
    most = max((n for _, _, n in few_shot_windows(dialogue, policy.rounds)), default=0)
    if most > contexts.n_ctx_train:
        raise ConfigError(
            f"few-shot:rounds={policy.rounds} takes up to {most} cells in {_named(dialogue)}, and {contexts.name} was"
            f" trained on {contexts.n_ctx_train} positions; take fewer rounds"
        )


def _check_retrieval(contexts: Contexts, dialogue: EncodedDialogue, budget: int) -> None:
    for number, n in enumerate(question_sizes(dialogue)):
        Budget(budget).check_trained_length(contexts.n_ctx_train, contexts.name)
        if n > budget:
            raise BudgetError(f"question {number} of {_named(dialogue)} takes {n} of {budget} cells; {_LARGER}")


def _named(dialogue: EncodedDialogue) -> str:
    return f"dialogue '{dialogue.source.id}'"
