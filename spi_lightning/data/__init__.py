"""From files of patterns to what training and simulation read and write."""
