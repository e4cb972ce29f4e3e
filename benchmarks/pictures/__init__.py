"""The pictures of README and docs that are made of rendered scenes and of the package: ``make pictures``."""
