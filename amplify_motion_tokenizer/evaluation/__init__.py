"""Numbers and pictures: of tracks against the truth, of codes, of how tracks move."""
