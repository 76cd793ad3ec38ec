"""A physical forward model of a single-particle imaging experiment."""
