"""Interactive views for notebooks; they need the notebooks extra."""
