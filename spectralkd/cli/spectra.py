"""Figs. 1 and 2 of any network."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from spectralkd.analysis.survey import survey, survey_tables
from spectralkd.cli.values import check_output, find_device, parse_layouts
from spectralkd.data import DATASETS, load_data
from spectralkd.data.images import suited
from spectralkd.figures import report
from spectralkd.figures.tables import Style, format_table
from spectralkd.models import create_model
from spectralkd.models.features import Statistics, check_layers
from spectralkd.models.weights import load_weights
from spectralkd.spectra.power import Ring, Window
from spectralkd.spectra.powerlaw import BAND, check_band
from spectralkd.training.run_folder import Run


def spectra(
    data: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(DATASETS)} or package.module:function; default: that of the run in "
            "--weights, or photos."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=4,
            help="Side in pixels of the images of photos, imagefolder and tiny-imagenet; default: "
            "the network's, or the data set's.",
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Number of validation images; default: all.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network, such as wrn28_4, torchvision/swin_t, timm/convnext_tiny or "
            "package.module:function; default: that of the run in --weights, or wrn16_2."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File of weights or folder of a run; default: untrained.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=1, help="The network's outputs; default: the data's classes.")
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="Weights that come with the package, or DEFAULT for a zoo's own."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Comma-separated layers; default: the ends of the stages.")
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            help="nchw, nhwc or tokens, for all layers, or for one as LAYER=tokens; may be "
            "repeated; default: found out."
        ),
    ] = None,
    statistics: Annotated[
        Statistics, typer.Option(help="Statistics that batch norms use.")
    ] = "batch",
    ring: Annotated[
        Ring, typer.Option(help="jacobian: |k| × ring mean, as in the paper; or the ring mean.")
    ] = "jacobian",
    window: Annotated[Window, typer.Option(help="Taper of each map.")] = "none",
    band: Annotated[
        tuple[float, float], typer.Option(help="Frequencies of the fit, in cycles/pixel.")
    ] = BAND,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 100,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Random seed of untrained weights.")
    ] = 0,
    device: Annotated[
        str | None, typer.Option(help="Such as cuda; default: cuda where there is one.")
    ] = None,
    style: Annotated[Style, typer.Option(help="Format of the tables.")] = "text",
    output: Annotated[Path, typer.Option(help="HTML page to write.")] = Path("spectra.html"),
) -> None:
    """Measure the power spectra of images and of a network's activations (Figs. 1 and 2)."""
    check_output(output)
    check_band(band)
    place = find_device(device)
    if weights is not None and Run(weights).config_file.is_file():
        config = Run(weights).read_config()
        if data is None:
            data, root = config["recipe"].get("data"), root or config["recipe"].get("root")
        model = model or config["network"]
    data, model = data or "photos", model or "wrn16_2"
    source = load_data(data, root=root, image_size=image_size)
    torch.manual_seed(seed)
    state = f"untrained, seed {seed}"
    if pretrained:
        if weights or classes:
            raise ValueError("pretrained: expected neither weights nor classes beside it")
        net = create_model(model, pretrained=pretrained)
        state = f"weights of {model}-{pretrained}"
    else:
        net = create_model(model, num_classes=classes or len(source.classes))
        if weights is not None:
            load_weights(net, weights)
            state = f"weights of {weights}"
    net.to(place)
    layouts = parse_layouts(layout) if layout else None
    if isinstance(layouts, dict):
        check_layers(net, list(layouts))
    if image_size is None and hasattr(net, "normalization"):
        shape: Any = net.image_shape
        source = load_data(data, root=root, image_size=shape[-1])
    source = suited(source if images is None else source.subset(images), net, image_size)
    found = survey(
        net,
        source,
        layers.split(",") if layers else None,
        ring=ring,
        window=window,
        layout=layouts,
        statistics=statistics,
        batch_size=batch_size,
        band=band,
    )
    convention = "|k| × ring mean (the paper)" if ring == "jacobian" else "the ring mean"
    caption = (
        f"{model} ({state}, {statistics} statistics) on {len(source)} images of {data}; power is "
        f"{convention}, window {window}, fitted over [{band[0]:g}, {band[1]:g}) cycles/pixel."
    )
    print(caption)
    for table in survey_tables(found):
        print(f"\n{table.title}\n{format_table(table.header, table.rows, style)}")
        print(textwrap.fill(table.convention, 100))
    if not report.has_plotly():
        print(f"No page written to {output}: plotly is not installed (pip install plotly).")
        return
    from spectralkd.figures.survey import write_survey

    write_survey(found, output, model, caption)
    print(f"\nInteractive plots: {output}")
