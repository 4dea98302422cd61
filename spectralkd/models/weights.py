"""Weights of networks, read from files without unpickling, and written to them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a state dict into a model.

    Args:
        model: takes the weights in place, converted to its own precision.
        path: a ``.safetensors`` file, one that ``torch.load(weights_only=True)`` reads, or the
            folder of a finished run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read, its values are not finite, or its parameters are not
            the model's; names those that are missing, unknown, or of another shape or kind. The
            model is then unchanged.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"weights: expected a file, got {str(path)!r}")
    state = _read(path)
    own = model.state_dict()
    problems = [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems += [
        f"{name} is {state[name].layout}, {state[name].dtype} on {state[name].device}, expected a "
        f"dense tensor as {own[name].dtype}"
        for name in own
        if name in state and not _fits(state[name], own[name])
    ]
    problems += [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in own]
    if problems:
        more = f"; and {len(problems) - 9} more" if len(problems) > 9 else ""
        raise ValueError(f"weights: {path} does not fit the model: {'; '.join(problems[:9])}{more}")
    for name, value in state.items():
        # What is infinite by design, such as a mask of attention, is so in the model already.
        if not (value.isfinite() | (value == own[name].to(value))).all():
            raise ValueError(f"weights: expected finite values, got others in {name} of {path}")
    model.load_state_dict(state)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers, by their names."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(save({"": value.detach().cpu().contiguous()}))
    return digest.hexdigest()


def save_half(model: nn.Module, path: str | Path, metadata: dict[str, Any]) -> None:
    """Store a network in half precision, with metadata.

    Args:
        metadata: values of JSON's types, by name.
    """
    state = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    beside = Path(f"{path}.part")  # whoever reads the file meanwhile has the whole of it
    save_file(state, beside, {name: json.dumps(value) for name, value in metadata.items()})
    beside.replace(path)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata that ``save_half`` or a run stored with the weights."""
    with safe_open(path, "pt") as file:
        return {name: json.loads(text) for name, text in (file.metadata() or {}).items()}


def _fits(value: Tensor, own: Tensor) -> bool:
    """Whether a tensor can be copied into a parameter or buffer and mean the same there."""
    dense = value.layout == torch.strided and not (value.is_quantized or value.is_meta)
    same_kind = value.is_floating_point() == own.is_floating_point()
    return dense and same_kind and not value.is_complex()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"weights: {path} cannot be read: {error}") from error
    except Exception as error:  # torch's weights-only reader raises pickle.UnpicklingError
        raise ValueError(f"weights: {path} holds more than tensors, not read: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"weights: expected {path} to hold a state dict of tensors")
    return state
