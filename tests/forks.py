"""Processes that begin with torch and the package imported, which spares them seconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from typing import Any
from unittest import mock

from spectralkd.training import api

assert api  # imported before the fork
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["forks"])


def start(function: Callable[..., None], *args: Any) -> BaseProcess:
    """A process that calls a function of a module."""
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(sys.path)}):
        forkserver.ensure_running()  # where it can import the tests' modules
    process = _forks.Process(target=function, args=args, daemon=True)
    process.start()
    return process
