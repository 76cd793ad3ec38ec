"""Random variants of training patterns, in two pipelines behind one interface."""
