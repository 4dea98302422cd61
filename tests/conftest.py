"""What several tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from PIL import Image

from spectralkd.data.cifar import cifar_folder
from spectralkd.data.photos import photographs

# Processes share the cores: a thread that waits for another must not spin meanwhile.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


# The same examples in every run, however slow the machine.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """GPUs are for test_gpu.py, asked for by name: the other tests say what a CPU does."""
    if not any("test_gpu" in argument for argument in config.args):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_runtest_setup() -> None:
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Commands that a test runs in this process take signals over."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [(number, signal.getsignal(number)) for number in numbers]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of CIFAR-100, where it has been downloaded or beside the project; else tests skip."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    for root in (cifar_folder("cifar100").parent, beside):
        if (root / "cifar-100-python").is_dir():
            return root
    pytest.skip("no CIFAR-100: set SPECTRALKD_DATA to a folder that holds it")


@pytest.fixture(scope="session")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of photographs as files, a folder a class as ImageNet's: 8 to train, 6 to validate."""
    root = tmp_path_factory.mktemp("images")
    for name, photograph in photographs().items():
        for split, start, count in (("train", 0, 8), ("val", 8, 6)):
            place = root / split / name
            place.mkdir(parents=True)
            rows = torch.linspace(0, photograph.shape[0] - 128, 14).int().tolist()
            columns = torch.linspace(0, photograph.shape[1] - 128, 14).int().tolist()
            for number in range(start, start + count):
                y, x = rows[number], columns[number]
                crop = photograph[y : y + 128, x : x + 128]
                Image.fromarray(crop.numpy()).save(place / f"{number}.png")
    return root


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Maps of a few pixels gain nothing from threads, and lose where other programs run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(threads)
