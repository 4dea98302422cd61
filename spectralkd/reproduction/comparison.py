"""Arms of the study compared seed by seed, with intervals; and the paper's Table 2 recounted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from spectralkd.analysis.intervals import interval, paired_difference
from spectralkd.figures.tables import Style, format_table
from spectralkd.reproduction.paper_tables import OVERHAUL_CODE, TABLE_2
from spectralkd.reproduction.records import Record


def last_values(
    records: Mapping[str, Record], key: str = "top1_error", *, preset: str = "heo"
) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
    """The last epoch's value of each student that was evaluated on the validation images.

    Args:
        records: as ``records.read_records`` gives them.
        key: of a line of metrics.
        preset: of the recipes.

    Returns:
        By (teacher, student), then by row, then by seed.
    """
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(dict)
    for record in records.values():
        recipe = record["config"].get("recipe")
        if not recipe or recipe["holdout"] or "agreement" not in record:
            continue
        if recipe["preset"] != preset:
            continue
        pair = recipe["teacher_model"], recipe["student_model"]
        row = found[pair].setdefault(record["row"], {})
        row[recipe["seed"]] = record["metrics"][-1][key]
    return dict(found)


def comparison_table(records: Mapping[str, Record], style: Style = "text") -> str:
    """Errors of each pair of networks, and differences from Overhaul alone seed by seed.

    Args:
        records: as ``records.read_records`` gives them.
        style: as ``format_table``.

    Returns:
        A row for each pair of networks and arm, arms in the order of their means: top-1 error in
        percent, and its difference in percentage points, with 95 % intervals.
    """
    header = ("teacher → student", "arm", "top-1 error (%)", "minus overhaul (points)")
    rows = []
    for (teacher, student), arms in sorted(last_values(records).items(), reverse=True):
        means = {row: interval(list(errors.values())) for row, errors in arms.items()}
        for row in sorted(means, key=lambda row: means[row].mean):
            difference = "–"
            if row != "overhaul" and set(arms[row]) & set(arms.get("overhaul", {})):
                difference = str(paired_difference(arms[row], arms["overhaul"]))
            rows.append((f"{teacher} → {student}", row, str(means[row]), difference))
    return format_table(header, rows, style)


def recount() -> dict[str, tuple[float, ...]]:
    """The spectral loss minus Overhaul in Table 2, in percentage points, setups a to f.

    Returns:
        Against the row of Overhaul that the paper prints, and against the one that Overhaul's
        authors publish with their code. Negative: the spectral loss is better.
    """
    rows = {"paper's Overhaul": TABLE_2["overhaul"], "its authors' Overhaul": OVERHAUL_CODE}
    return {
        name: tuple(
            round(ours - theirs, 2) for ours, theirs in zip(TABLE_2["spectral"], row, strict=True)
        )
        for name, row in rows.items()
    }


def recount_table(style: Style = "text") -> str:
    """``recount`` with its means, their 95 % intervals and the number of setups won."""
    rows = []
    for name, differences in recount().items():
        mean = interval(differences)
        rows.append(
            (
                name,
                *(f"{difference:+.2f}" for difference in differences),
                f"{mean.mean:+.2f} [{mean.low:+.2f}, {mean.high:+.2f}]",
                f"{sum(difference < 0 for difference in differences)} of {len(differences)}",
            )
        )
    header = ("spectral minus", *"abcdef", "mean [95 %]", "better in")
    return format_table(header, rows, style)
