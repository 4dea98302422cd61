"""What the study measures on trained networks: Figs. 1 and 2, Eq. 2, scrambled rings, agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from spectralkd.analysis.activations import POOLED, activation_spectra, image_spectrum
from spectralkd.analysis.agreement import stage_agreement
from spectralkd.analysis.depth import block_layers
from spectralkd.analysis.layers import layer_views
from spectralkd.analysis.sensitivity import ring_scrambling
from spectralkd.data import load_data
from spectralkd.data.images import ImageData, first_image
from spectralkd.models import create_model, model_stages, stage_outputs
from spectralkd.models.features import Statistics, best_device
from spectralkd.models.weights import load_weights
from spectralkd.reproduction.records import scrambling_to_json, six_digits, spectrum_to_json

UNTRAINED_SEEDS = (0, 1, 2)
SCRAMBLED_IMAGES = 2000
CORRELATED_IMAGES = 1000
COMPARED_IMAGES = 500
_BOTH: tuple[Statistics, Statistics] = ("running", "batch")


def network_spectra(network: str, weights: Path, root: str | None = None) -> dict[str, Any]:
    """Figs. 1 and 2 over CIFAR-100's validation images, as ring means.

    Args:
        network: by name; its stages and all its blocks are measured.
        weights: of the trained network.
        root: as ``load_data``.

    Returns:
        ``spectrum_to_json`` by name: ``"images"``, ``"images pooled"`` (2×2), and for each layer
        ``"<trained|untrained SEED> <running|batch> <layer>"``, the last stage also pooled.
    """
    data = load_data("cifar100", root=root)
    measured = {"images": image_spectrum(data), "images pooled": image_spectrum(data, pool=2)}
    trained = create_model(network)
    load_weights(trained, weights)
    networks = {"trained": trained}
    for seed in UNTRAINED_SEEDS:
        torch.manual_seed(seed)
        networks[f"untrained {seed}"] = create_model(network)
    stages = stage_outputs(trained)
    image = first_image(data)
    layers = list(dict.fromkeys([*stages, *block_layers(trained, image)]))
    for state, model in networks.items():
        for statistics in _BOTH:
            spectra = activation_spectra(
                model.to(best_device()),
                data.batches(100),
                layers,
                statistics=statistics,
                pooled=stages[-1:],
            )
            for name, spectrum in spectra.items():
                name = name.replace(POOLED, " pooled")
                measured[f"{state} {statistics} {name}"] = spectrum
    return {name: spectrum_to_json(spectrum) for name, spectrum in measured.items()}


def network_correlations(network: str, weights: Path, root: str | None = None) -> dict[str, Any]:
    """C(r) of Eq. 2 of CIFAR-100's validation images and of a network's stages.

    Args:
        network, weights, root: as ``network_spectra``.

    Returns:
        ``distance`` (pixels of the map) and ``correlation`` (squared units of the map) by name:
        ``"images"`` and ``"<trained|untrained> <stage>"``, untrained with seed 0; batch
        statistics, on 1,000 images.
    """
    data = load_data("cifar100", root=root).subset(CORRELATED_IMAGES)
    images = data.batches(100, normalize=False)
    views = {"images": layer_views(torch.nn.Identity(), images, [""], progress=False)[""]}
    trained = create_model(network)
    load_weights(trained, weights)
    torch.manual_seed(UNTRAINED_SEEDS[0])
    for state, model in {"trained": trained, "untrained": create_model(network)}.items():
        stages = stage_outputs(model)
        found = layer_views(
            model.to(best_device()), data.batches(100), stages, statistics="batch", progress=False
        )
        views |= {f"{state} {stage}": view for stage, view in found.items()}
    return {
        name: {
            "distance": six_digits(view.distance),
            "correlation": six_digits(view.correlation),
        }
        for name, view in views.items()
    }


def teacher_scrambling(network: str, weights: Path, root: str | None = None) -> dict[str, Any]:
    """What a trained network loses when the phases of one ring of a stage are random.

    Returns:
        ``scrambling_to_json`` by stage, on 2,000 validation images.
    """
    model = create_model(network)
    load_weights(model, weights)
    model.to(best_device())
    data = load_data("cifar100", root=root).subset(SCRAMBLED_IMAGES)
    found = {}
    for stage in model_stages(model):
        found[stage.output] = scrambling_to_json(ring_scrambling(model, data, stage.pre_relu))
    return found


def agreement_with_teacher(
    teacher: tuple[str, Path], student: tuple[str, Path], data: ImageData
) -> dict[str, Any]:
    """Ring correlation of the connected student with its teacher; as ``stage_agreement``.

    Args:
        teacher, student: names of the networks, and their weights.
        data: 500 images of it are compared.

    Returns:
        By stage: ``frequency`` (cycles/pixel), ``correlation`` and ``ceiling`` of each ring.
    """
    models = []
    for network, weights in (teacher, student):
        model = create_model(network, len(data.classes))
        load_weights(model, weights)
        models.append(model.to(best_device()))
    batches = data.subset(COMPARED_IMAGES).batches(100)
    found = stage_agreement(models[0], models[1], batches, progress=False)
    return {
        stage: {
            name: [round(float(v), 4) for v in getattr(agreement, name)]
            for name in ("frequency", "correlation", "ceiling")
        }
        for stage, agreement in found.items()
    }
