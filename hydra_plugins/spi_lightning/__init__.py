"""What Hydra takes from a package of this name alone: how the jobs of a sweep are made and launched."""
