"""Codes: clips to motion codes with a trained tokenizer, and what is done with the codes."""
