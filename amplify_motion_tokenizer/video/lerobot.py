"""LeRobotDataset v3 as clips: each episode is one, its cameras are views, several episodes lie in one mp4.

The layout, as LeRobot 0.4 and later write it (``lerobot.datasets``), of which this reads what it needs::

    meta/info.json                            fps, features (dtype video: a camera), path templates
    meta/episodes/chunk-000/file-000.parquet  a row per episode: length, and where its frames are
    data/chunk-000/file-000.parquet           a row per frame: episode_index, frame_index, timestamp, ...
    videos/<camera>/chunk-000/file-000.mp4    frames of several episodes, one after another
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from amplify_motion_tokenizer import foreign_parquet
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.damaged_files import DamagedError
from amplify_motion_tokenizer.errors import UsageError, VideoError
from amplify_motion_tokenizer.foreign_json import parse_json, read_regular
from amplify_motion_tokenizer.hub import folder_of, is_name
from amplify_motion_tokenizer.kinds import (
    MAPPING,
    RATE,
    TEXT,
    Kind,
    check_kinds,
    or_none,
    require_kinds,
    whole_from,
)
from amplify_motion_tokenizer.video.clips import Clip, Span, ViewSource
from amplify_motion_tokenizer.video.colours import ToRGB
from amplify_motion_tokenizer.video.decoders import Frames
from amplify_motion_tokenizer.video.faults import check_file, check_pixels, no_codec
from amplify_motion_tokenizer.video.reading import SourceFrames
from amplify_motion_tokenizer.video.timing import Rate

INFO, STATS, EPISODES, DATA = "meta/info.json", "meta/stats.json", "meta/episodes", "data"
"""Places of a data set's parts below its folder."""

_FILES = ("meta/*", "videos/*", "data/*")
"""What is fetched of a data set on the Hugging Face Hub."""

_CAMERAS = "observation.images."
"""How the keys of cameras begin, which views are named without."""

_VERSION = "v3."

_SECONDS: Kind = (
    lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e9,
    "seconds, 0 or more",
)
_FIELD = re.compile(r"\{(\w+)(?::0?\d{0,2}d)?\}")
"""What a path template may have filled in: a value, in at most 99 digits."""
_INFO_KINDS: dict[str, Kind] = {
    "codebase_version": TEXT, "fps": RATE, "features": MAPPING, "data_path": TEXT
}  # fmt: skip
_EPISODE_KINDS: dict[str, Kind] = {"episode_index": whole_from(0), "length": whole_from(1)}
_PLACE_KINDS: dict[str, Kind] = {
    "chunk_index": whole_from(0), "file_index": whole_from(0), "from_timestamp": _SECONDS
}  # fmt: skip


@dataclass(frozen=True)
class LeRobotDataset:
    """What a data set says of itself."""

    root: Path
    info: dict[str, Any]
    """The content of ``INFO``."""
    episodes: list[dict[str, Any]]
    """A row for each episode, in order, without its statistics."""

    @property
    def fps(self) -> float:
        """Frames per second of every episode."""
        return float(self.info["fps"])

    @property
    def cameras(self) -> dict[str, str]:
        """View names to the keys of cameras; depth maps are none."""
        videos = (key for key, feature in self.info["features"].items() if _is_camera(feature))
        return {key.removeprefix(_CAMERAS): key for key in sorted(videos)}

    def span(self, episode: Mapping[str, Any], camera: str) -> ViewSource:
        """Where the frames of a camera of an episode are.

        Raises:
            VideoError: the episode's row does not say, or names a file outside of the data set.
        """
        said: dict[str, Any] = {key: episode.get(f"videos/{camera}/{key}") for key in _PLACE_KINDS}
        name = f"{self.root / EPISODES}: episode {episode['episode_index']}: videos/{camera}"
        require_kinds(name, said, _PLACE_KINDS, VideoError)
        numbers = {key: said[key] for key in ("chunk_index", "file_index")}
        path = below(self.root, self.info["video_path"], VideoError, video_key=camera, **numbers)
        return ViewSource(path, span=Span(float(said["from_timestamp"]), episode["length"], self.fps))


def episode_name(index: int) -> str:
    """The name of an episode's clip."""
    return f"episode_{index:06d}"


def below(root: Path, template: str, error: type[VideoError | UsageError], **values: Any) -> Path:
    """The file that a path template of ``INFO`` names, which must lie below the data set's folder.

    Raises:
        TokenizerError: ``error``; it does not, or the template needs other values.
    """
    unknown = {match[1] for match in _FIELD.finditer(template)} - values.keys()
    if unknown or set("{}") & set(_FIELD.sub("", template)):
        found = f"it needs {', '.join(sorted(unknown))}" if unknown else "it is none that LeRobot writes"
        raise error(f"{root / INFO}: the path {template!r:.200} cannot be filled in ({found})")
    try:
        name = template.format(**values)
    except ValueError as fault:
        raise error(f"{root / INFO}: the path {template!r:.200} cannot be filled in ({fault})") from None
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise error(f"{root / INFO}: the path {template!r} leads out of the data set; expected one below it")
    return root / name


def parquet(what_needs: str = "LeRobot's data sets need") -> Any:
    """The module ``pyarrow.parquet``; ``what_needs`` it begins the message where it is missing.

    Raises:
        UsageError: it is not installed; says how to.
    """
    try:
        import pyarrow.parquet as found
    except ImportError:
        raise UsageError(
            f"{what_needs} pyarrow, which is not installed; pip install 'pyarrow>=17' (or this package with "
            "the extra lerobot)"
        ) from None
    return found


def read_dataset(root: Path) -> LeRobotDataset:
    """Reads what a data set says of itself.

    Args:
        root: its folder, or its name on the Hugging Face Hub, ``user/name`` or ``user/name@revision``.

    Raises:
        UsageError: there is none, it is of another version, or damaged; names the file and what it lacks.
    """
    if is_name(root):
        root = folder_of(str(root), "dataset", _FILES, UsageError)
    if not (root / INFO).is_file():
        raise UsageError(
            f"{root}: holds no {INFO}; expected the folder of a LeRobotDataset v3; videos are read with "
            "video.source: files"
        )
    try:
        info = parse_json(read_regular(root / INFO))
    except (OSError, ValueError) as error:
        raise UsageError(f"{root / INFO}: is not JSON ({error}); get the data set again") from None
    require_kinds(str(root / INFO), info, _INFO_KINDS, UsageError)
    check_kinds(str(root / INFO), info, {"video_path": or_none(TEXT)}, UsageError)
    if not info["codebase_version"].startswith(_VERSION):
        raise UsageError(
            f"{root / INFO}: codebase_version is {info['codebase_version']}, expected v3; convert it with "
            "python -m lerobot.scripts.convert_dataset_v21_to_v30"
        )
    usual = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    info["video_path"] = info.get("video_path") or usual
    return LeRobotDataset(root, info, _episodes(root))


def _episodes(root: Path) -> list[dict[str, Any]]:
    files = sorted((root / EPISODES).glob("*/*.parquet"))
    rows = [row for file in files for row in read_rows(file)]
    for row in rows:
        require_kinds(str(root / EPISODES), row, _EPISODE_KINDS, UsageError)
    rows.sort(key=lambda row: row["episode_index"])
    numbers = [row["episode_index"] for row in rows]
    if not rows or len(set(numbers)) < len(numbers):
        found = "no episodes" if not rows else "an episode twice"
        raise UsageError(f"{root / EPISODES}: holds {found}; get the data set again")
    return rows


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of episodes, without their statistics, which are many.

    Raises:
        UsageError: the file is damaged.
    """
    parquet()
    try:
        return foreign_parquet.read_rows(file, _without_statistics)
    except (DamagedError, OSError) as error:
        raise UsageError(f"{file}: cannot be read as Parquet ({error}); get the data set again") from None


def _without_statistics(schema: Any) -> list[str]:
    return [name for name in schema.names if not name.startswith("stats/")]


def camera_views(source: Path, config: Config) -> dict[str, str]:
    """View names to the keys of cameras: those of ``tracking.view_files``, else all that the data set has.

    Raises:
        UsageError: as ``read_dataset``; or there is no such camera.
    """
    there = read_dataset(source).cameras
    wanted = config.tracking.view_files or there
    missing = [key for key in wanted.values() if key not in there.values()]
    if missing or not wanted:
        found = f"lacks the camera {missing[0]}" if missing else "has no camera that is stored as video"
        cameras = ", ".join(there.values()) or "none"
        raise UsageError(f"{source / INFO}: {found}; cameras: {cameras}")
    return dict(wanted)


def find_episodes(source: Path, config: Config, views: Mapping[str, str]) -> list[Clip]:
    """A clip for each episode.

    Args:
        source: folder of a data set.
        config: not used.
        views: names of views to the keys of cameras.

    Raises:
        UsageError: as ``read_dataset``.
        VideoError: an episode does not say where its frames are.
    """
    data = read_dataset(source)
    return [
        Clip(
            episode_name(episode["episode_index"]),
            {view: data.span(episode, camera) for view, camera in views.items()},
        )
        for episode in data.episodes
    ]


def open_episode(place: ViewSource, threads: int) -> SourceFrames:
    """Opens one camera of one episode; what comes before it in the file is sought over.

    Raises:
        VideoError: the file cannot be read, or holds other frames than the data set says.
    """
    assert place.span is not None
    with _opened(place.path) as container:
        codec = container.streams.video[0].codec_context
        if codec is None:  # PyAV cannot decode it
            raise no_codec(place.path)
        size = codec.height, codec.width
    check_pixels(place.path, size)
    fps = place.span.fps
    return SourceFrames(
        place.path, "pyav", Rate(fps, fps, True), size, _frames(place, place.span, threads), span=place.span
    )


def _frames(place: ViewSource, span: Span, threads: int) -> Frames:
    half_s = 0.5 / span.fps
    count = 0
    with _opened(place.path) as container:
        stream: Any = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
        convert = ToRGB(place.path, str(stream.codec_context.name))
        try:
            container.seek(max(0, int((span.start_s - half_s) / stream.time_base)), stream=stream)
            for frame in container.decode(stream):
                time_s = -1.0 if frame.time is None else frame.time - span.start_s
                if time_s < -half_s:
                    continue
                if count == span.frames:
                    return
                if abs(time_s - count / span.fps) > half_s:
                    raise VideoError(
                        f"{place}: its frame {count} is at {time_s:.3f} s, expected {count / span.fps:.3f} s "
                        f"at {span.fps:g} fps; get the data set again"
                    )
                yield count / span.fps, convert(frame)
                count += 1
        except av.FFmpegError as error:
            raise VideoError(f"{place}: is damaged after {count} frames ({error})") from None
    if count < span.frames:
        raise VideoError(f"{place}: ends after {count} frames of {span.frames}; get the data set again")


def _opened(path: Path) -> Any:
    check_file(path)
    try:
        container = av.open(f"file:{path.absolute()}", metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise VideoError(f"{path}: cannot be opened as a video ({error}); get the data set again") from None
    if not container.streams.video or not container.format.name.startswith("mov,mp4"):
        container.close()
        raise VideoError(f"{path}: is no mp4 with a video in it; get the data set again")
    return container


def _is_camera(feature: Any) -> bool:
    if not isinstance(feature, Mapping) or feature.get("dtype") != "video":
        return False
    notes = [feature.get(name) for name in ("video_info", "info")]
    told = {key: value for note in notes if isinstance(note, Mapping) for key, value in note.items()}
    return not (told.get("is_depth_map") or told.get("video.is_depth_map"))
