"""The exercise at the end of each notebook: a cell checks the answer."""

from __future__ import annotations

import math


def check(answer: float | str | None, truth: float | str, *, within: float = 0.0) -> None:
    """Print whether an answer is right.

    Args:
        answer: a number or a word; None: no answer yet.
        truth: the right answer.
        within: largest accepted error of a number.

    Raises:
        TypeError: one of answer and truth is a number, the other a word.
    """
    if answer is None:
        print("Your turn: put your answer in place of None and run this cell again.")
        return
    if isinstance(answer, str) != isinstance(truth, str):
        kind = "a word" if isinstance(truth, str) else "a number"
        raise TypeError(f"answer: expected {kind}, got {answer!r}")
    if isinstance(answer, str) or isinstance(truth, str):
        right = str(answer).strip().lower() == str(truth).lower()
    else:
        right = math.isclose(answer, truth, rel_tol=0, abs_tol=within)
    print("Right." if right else "Not yet: have another look.")
