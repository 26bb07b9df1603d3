"""Measuring one generation of a run again and again, on held-out captions."""
