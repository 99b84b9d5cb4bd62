"""What is left of a step's token budget: chunks of started prompts, then newcomers (Sarathi-Serve, arXiv 2403.02310, algorithm 3)."""

from __future__ import annotations

from simserve.contracts import InstanceView, Request, StepPlan


def reserved_tokens(request: Request, view: InstanceView) -> int | None:
    """Tokens of the prompt and of the longest answer that the client states; None where it states none."""
    stated = request.max_output_tokens
    return min(view.max_model_tokens, request.prompt_tokens + stated) if stated > 0 else None


def fill(plan: StepPlan, view: InstanceView, reserves: bool = False) -> None:
    """What is left of the budget goes to the chunks already started, then to newcomers in order until the first that does not fit."""
    left = plan.budget_left
    assert left is not None
    if view.prefilling:
        for request in tuple(view.prefilling):
            if left <= 0:
                return
            chunk = request.target_tokens - request.computed_tokens
            if chunk > left:
                chunk = left
            plan.prefill(request, chunk)
            left -= chunk
    if left > 0 and view.waiting:
        for request in view.waiting:
            if left <= 0 or not plan.admit(request, reserved_tokens(request, view) if reserves else None):
                return
            chunk = request.target_tokens - request.computed_tokens
            if chunk > left:
                chunk = left
            plan.prefill(request, chunk)
            left -= chunk
