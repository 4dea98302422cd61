"""See at which scales students agree with their teacher."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import ipywidgets as widgets
import plotly.graph_objects as go
from torch import nn

from spectralkd.analysis.agreement import StageAgreement, stage_agreement
from spectralkd.data.images import ImageData
from spectralkd.figures.agreement import agreement_figure
from spectralkd.figures.style import layout
from spectralkd.figures.tables import format_table
from spectralkd.widgets.base import (
    Background,
    Panel,
    TickList,
    csv_link,
    remember,
    show_instead,
    table_box,
)

BATCH = 50

_READS = (("before the ReLU, as distilled", "pre_relu"), ("the stage's output", "output"))
_STATISTICS = (("running averages", "running"), ("of the batch", "batch"))
_Key = tuple[str, str, str]


class TeacherStudent(Panel):
    """Ring correlation between a teacher and its students, per stage and frequency.

    It draws what ``analysis.agreement.stage_agreement`` returns; each student is compared once,
    in a background thread.

    Args:
        teacher: a network with a stage table (``stages``), as ``create_model`` gives it.
        students: one such network, or several by name.
        data: the data set on which they are compared.
        images: number of images to use, spread evenly over the data set.
        name: widgets of the same name in one kernel share their settings, so that running the
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
        self.background = Background()
        wide, box = {"description_width": "9em"}, widgets.Layout(width="26em")
        self.controls: dict[str, Any] = {
            "students": TickList("Students", height="9em"),
            "reads": widgets.Dropdown(options=_READS, description="Maps", style=wide, layout=box),
            "statistics": widgets.Dropdown(
                options=_STATISTICS, description="Batch norms use", style=wide, layout=box
            ),
            "ceiling": widgets.Checkbox(
                value=True, description="Show what any connector could reach", indent=False
            ),
        }
        c = self.controls
        c["students"].options = c["students"].value = tuple(self.students)
        remember(name, c)
        for key in ("students", "reads", "statistics"):
            c[key].observe(lambda _: self._measure(), "value")
        c["ceiling"].observe(lambda _: self._draw(), "value")
        self.figure = go.FigureWidget(layout=layout(None))
        self.table, self.csv = table_box(), table_box()
        menus = widgets.VBox([c["reads"], c["statistics"], c["ceiling"], self.background])
        super().__init__(
            [
                widgets.HBox([menus, c["students"]]),
                self.figure,
                widgets.HBox([self.table, self.csv]),
            ]
        )
        self._measure()

    def _key(self, student: str) -> _Key:
        return student, self.controls["reads"].value, self.controls["statistics"].value

    def _measure(self) -> None:
        """Compare what is chosen and not yet compared; draw the rest."""
        for student in self.controls["students"].value:
            key = self._key(student)
            if key not in self.results:
                nets = deepcopy(self.teacher), deepcopy(self.students[student])
                work = partial(self._agreement, *nets, key)
                self.background.submit(work, lambda _: self._draw())
        self._draw()

    def _agreement(self, teacher: nn.Module, student: nn.Module, key: _Key) -> None:
        """Compare two networks, unless an earlier job has done so meanwhile."""
        if key in self.results:
            return
        _, reads, statistics = key
        batches = self.data.batches(BATCH)
        watched = self.background.watched(batches, len(batches))
        options: dict[str, Any] = {"reads": reads, "statistics": statistics, "progress": False}
        self.results[key] = stage_agreement(teacher, student, watched, **options)

    def _draw(self) -> None:
        shown = {
            student: self.results[key]
            for student in self.controls["students"].value
            if (key := self._key(student)) in self.results
        }
        if not shown:
            return
        show_instead(self.figure, agreement_figure(shown, ceiling=self.controls["ceiling"].value))
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
