"""What notebooks and reports show; needs the ``notebooks`` extra."""
