"""The command line: a table of commands, one module for each, and what they share in ``cli``.

A command module has a docstring, which is its help; ``FLAGS``, the flags of its own; and ``main(argv)``,
which returns the exit status. Only the chosen command is imported, and what it computes with only after its
command line is understood, so that help and errors wait neither for torch nor for another command.
"""

from __future__ import annotations

COMMANDS = {
    "preprocess": "track points in every clip of a folder",
    "train": "train a tokenizer on a folder of tracks",
    "pretrain": "train the codec on made-up motion, with no videos",
    "infer": "write the motion codes of every clip of a folder",
    "merge": "join what runs with --shard left in one output folder",
    "decode": "turn codes back into tracks, and draw these beside the true ones",
    "scenes": "render small clips whose motion is known exactly",
    "draw": "draw tracks over the videos that they were made from",
    "search": "find moments of clips that move like a moment of one of them",
    "segment": "cut clips where their codes tell that the motion changes",
    "lerobot": "copy a LeRobotDataset with the motion codes of its episodes",
    "report": "write one HTML page about a training run, or about codes",
    "inspect": "tell how the points of a folder of tracks move",
    "evaluate": "hold tracks against true ones, and codes against each other",
    "convert": "convert checkpoints to and from the two systems that this project unites",
    "pack": "pack track files into a few arrays to train from",
}
"""Name of each command, which is also its module's, and what it does, in one line."""
