"""Many clips: the loop over them, worker processes, the manifest, what an output folder holds."""
