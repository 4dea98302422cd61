"""The command line: ``spectralkd`` and ``python -m spectralkd``; a file for each of its topics."""

from spectralkd.cli.app import main

__all__ = ["main"]
