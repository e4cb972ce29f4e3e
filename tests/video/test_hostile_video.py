"""Videos that would take more memory than there is, and files that name other files, fail alone."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from amplify_motion_tokenizer.config import VideoConfig
from amplify_motion_tokenizer.errors import VideoError
from amplify_motion_tokenizer.video import faults
from amplify_motion_tokenizer.video.reading import open_video
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import PREPROCESS, Run, manifest_of

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nprivate.ts\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile private.mp4\n", PLAYLIST])
def test_a_list_of_other_files_is_not_followed(tmp_path: Path, text: str) -> None:
    write_clip(tmp_path / "private.mp4", numbered_frames(8), 10)
    write_clip(tmp_path / "private.ts", numbered_frames(8), 10)
    (tmp_path / "clip.mp4").write_text(text, encoding="utf-8")
    with pytest.raises(VideoError, match=r"clip\.mp4: (is a list of other files|is not a video)"):
        open_video(tmp_path / "clip.mp4", VideoConfig())


@pytest.mark.parametrize("size", [(16, 2048), (2048, 16)])
def test_thin_pictures_fail_alone(run: Run, tmp_path: Path, size: tuple[int, int]) -> None:
    """Their shorter side at 480 made the longer one 61,440: gigabytes, or an error within OpenCV."""
    (tmp_path / "in").mkdir()
    thin = (np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8) for _ in range(18))
    write_clip(tmp_path / "in/thin.avi", thin, 20)
    write_clip(tmp_path / "in/well.mp4", numbered_frames(18, texture_seed=1), 20)
    result = run(PREPROCESS, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert result.status == 3 and "Traceback" not in result.err
    records = manifest_of(tmp_path / "out")
    assert records["well"]["status"] == "done" and records["thin"]["stage"] == "video"
    width, height = size[::-1]
    scale = 480 // min(size)
    assert (
        f"of {width}x{height} would be tracked at {width * scale}x{height * scale}"
        in records["thin"]["error"]
    )


def test_huge_pictures_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip.mp4", numbered_frames(8), 10)
    open_video(tmp_path / "clip.mp4", VideoConfig()).close()
    found = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    pixels = int(found.get(cv2.CAP_PROP_FRAME_WIDTH) * found.get(cv2.CAP_PROP_FRAME_HEIGHT))
    monkeypatch.setattr(faults, "MOST_PIXELS", pixels - 1)
    with pytest.raises(
        VideoError, match=rf"clip\.mp4: has pictures of \d+x\d+, and at most {pixels - 1} pixels"
    ):
        open_video(tmp_path / "clip.mp4", VideoConfig())
