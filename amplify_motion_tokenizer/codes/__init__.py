"""Clips to codes, and what is done with codes."""
