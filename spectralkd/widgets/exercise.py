"""The exercises of the notebooks: a cell checks the answer, and helps if asked."""

from __future__ import annotations

import math


def check(
    answer: float | str | None,
    truth: float | str,
    *,
    within: float = 0.0,
    hint: str = "",
    solution: str = "",
) -> None:
    """Print whether an answer is right.

    Args:
        answer: a number or a word; ``"hint"`` or ``"solution"`` prints that; None: no answer yet.
        truth: the right answer.
        within: largest accepted error of a number.
        hint: where to look; also printed after a wrong answer.
        solution: why the right answer is right; also printed after it.

    Raises:
        TypeError: one of answer and truth is a number, the other a word.
    """
    if answer is None:
        print("Your turn: put your answer in place of None and run this cell again.")
        if hint:
            print('Stuck? Answer "hint", or "solution".')
    elif answer == "hint":
        print(hint or "There is no hint.")
    elif answer == "solution":
        shown = truth if isinstance(truth, str) else f"{truth:.3g}"
        print(f"{shown}. {solution}".strip())
    elif isinstance(answer, str) != isinstance(truth, str):
        kind = "a word" if isinstance(truth, str) else "a number"
        raise TypeError(f"answer: expected {kind}, got {answer!r}")
    elif _is_right(answer, truth, within):
        print(f"Right. {solution}".strip())
    else:
        print(f"Not yet: have another look. {hint}".strip())


def _is_right(answer: float | str, truth: float | str, within: float) -> bool:
    if isinstance(answer, str) or isinstance(truth, str):
        return str(answer).strip().lower() == str(truth).lower()
    return math.isclose(answer, truth, rel_tol=0, abs_tol=within)
