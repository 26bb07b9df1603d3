"""Imported once, in the process that workers are forked from, so that none of them imports it again."""

from sc_loops.start import quieten

quieten()
