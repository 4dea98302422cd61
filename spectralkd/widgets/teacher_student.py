"""See at which scales students agree with their teacher."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import ipywidgets as widgets
from torch import nn

from spectralkd.analysis.agreement import StageAgreement, stage_agreement
from spectralkd.data.images import ImageData
from spectralkd.figures.agreement import agreement_figure
from spectralkd.figures.style import nothing, slots
from spectralkd.figures.tables import format_table
from spectralkd.widgets.background import Background, Cancelled, Job
from spectralkd.widgets.base import Panel, csv_link, in_this_cell, menu, remember, row, table_box
from spectralkd.widgets.code import Code
from spectralkd.widgets.explorer_controls import STATISTICS
from spectralkd.widgets.plot import Plot
from spectralkd.widgets.ticks import TickList

BATCH = 50

_READS = (("before the ReLU, as distilled", "pre_relu"), ("the stage's output", "output"))
_Key = tuple[str, str, str]
# The last of each name and cell: when the cell is run again, it stops measuring.
_latest: dict[str, TeacherStudent] = {}
_CODE = """\
from spectralkd.analysis.agreement import stage_agreement
from spectralkd.figures.agreement import agreement_figure

# widget = TeacherStudent(…), whose networks and images are used
found = {{
    name: stage_agreement(
        widget.teacher, widget.students[name], widget.data.batches({batch}),
        reads={reads!r}, statistics={statistics!r}, progress=False,
    )
    for name in {students!r}
}}
figure = agreement_figure(found, ceiling={ceiling!r})
figure
"""


class TeacherStudent(Panel):
    """Ring correlation between a teacher and its students, per stage and frequency.

    It draws what ``analysis.agreement.stage_agreement`` returns; each student is compared once,
    in a background thread.

    Args:
        teacher: a network with a ``stage_table``, as ``create_model`` gives it.
        students: one such network, or several by name.
        data: the data set on which they are compared.
        images: number of images to use, spread evenly over the data set.
        name: widgets of the same name in one cell share their settings, so that running the
            cell again keeps them.

    Raises:
        ValueError: no student.
    """

    def __init__(
        self,
        teacher: nn.Module,
        students: nn.Module | Mapping[str, nn.Module],
        data: ImageData,
        *,
        images: int = 300,
        name: str = "teacher and student",
    ) -> None:
        self.students = dict(students) if isinstance(students, Mapping) else {"student": students}
        if not self.students:
            raise ValueError("students: expected at least one network, got none")
        self.teacher, self.data = teacher, data.subset(images)
        self.results: dict[_Key, dict[str, StageAgreement]] = {}
        self.reasons: dict[_Key, str] = {}
        self.background = Background()
        self.controls: dict[str, Any] = {
            "students": TickList("Students"),
            "reads": menu("Maps", _READS),
            "statistics": menu("Batch norms use", reversed(STATISTICS)),  # running ones first
            "ceiling": widgets.Checkbox(
                value=True, description="Show what any connector could reach", indent=False
            ),
        }
        c = self.controls
        c["students"].options = c["students"].value = tuple(self.students)
        place = in_this_cell(name)
        remember(place, c)
        for key in ("students", "reads", "statistics"):
            c[key].observe(lambda _: self._measure(), "value")
        c["ceiling"].observe(lambda _: self._draw(), "value")
        self.plot = Plot("Agreement with the teacher")
        self.table, self.csv, self.code = table_box(), table_box(), Code("Python code")
        self.again = widgets.Button(description="Measure again")
        self.again.on_click(lambda _: self._retry())
        menus = widgets.VBox([c["reads"], c["statistics"], c["ceiling"]])
        super().__init__(
            [
                row(menus, c["students"]),
                widgets.HBox([self.background, self.again]),
                self.plot,
                row(self.table, self.csv),
                widgets.Accordion([self.code], titles=["These settings as code"]),
            ]
        )
        if place in _latest and place != name:  # a cell run again; without cells, both go on
            _latest[place].background.rest()
        _latest[place] = self
        self._measure()

    def busy(self) -> bool:
        return bool(self.background.pending())

    def problems(self) -> list[str]:
        chosen = {name: self._key(name) for name in self.controls["students"].value}
        return [f"{name}: {self.reasons[key]}" for name, key in chosen.items()
                if key in self.reasons]  # fmt: skip

    def _key(self, student: str) -> _Key:
        return student, self.controls["reads"].value, self.controls["statistics"].value

    def _measure(self) -> None:
        """Compare what is chosen and not yet compared; draw the rest."""
        keys = [self._key(student) for student in self.controls["students"].value]
        self.background.keep(keys)
        done = self.results.keys() | self.reasons.keys() | self.background.pending()
        for key in keys:
            if key not in done:
                nets = deepcopy(self.teacher), deepcopy(self.students[key[0]])
                work = partial(self._agreement, *nets, key)
                job = Job([key], f"agreement of {key[0]}")
                self.background.submit(job, work, partial(self._keep, job, key))
        self._draw()

    def _retry(self) -> None:
        self.reasons.clear()
        self._measure()

    def _agreement(
        self, teacher: nn.Module, student: nn.Module, key: _Key, job: Job
    ) -> dict[str, StageAgreement]:
        _, reads, statistics = key
        batches = self.data.batches(BATCH)
        options: dict[str, Any] = {"reads": reads, "statistics": statistics, "progress": False}
        with job.watched(teacher, student, batches=len(batches)):
            return stage_agreement(teacher, student, batches, **options)

    def _keep(self, job: Job, key: _Key, found: dict[str, StageAgreement] | BaseException) -> None:
        if isinstance(found, BaseException):
            if job.refused or not isinstance(found, Cancelled):
                self.reasons[key] = str(found)
        else:
            self.results[key] = found
        self._draw()

    def _draw(self) -> None:
        """Draw the chosen students that have been compared, and nothing else."""
        chosen = self.controls["students"].value
        shown = {
            student: self.results[key]
            for student in chosen
            if (key := self._key(student)) in self.results
        }
        values = {key: control.value for key, control in self.controls.items()}
        self.code.text = _CODE.format(**values, batch=BATCH)
        problems = self.problems()
        self.again.layout.visibility = "visible" if problems else "hidden"
        self.background.show_error("; ".join(problems))
        if not shown:
            why = "Measuring …" if self.busy() else "; ".join(problems)
            self.plot.show(nothing(why if chosen else "Tick a student to compare it."))
            self.table.value = self.csv.value = ""
            return
        figure = agreement_figure(
            shown, ceiling=self.controls["ceiling"].value, colors=slots(self.students)
        )
        self.plot.show(figure)
        stages = list(next(iter(shown.values())))
        rows = [
            (name, *(f"{result[stage].correlation[1:].mean():.3f}" for stage in stages))
            for name, result in shown.items()
        ]
        header = ("mean over rings (1 − L_CPS of Eq. 8)", *stages)
        self.table.value = format_table(header, rows, style="html")
        numbers = [
            (name, stage, *map(float, ring))
            for name, result in shown.items()
            for stage, agreement in result.items()
            for ring in zip(*agreement, strict=True)
        ]
        columns = ("student", "stage", "|k| (cycles/pixel)", "correlation", "ceiling", "power")
        self.csv.value = csv_link("agreement.csv", columns, numbers)
