"""Decoding: the codes of a folder to tracks, and to videos of these tracks beside the true ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amplify_motion_tokenizer.codes.clip_codes import load_model
from amplify_motion_tokenizer.codes.decoded_files import FORMAT, write_decoded
from amplify_motion_tokenizer.codes.decoded_video import Shown, draw_decoded
from amplify_motion_tokenizer.codes.made_with import check_fits
from amplify_motion_tokenizer.codes.motion_codes import MotionCodes
from amplify_motion_tokenizer.codes.reading import MotionCodeSet, read_codes
from amplify_motion_tokenizer.codes.record import known_config_hashes
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import Given, build, config_from_dict, load_yaml
from amplify_motion_tokenizer.errors import TrackFileError, UsageError
from amplify_motion_tokenizer.evaluation.drawn_view import Style, check_source
from amplify_motion_tokenizer.file_names import CHECKPOINT_RECORD, DECODED, OUTPUT_CONFIG
from amplify_motion_tokenizer.jobs.fingerprint import fingerprint, is_made_of, total_bytes
from amplify_motion_tokenizer.jobs.folder_run import FolderRun
from amplify_motion_tokenizer.jobs.loop import Summary
from amplify_motion_tokenizer.models import MotionTokenizer
from amplify_motion_tokenizer.models.checkpoint import Checkpoint
from amplify_motion_tokenizer.tracks.find import find_recorded
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.tracks.stored import RecordedClip
from amplify_motion_tokenizer.video.clips import DEFAULT_VIEW, Clip, ViewSource
from amplify_motion_tokenizer.video.sources import find_clips, model_views

logger = logging.getLogger(__name__)

_RATE_TOLERANCE = 1e-4
"""Relative difference of two frame rates that are the same."""


def decode_folder(
    source: Path,
    output: Path,
    checkpoint: Checkpoint,
    videos: Path | None = None,
    tracks: Path | None = None,
    style: Style | None = None,
) -> Summary:
    """Writes the tracks that codes tell below ``output``, and where videos are given a drawing of each clip.

    ``<clip>.hdf5`` has the layout of tracks (docs/formats.md). ``<clip>.mp4`` shows the decoded tracks over
    the clip, the true ones on their left where they are given, and the codes below; of several views there is
    ``<clip>/<view>.mp4`` each. Everything is made anew. A clip that fails is recorded in ``manifest.jsonl``.

    Args:
        source: a file of codes of any format, or a folder of them.
        output: where to write.
        checkpoint: from ``load_checkpoint``, the one that made the codes.
        videos: the video, or the folder of the videos, that the codes were made from.
        tracks: a folder of the true tracks, or one track file; only with ``videos``.
        style: how points are drawn.

    Raises:
        UsageError: codes are missing, damaged or of another checkpoint, nothing says how their clips were
            read, ``videos`` holds none of their clips, or ``output`` cannot be used.
        TrackFileError: ``tracks`` holds none of the clips, or a file of it is damaged.
    """
    codes = read_codes(source)
    _check_made_by(codes, checkpoint)
    config = config_of_codes(codes, source, checkpoint)
    clips = {} if videos is None else clips_of_codes(codes, videos, config)
    true = {} if tracks is None else _true_of(codes, tracks)
    _check_output(output, [each for each in (videos, tracks) if each is not None], clips)
    unseen = {name: Clip(name, {DEFAULT_VIEW: ViewSource(source)}) for name in codes}
    made_by = {"checkpoint": checkpoint.path.name, "checkpoint_sha256": checkpoint.sha256}
    model = load_model(checkpoint, checkpoint.config)
    check_fits(codes, model, checkpoint.path.name)
    run = FolderRun.open(list((unseen | clips).values()), output, "decoded codes", overwrite=True)
    drawn = style or Style()
    record = {"codes": str(source), **made_by, **asdict(drawn), "starts": list(drawn.starts)}
    job = DecodingJob(output, codes, model, config, clips, true, drawn, record)
    return run.run(job, job)


def _check_made_by(codes: MotionCodeSet, checkpoint: Checkpoint) -> None:
    """Raises UsageError for codes that another checkpoint made, or none of its kind."""
    if not codes:
        raise UsageError(f"{codes.path}: holds no clips; give the output of infer")
    meta = next(iter(codes.values())).meta
    found, digest = meta.get("checkpoint_sha256"), checkpoint.sha256
    if found is not None and found != digest:
        raise UsageError(
            f"{codes.path}: holds codes of {meta.get('checkpoint')} (SHA-256 {found[:8]}...), expected "
            f"{checkpoint.path.name} ({digest[:8]}...); give --checkpoint the one that made them"
        )


def config_of_codes(codes: MotionCodeSet, source: Path, checkpoint: Checkpoint) -> Config:
    """The config that the clips of ``codes`` were tracked with: as stands beside them, or the checkpoint's.

    Raises:
        UsageError: it is another one, which nothing says.
    """
    meta = next(iter(codes.values())).meta
    own = checkpoint.config
    given = {
        "tracking.window_stride": Given(meta["window_stride"], ""),
        "data.camera": Given(meta.get("camera", "keep"), ""),
    }
    found = [build(own, given)]
    folders = (source, *source.resolve().parents)
    beside = next((folder for folder in folders if (folder / CHECKPOINT_RECORD).is_file()), None)
    if beside is not None and (beside / OUTPUT_CONFIG).is_file():
        path = beside / OUTPUT_CONFIG
        found.insert(0, config_from_dict(load_yaml(path), f"in {path}"))
    for config in found:
        known = known_config_hashes(config, checkpoint.sha256, own.data.views)
        if meta.get("config_hash") in (None, *known):
            return config
    raise UsageError(
        f"{codes.path}: its clips were tracked with other settings than {checkpoint.path.name} has, and no "
        f"{OUTPUT_CONFIG} beside it tells them; give the folder that infer wrote"
    )


def clips_of_codes(codes: MotionCodeSet, videos: Path, config: Config) -> dict[str, Clip]:
    """The videos of the clips of ``codes``, by name.

    Raises:
        UsageError: there are none.
    """
    found = find_clips(videos, config, model_views(videos, config))
    clips = {clip.name: clip for clip in found if clip.name in codes}
    if not clips:
        raise UsageError(
            f"{videos}: none of its clips has codes in {codes.path} (clips: "
            f"{', '.join([clip.name for clip in found][:3])}; codes: {', '.join(list(codes)[:3])}); give the "
            "input that codes were made of"
        )
    if len(clips) < len(codes):
        logger.warning("%s: lacks %d clips of the codes; not drawn", videos, len(codes) - len(clips))
    return clips


def _true_of(codes: MotionCodeSet, tracks: Path) -> dict[str, RecordedClip]:
    """The true tracks of the clips of ``codes``, by name.

    Raises:
        TrackFileError: there are none.
    """
    found = find_recorded(tracks)
    true = {name: file for name, file in found.items() if name in codes}
    if not true:
        raise TrackFileError(
            f"{tracks}: holds tracks of none of the clips in {codes.path} (tracks: "
            f"{', '.join(list(found)[:3])}; codes: {', '.join(list(codes)[:3])}); give these clips' tracks"
        )
    if len(true) < len(codes):
        logger.warning("%s: lacks %d clips of the codes; not drawn beside", tracks, len(codes) - len(true))
    return true


def _check_output(output: Path, inputs: list[Path], clips: Mapping[str, Clip]) -> None:
    """Raises UsageError where what is written would lie in an input, or take the place of a video."""
    for source in inputs:
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{output} lies in the input {source}; choose an --output outside it")
    sources = {path.resolve() for clip in clips.values() for path in clip.paths}
    for target in (each for clip in clips.values() for each in _targets(output, clip.name, list(clip.views))):
        if target.resolve() in sources:
            raise UsageError(f"{target} would be written over by a drawing; choose another --output")


def _targets(output: Path, clip: str, views: Sequence[str]) -> list[Path]:
    """The mp4 file of each view of the clip."""
    names = [clip] if len(views) == 1 else [f"{clip}/{view}" for view in views]
    return [output / f"{name}.mp4" for name in names]


@dataclass(frozen=True)
class DecodingJob:
    """What is made of the codes of each clip, in one process."""

    output: Path
    codes: MotionCodeSet
    model: MotionTokenizer
    config: Config
    """That the clips were tracked with."""
    clips: Mapping[str, Clip]
    """The clips whose videos are there, by name."""
    true: Mapping[str, RecordedClip]
    """The clips whose true tracks are there, by name."""
    style: Style
    record: Mapping[str, Any]
    """What the output folder says of itself."""

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        """Which codes were decoded, and how they are drawn."""
        return {DECODED: dict(self.record)}

    def changed(self) -> list[str]:
        """Empty, as everything is made again."""
        return []

    def prepare(self, threads: int) -> DecodingJob:
        """The job itself."""
        return self

    def is_complete(self, clip: Clip) -> bool:
        """False, as everything is made again."""
        return False

    def __call__(self, clip: Clip) -> dict[str, Any]:
        """Writes tracks of ``clip``, and where its video is there a drawing; returns what is told of it."""
        codes, drawn = self.codes[clip.name], clip.name in self.clips
        if drawn:
            check_video(codes, clip, self.true.get(clip.name))
        target = FORMAT.target(self.output, clip.name)
        files = write_decoded(
            codes, self.model, self.config, target, source_record(codes, clip if drawn else None)
        )
        if drawn:
            if len(files) > 1:
                logger.warning("%s: its pictures change their size; only the first are drawn", clip.source)
            self._draw(codes, clip, target)
        else:  # one of other codes would be told apart by nothing
            for path in _targets(self.output, clip.name, codes.meta.get("views", (DEFAULT_VIEW,))):
                path.unlink(missing_ok=True)
        return {"output": target.relative_to(self.output).as_posix(), "windows": len(codes)}

    def _draw(self, codes: MotionCodes, clip: Clip, target: Path) -> None:
        views = list(clip.views)
        decoded = TrackFile(target, list(codes.meta.get("views", views)))
        shown = [Shown(f"decoded from {codes.ids.shape[1]} codes", decoded)]
        if clip.name in self.true:
            true = self.true[clip.name]
            if len(true.views) > 1:
                true = true.with_views(views)
            shown.insert(0, Shown("true tracks", true))
        draw_decoded(clip, codes, shown, _targets(self.output, clip.name, views), self.config, self.style)


def check_video(codes: MotionCodes, clip: Clip, true: RecordedClip | None = None) -> None:
    """Raises TrackFileError unless codes and true tracks were made of the video as it is, at one rate."""
    if _of_video(codes) and not is_made_of(codes.meta, clip.paths):
        raise TrackFileError(
            f"{clip.source}: has {total_bytes(clip.paths)} bytes and is not the video that its codes "
            f"were made of, of {codes.meta.get('source_bytes')}; give that one, or run inference again"
        )
    if true is not None:
        fps = codes.meta.get("fps")
        check_source(true, clip)
        if true.fps is not None and fps is not None and abs(true.fps - fps) > _RATE_TOLERANCE * fps:
            raise TrackFileError(
                f"{true.path}: has {true.fps:g} frames per second, and the codes were made at {fps:g}; "
                "give tracks of the same video.target_fps"
            )


def _of_video(codes: MotionCodes) -> bool:
    """Whether codes were made of a video, not of stored tracks."""
    return "parts" in codes.meta


def source_record(codes: MotionCodes, clip: Clip | None) -> dict[str, Any]:
    """What is recorded of the clip's files: of its video where that is there, else what codes say."""
    if clip is not None:
        paths = clip.paths
        return {
            "source_name": paths[0].name,
            "source_bytes": total_bytes(paths),
            "source_fingerprint": fingerprint(paths),
        }
    meta = codes.meta
    return {
        "source_name": meta.get("source") or codes.clip,
        "source_bytes": meta.get("source_bytes") or 0,
        "source_fingerprint": meta.get("source_fingerprint") or "",
    }
