"""What several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real data sets, from SPECTRALKD_DATA or beside the project; else the test skips."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("SPECTRALKD_DATA") or beside)
    if not (root / "cifar-100-python").is_dir():
        pytest.skip("no CIFAR-100: set SPECTRALKD_DATA to a folder that holds it")
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Maps of a few pixels gain nothing from threads, and lose where other programs run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
