"""Kim, Park & Kwak, *Paraphrasing complex network: factor transfer*, NeurIPS 2018."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from spectralkd.checks import Range
from spectralkd.losses.base import Method, Phase, Reading, Taps, cross_entropy
from spectralkd.spectra.rings import at_least_float32


@dataclass(eq=False, repr=False)
class FT(Method):
    """CE + w times the L1 distance of normalized factors of the last maps.

    A paraphraser learns to compress the teacher's last map (after its ReLU) into a factor by
    reconstructing it; a translator makes the student's factor. As in the authors' code: no batch
    norms, LeakyReLU 0.1 after every layer, L1 reconstruction, factors of unit length over all
    their elements. Their loop over "5" paraphraser epochs runs 6, and they train the student
    without Nesterov's momentum; here the recipe decides.

    Args:
        weight: w, for the mean over elements; 500 in the authors' code.
        rate: channels of the factor over those of the teacher's map.
        paraphraser_epochs, paraphraser_lr: of the phase that trains the paraphraser.
    """

    reads = "pre_relu"
    weight: Annotated[float, Range(0)] = 500.0
    rate: Annotated[float, Range(0, ends="(]")] = 0.5
    paraphraser_epochs: Annotated[int, Range(0)] = 5
    paraphraser_lr: Annotated[float, Range(0)] = 0.1

    @property
    def phases(self) -> tuple[Phase, ...]:
        paraphraser = Phase(
            "paraphraser", self.paraphraser_epochs, self.paraphraser_lr, student=False
        )
        return (paraphraser, Phase("train"))

    def build(self, teacher: Taps, student: Taps) -> None:
        channels_t, channels_s = teacher.shapes[-1][0], student.shapes[-1][0]
        factors = round(channels_t * self.rate)
        if factors < 1:
            raise ValueError(
                f"rate: expected a factor of at least one of {channels_t} channels, got {self.rate}"
            )
        self.paraphraser = encoder(channels_t, factors)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(factors, factors, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(factors, channels_t, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(channels_t, channels_t, 3, padding=1),
            nn.LeakyReLU(0.1),
        )
        self.translator = encoder(channels_s, factors)

    def trainable_parameters(self, phase: str) -> Iterable[nn.Parameter]:
        if phase == "train":
            return self.translator.parameters()
        return [*self.paraphraser.parameters(), *self.decoder.parameters()]

    def forward(
        self, teacher: Reading, student: Reading, labels: Tensor, phase: str = "train"
    ) -> dict[str, Tensor]:
        teacher_map = at_least_float32(functional.relu(teacher.maps[-1]))
        factor = self.paraphraser(teacher_map)
        if phase == "paraphraser":
            rebuilt = at_least_float32(self.decoder(factor))
            return {"reconstruction": functional.l1_loss(rebuilt, teacher_map)}
        translated = self.translator(functional.relu(student.maps[-1]))
        distance = functional.l1_loss(unit(translated), unit(factor.detach()))
        return {"ce": cross_entropy(student, labels), "ft": self.weight * distance}


def encoder(channels: int, factors: int) -> nn.Sequential:
    """Three 3×3 convolutions, C → C → k → k, each with LeakyReLU 0.1."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(channels, factors, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(factors, factors, 3, padding=1),
        nn.LeakyReLU(0.1),
    )


def unit(factor: Tensor) -> Tensor:
    """Each sample's factor flattened and scaled to unit length."""
    return functional.normalize(at_least_float32(factor).flatten(1))
