"""Sweeps: many runs of one recipe, a few at a time, as one command. ``command.py`` is where to start reading."""
