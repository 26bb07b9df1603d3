"""Improving a trained model by what its own samples do to it, before it is sampled. ``improvement.py`` is where to
start reading."""
