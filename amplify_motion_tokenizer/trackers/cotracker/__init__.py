"""CoTracker (Karaev et al. 2024, "CoTracker3") through torch.hub.

Its code and weights are non-commercial, so neither is shipped: torch.hub downloads them, or the
config names a local clone and a weights file.
"""

from amplify_motion_tokenizer.trackers.cotracker.tracker import CoTracker

__all__ = ["CoTracker"]
