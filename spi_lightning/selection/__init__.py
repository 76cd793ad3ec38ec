"""Selections of patterns: steps that keep some and drop others, what was measured for them, and their file."""
