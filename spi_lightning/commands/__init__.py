"""The console scripts: a checked config in, a library call, a summary out."""
