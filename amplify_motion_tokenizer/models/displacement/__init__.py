"""Tokenizers that write a window's displacements as waves over time and grid: transform, and codec."""
