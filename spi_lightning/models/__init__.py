"""Networks that tell single hits from other patterns."""
