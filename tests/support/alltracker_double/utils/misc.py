"""A module of a name that many have."""

SCALE = 1.0
