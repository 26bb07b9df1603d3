"""Comparing runs: mean and confidence band per setting, paired differences over seeds, pictures side by side."""
