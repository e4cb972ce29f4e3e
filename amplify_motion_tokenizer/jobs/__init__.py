"""Jobs over many clips: the loop, worker processes, the manifest, what an output folder holds."""
