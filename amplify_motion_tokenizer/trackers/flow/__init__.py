"""The embedded tracker: chained dense flow, each point held to its own first-frame patch. No weights.

A frame pair becomes dense flow (``pairs``); every window that covers the pair (``tracker``) moves its
points along it, refines each against its patch of the window's first frame (``patches``), carries those
that are hidden along with the neighbours that moved like them (``motion``), and scores how well each is
seen (``held``).
"""

from amplify_motion_tokenizer.trackers.flow.tracker import FlowTracker

__all__ = ["FlowTracker"]
