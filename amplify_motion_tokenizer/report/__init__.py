"""One HTML page about a training run, or about codes, that needs nothing but itself."""
