"""Runs: recipes, the training loop, their folders and processes."""
