"""Hostile input: files of every kind that the package reads, changed at random, and what reading them may do.

``python -m tests.fuzz`` (``make fuzz``) runs it; ``test_fuzz`` runs a small part of it within the suite.
"""
