"""Motion without pixels: windows of point tracks, made up by the thousand."""

from amplify_motion_tokenizer.scenes.synthetic.windows import (
    SyntheticWindows,
    chosen_windows,
    synthetic_windows,
)

__all__ = ["SyntheticWindows", "chosen_windows", "synthetic_windows"]
