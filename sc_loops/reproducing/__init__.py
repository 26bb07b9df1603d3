"""The published claims, each with the runs that repeat it: made by one command, and written into docs/papers.md."""
