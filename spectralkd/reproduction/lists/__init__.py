"""The lists of runs behind the paper's tables and figures.

``full`` is the paper's list, for a GPU. ``short`` asks the paper's questions in shorter runs,
most of them of smaller networks, that two CPU cores finish in days.
"""

from __future__ import annotations

from collections.abc import Mapping

from spectralkd.checks import check_choice
from spectralkd.reproduction.jobs import Job
from spectralkd.reproduction.lists import full, short
from spectralkd.reproduction.records import Record, Size


def study_jobs(size: Size, known: Mapping[str, Record] | None = None) -> list[Job]:
    """The whole list of a size, in the order of work.

    Args:
        size: ``"full"`` or ``"short"``.
        known: records by name. Jobs whose settings follow from another job's record, such as the
            calibrated weights of ``short``, are listed once that record is there.

    Raises:
        ValueError: an unknown size.
    """
    check_choice("size", size, Size)
    jobs = full.jobs() if size == "full" else short.jobs(known or {})
    return sorted(jobs, key=lambda job: job.step)
