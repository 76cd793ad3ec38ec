"""Orientations of particles."""
