"""From a trained ensemble to the scores of patterns."""
