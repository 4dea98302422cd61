"""Arms of the study compared seed by seed, with intervals; and the paper's Table 2 recounted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

from spectralkd.analysis.gradients import gradient_shares
from spectralkd.analysis.intervals import interval, paired_difference
from spectralkd.figures.tables import Style, format_table
from spectralkd.reproduction.paper_tables import OVERHAUL_CODE, TABLE_2
from spectralkd.reproduction.records import Record


def arms(
    records: Mapping[str, Record], *, preset: str = "heo"
) -> dict[tuple[str, str], dict[str, list[Record]]]:
    """Records of the students that were evaluated on the validation images.

    Args:
        records: as ``records.read_records`` gives them.
        preset: of the recipes.

    Returns:
        By (teacher, student), then by row.
    """
    found: dict[tuple[str, str], dict[str, list[Record]]] = defaultdict(dict)
    for record in records.values():
        recipe = record["config"].get("recipe")
        if not recipe or recipe["holdout"] or "agreement" not in record:
            continue
        if recipe["preset"] == preset:
            pair = recipe["teacher_model"], recipe["student_model"]
            found[pair].setdefault(record["row"], []).append(record)
    return dict(sorted(found.items(), reverse=True))


def last_errors(
    records: Mapping[str, Record], *, preset: str = "heo"
) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
    """The last epoch's top-1 error in percent, by networks and row as ``arms``, then by seed."""
    return {
        pair: {
            row: {r["config"]["recipe"]["seed"]: r["metrics"][-1]["top1_error"] for r in found}
            for row, found in rows.items()
        }
        for pair, rows in arms(records, preset=preset).items()
    }


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
    for (teacher, student), found in last_errors(records).items():
        means = {row: interval(list(errors.values())) for row, errors in found.items()}
        for row in sorted(means, key=lambda row: means[row].mean):
            difference = "–"
            if row != "overhaul" and set(found[row]) & set(found.get("overhaul", {})):
                difference = str(paired_difference(found[row], found["overhaul"]))
            rows.append((f"{teacher} → {student}", row, str(means[row]), difference))
    return format_table(header, rows, style)


def shares_table(records: Mapping[str, Record], style: Style = "text") -> str:
    """Each term's share of the gradient at the student's maps after the last epoch.

    Args:
        records, style: as ``comparison_table``.

    Returns:
        A row for each arm of Overhaul's loss, with or without the spectral terms: percent of the
        sum of the terms' norms, means over seeds.
    """
    terms = ("ce", "overhaul", "l1", "cps")
    rows = []
    for (teacher, student), found in arms(records).items():
        for row, runs in found.items():
            shares = [gradient_shares(run["metrics"][-1].get("gradients", {})) for run in runs]
            if all("overhaul" in share for share in shares):
                means = (fmean(100 * share.get(term, 0.0) for share in shares) for term in terms)
                rows.append((f"{teacher} → {student}", row, *(f"{mean:.2f}" for mean in means)))
    return format_table(("teacher → student", "arm", *(f"{t} (%)" for t in terms)), rows, style)


def maps_table(records: Mapping[str, Record], style: Style = "text") -> str:
    """What distillation made of the students' maps, beside their teachers'; means over seeds.

    Args:
        records, style: as ``comparison_table``.

    Returns:
        A row for each pair of networks and arm: the exponent of each stage's output, and the ring
        correlation of the student's maps with the teacher's (after the best connector), averaged
        over all rings beyond DC, and at the highest ring.
    """
    stages = ("group1", "group2", "group3")
    last = {
        recipe["teacher_model"]: record["metrics"][-1]
        for record in records.values()
        if (recipe := record["config"].get("recipe"))
        and record["row"] == "teacher"
        and recipe["preset"] == "heo"
    }
    rows = []
    for (teacher, student), found in arms(records).items():
        networks = f"{teacher} → {student}"
        if teacher in last:
            own = (f"{last[teacher]['exponents'][stage]:.2f}" for stage in stages)
            rows.append((networks, "(teacher)", *own, *("",) * 6))
        for row, runs in found.items():
            curves = [[run["agreement"][s]["correlation"][1:] for run in runs] for s in stages]
            means = [
                *(fmean(run["metrics"][-1]["exponents"][s] for run in runs) for s in stages),
                *(fmean(map(fmean, stage)) for stage in curves),
                *(fmean(curve[-1] for curve in stage) for stage in curves),
            ]
            rows.append((networks, row, *(f"{mean:.2f}" for mean in means)))
    columns = (f"{what}{n}" for what in ("α", "all rings, ", "highest, ") for n in (1, 2, 3))
    return format_table(("teacher → student", "arm", *columns), rows, style)


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
