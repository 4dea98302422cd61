"""Five lines with the package as a wheel installs it: ``python wheel.py``, away from the clone."""

from importlib.resources import files
from pathlib import Path

import torch
import torchvision

import spectralkd as skd
from spectralkd.reproduction.records import read_records

RESNET, MOBILENET = torchvision.models.resnet18, torchvision.models.mobilenet_v3_small
PAIRS = {
    "kd": (RESNET(num_classes=10), MOBILENET(num_classes=10), 64),
    "spectral": (skd.create_model("wrn16_2", 10), skd.create_model("wrn10_1", 10), 32),
}

torch.manual_seed(0)
for method, (teacher, student, size) in PAIRS.items():
    loader = [(torch.randn(8, 3, size, size), torch.randint(10, (8,)))] * 5
    losses = []

    distiller = skd.Distiller(teacher, student, method)
    optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=0.02)
    for images, labels in loader:
        loss = sum(distiller(images, labels).values())
        loss.backward(), optimizer.step(), optimizer.zero_grad()

        losses.append(loss.item())
    print(method, "fell from", round(losses[0], 3), "to", round(losses[-1], 3))
    assert losses[-1] < losses[0]

assert skd.create_model("wrn16_2", pretrained="cifar100-short")
assert read_records("short")
assert files(skd).joinpath("py.typed").is_file()  # type checkers read the package's types
assert "site-packages" in skd.__file__, skd.__file__
assert list((Path(skd.__file__).parent / "widgets").glob("*.js"))
