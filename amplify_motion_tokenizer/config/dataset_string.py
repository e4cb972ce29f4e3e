"""``data.dataset``: the name of a data set and the share of its demonstrations to use."""

from __future__ import annotations

import re

from amplify_motion_tokenizer.errors import ConfigError

_DATASET = re.compile(r"(?P<name>[^:\s]+):(?P<modality>[a-z]+)(?P<fraction>-?(\d+(\.\d*)?|\.\d+))")


def parse_dataset(text: str) -> tuple[str, str, float]:
    """``name:traj0.9`` as (name, modality, fraction).

    The fraction is the share of the demos of each task, in (0, 1]; a negative one counts from the end.

    Raises:
        ConfigError: the text is of another form, or the fraction is 0 or beyond 1.
    """
    match = _DATASET.fullmatch(text)
    fraction = float(match["fraction"]) if match else 0.0
    if match is None or not 0 < abs(fraction) <= 1:
        raise ConfigError(
            f"dataset {text!r} is malformed; expected <name>:<modality><fraction>, such as libero_10:traj0.9 "
            "(the first 0.9 of each task's demos) or libero_10:traj-0.1 (the last 0.1)"
        )
    return match["name"], match["modality"], fraction
