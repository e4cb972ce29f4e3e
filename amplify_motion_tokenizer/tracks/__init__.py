"""Tracks on disk: AMPLIFY's HDF5 files, velocity files, packs, and the folder run that makes them."""
