"""The embedded tracker: chained dense flow, each point held to its own first-frame patch. No weights.

A frame pair becomes dense flow (``pairs``); every window that covers the pair (``tracker``) moves its
points along it, refines each against its patch of the window's first frame (``patches``) and the motion
of the neighbours that moved like it (``motion``), and scores how well it is seen (``points``). Where a
window's points are all lost to another shot, they are hidden to its end (``cuts``).
"""

from amplify_motion_tokenizer.trackers.flow.tracker import FlowTracker

__all__ = ["FlowTracker"]
