"""Codes of a folder of videos, and for each clip the moment of another clip that moves most like its middle.

motion-tokenizer scenes --output my_videos --kinds articulated pan mixed zoom --clips 8 --frames 80
python examples/find_motion.py my_videos my/codes
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from amplify_motion_tokenizer import load_checkpoint, load_tokenizer, tokenize_folder
from amplify_motion_tokenizer.codes.search import Moment, nearest, query_moment
from amplify_motion_tokenizer.codes.search_index import searchable


def most_alike(codes: Path) -> Iterator[tuple[Moment, Moment]]:
    """For each clip the window at its middle, and the nearest window of another clip."""
    index = searchable(codes)
    for name, windows in index.clips.items():
        if not len(windows):  # nothing moved in it
            continue
        query = query_moment(index.clips, name, start_s=float(windows.seconds.mean()), seconds=0)
        found = nearest(index.clips, index.vectors, query, sum(map(len, index.clips.values())))
        others = [moment for moment in found if moment.clip != name]
        if others:
            yield query, others[0]


def main(videos: Path, codes: Path) -> None:
    """Writes the codes of ``videos`` to ``codes``, but for those that are there; prints what is alike."""
    settings = {"tracking.window_stride": 4, "tracking.num_workers": 1}  # None: one for each core
    tokenizer = load_tokenizer("default", settings=settings)
    print(tokenize_folder(videos, codes, load_checkpoint("default"), tokenizer.config))  # noqa: T201
    for query, found in most_alike(codes):
        begin = f"{found.seconds[0]:.2f} s"
        print(f"{query.clip} moves like {found.clip} from {begin} on ({found.distance:.2f})")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
