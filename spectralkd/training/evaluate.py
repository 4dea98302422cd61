"""Classification errors of a network on a data set."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from spectralkd.data.images import ImageData
from spectralkd.models.features import evaluation

BATCH = 500


def evaluate(
    model: nn.Module, data: ImageData, accelerator: Accelerator | None = None
) -> tuple[float, float]:
    """Top-1 and top-5 error in percent, in evaluation mode.

    Args:
        model: its logits have as many columns as the data set has classes.
        data: labeled images.
        accelerator: of several processes, each evaluates a share of the images; all of them
            return the errors of the whole set.

    Raises:
        ValueError: the number of logits is not that of the classes.
    """
    device = next(model.parameters()).device
    classes = len(data.classes)
    accuracies = [
        MulticlassAccuracy(classes, top_k=k, average="micro").to(device)
        for k in (1, min(5, classes))
    ]
    if accelerator is not None and accelerator.num_processes > 1:
        data = data.select(
            torch.arange(accelerator.process_index, len(data), accelerator.num_processes)
        )
    precision = accelerator.autocast() if accelerator else nullcontext()
    with evaluation(model), torch.no_grad(), precision:
        for images, labels in data.batches(BATCH):
            logits = model(images.to(device, memory_format=torch.channels_last))
            for accuracy in accuracies:
                accuracy.update(logits, labels.to(device))
    # Rounded, because torchmetrics computes in float32.
    top1, top5 = (round(100 * (1 - float(accuracy.compute())), 4) for accuracy in accuracies)
    return top1, top5
