"""What a run used, as BibTeX."""
