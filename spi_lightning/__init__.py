"""Single-particle imaging at X-ray free-electron lasers: from detector files to single hits."""

__version__ = "0.1.0"
