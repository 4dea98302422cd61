"""Classification errors of a network on a data set."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from spectralkd.data.images import ImageData
from spectralkd.models.features import evaluation, model_device

BATCH = 500


class Evaluation(NamedTuple):
    """Errors in percent, and the negative log-likelihood of the labels in nats."""

    top1_error: float
    top5_error: float
    nll: float


def evaluate(
    model: nn.Module, data: ImageData, accelerator: Accelerator | None = None
) -> Evaluation:
    """Top-1 and top-5 error and negative log-likelihood, in evaluation mode.

    Args:
        model: its logits have as many columns as the data set has classes.
        data: labeled images.
        accelerator: of several processes, each evaluates a share of the images; all of them
            return the values of the whole set.

    Raises:
        ValueError: the logits are not as many as the classes; TypeError, they are no tensor.
    """
    device = model_device(model)
    classes = len(data.classes)
    accuracies = [
        MulticlassAccuracy(classes, top_k=k, average="micro").to(device)
        for k in (1, min(5, classes))
    ]
    likelihood = MeanMetric().to(device)
    if accelerator is not None and accelerator.num_processes > 1:
        data = data.select(
            torch.arange(accelerator.process_index, len(data), accelerator.num_processes)
        )
    precision = accelerator.autocast() if accelerator else nullcontext()
    with evaluation(model), torch.no_grad(), precision:
        for images, labels in data.batches(BATCH):
            logits = model(images.to(device, memory_format=torch.channels_last))
            check_logits("model", logits, classes)
            labels = labels.to(device)
            for accuracy in accuracies:
                accuracy.update(logits, labels)
            nll = functional.cross_entropy(logits.float(), labels)
            likelihood.update(nll, weight=len(labels))
    # Rounded, because torchmetrics computes in float32.
    top1, top5 = (round(100 * (1 - float(accuracy.compute())), 4) for accuracy in accuracies)
    return Evaluation(top1, top5, round(float(likelihood.compute()), 6))


def check_logits(name: str, logits: object, classes: int) -> None:
    """Refuse what a network made of images unless it is a tensor (N, ``classes``)."""
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"{name}: expected a network that returns logits, got {type(logits).__name__}"
        )
    if logits.shape[1:] != (classes,):
        raise ValueError(
            f"{name}: expected {classes} logits an image, one for each class, got shape "
            f"{tuple(logits.shape)}"
        )
