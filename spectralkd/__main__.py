"""``python -m spectralkd``: the command line."""

from spectralkd.cli import main

main()
