"""Pages about runs and about codes: what they say, that they load nothing, and what is refused."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer.codes.tokenizer import load_tokenizer
from amplify_motion_tokenizer.commands.report import main
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import TokenizerError
from amplify_motion_tokenizer.evaluation import plain_coders
from amplify_motion_tokenizer.report import build
from amplify_motion_tokenizer.report.build import MOST_BYTES, Request, write_report
from amplify_motion_tokenizer.tracks.find import find_recorded
from amplify_motion_tokenizer.tracks.pack_writing import write_pack
from tests.support.pages import Page, content_of, made_up_codes, write_made_up, write_run, write_tracks_of
from tests.support.run_scripts import TINY, Run, render
from tests.support.tracked import write_velocities

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)
NASTY = "<script>alert(1)</script>&\"'"
"""A name that would be code where it is not escaped; without a slash, so that a file can have it."""
HOSTILE = NASTY.replace("/", "\u2215")


@dataclasses.dataclass
class Made:
    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def codes(self) -> Path:
        return self.folder / "codes.jsonl"

    @property
    def videos(self) -> Path:
        return self.folder / "videos"

    @property
    def tracks(self) -> Path:
        return self.folder / "tracks"


@pytest.fixture(autouse=True, scope="module")
def _components_of_few_windows() -> Iterator[None]:
    """What the PCA coder's components are fitted to takes seconds, and decides nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_coders, "FIT_WINDOWS", 100)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run, two videos, their codes by the run's tokenizer, and tracks of the first of them."""
    folder = tmp_path_factory.mktemp("report")
    config = config_from_dict(TINY, "in the tests")
    made = Made(folder)
    write_run(made.run, config, ("pan", HOSTILE))
    tokenizer = load_tokenizer(made.run / "best.pth", "cpu")
    names = ("pan", HOSTILE)
    paths = [render(made.videos / f"{name}.mp4", "pan", seed) for seed, name in enumerate(names)]
    write_made_up(made.codes, *(tokenizer.encode_video(path) for path in paths))
    write_tracks_of(made.tracks, config, names)
    return made


def report(source: Path, output: Path, **more: Any) -> Page:
    size = write_report(Request(source, output, overwrite=True, **more), NOW)
    assert size == output.stat().st_size
    page = Page(output)
    assert size < MOST_BYTES
    assert page.text.startswith("<!doctype html>")
    # Nothing is loaded: content lies in the page, links lead to its own sections.
    anchors = {found["id"] for _, found in page.elements if "id" in found}
    for address in page.addresses:
        assert address.startswith("data:") or address.removeprefix("#") in anchors, address[:80]
    assert not page.of("link")
    assert not page.of("iframe")
    assert not re.search(r"@import|url\(|https?:", page.text.replace(NASTY, ""))
    assert all("alt" in found for found in page.of("img"))
    return page


@pytest.fixture(scope="module")
def of_codes(made: Made) -> Page:
    """The page of codes with all that it can be made from."""
    more = {"given": made.videos, "tracks": made.tracks, "checkpoint": str(made.run / "best.pth")}
    return report(made.codes, made.folder / "codes.html", command=["motion-tokenizer", NASTY], **more)


def test_a_run_alone_has_its_curves_and_says_what_it_lacks(made: Made, tmp_path: Path) -> None:
    page = report(made.run, tmp_path / "run.html")
    assert "best held-out loss 1.5 at step 20 of 30" in page.told
    assert page.told.count("Needs tracks") == 3
    assert "give a folder of them with --tracks" in page.told
    # The three points that were logged, and the losses of training at double their height.
    loss = page.text.split("<figcaption>Loss</figcaption>")[1].split("</figure>")[0]
    cells = r'<th scope="row">(\d+)</th><td class="number">([\d.]+)</td>.*?>([\d.]+)</td></tr>'
    rows = re.findall(cells, loss)
    assert rows == [("10", "6", "3"), ("20", "3", "1.5"), ("30", "4.5", "2.25")]
    held_out = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*c1"', loss)
    heights = [float(y) for _, y in held_out]
    assert len(heights) == 3
    assert (heights[0] - heights[1]) / (heights[0] - heights[2]) == pytest.approx(1.5 / 0.75, rel=0.02)
    assert "pan" in page.told
    assert HOSTILE in page.told


def test_a_run_with_tracks_is_judged_on_them(made: Made, tmp_path: Path) -> None:
    page = report(made.run, tmp_path / "run.html", given=made.tracks, clips=1)
    assert "Needs" not in page.told
    coders = {"best (this one)", "best (this one), likeliest class"}
    coders |= {"no motion", "one similarity", "PCA", "DCT"}
    table = page.text.rsplit("With all ids, the least error first", 1)[1].split("</table>")[0]
    assert coders <= set(re.findall(r'<th scope="row">([^<]*)</th>', table))
    assert "On 16 windows of 2 clips" in page.told
    assert "codec and transform cannot be judged on them" in page.told
    assert "16 windows of" in page.told  # the use of the codebook
    assert "1 more are left out" in page.told
    label_map = next(found for found in page.of("img") if "velocity classes" in found["alt"])
    assert "7 x 7" in label_map["alt"]
    assert cv2.imdecode(np.frombuffer(content_of(label_map["src"]), np.uint8), cv2.IMREAD_COLOR) is not None


def test_clips_play_above_their_codes(made: Made, of_codes: Page) -> None:
    videos = of_codes.of("video")
    assert len(videos) == 2
    for found in videos:
        assert "true tracks, decoded from 3 ids" in found["aria-label"]
        with av.open(BytesIO(content_of(found["src"]))) as file:
            stream = file.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert len(frames) == 14  # to the end of the last window: 8 + 6 frames at 10 a second
        assert frames[0].shape == (240, 2 * 320 + 4, 3)
        assert (int(found["width"]), int(found["height"])) == (644, 240)


def test_equal_ids_have_equal_colours_and_follow_the_video(tmp_path: Path) -> None:
    codes = made_up_codes([[3, 7], [3, 8], [9, 7]], stride=2)
    page = report(write_made_up(tmp_path / "codes.jsonl", codes), tmp_path / "page.html")
    (strip,) = (found for found in page.of("img") if "over time" in found["alt"])
    pixels = cv2.imdecode(np.frombuffer(content_of(strip["src"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels.shape == (2, 10, 4)  # two ids; to the end of the last window, 4 + 6 frames
    first, second = pixels
    assert (first[0] == first[1:4]).all()
    assert (first[4] != first[0]).any()
    assert (second[0] == second[4]).all()
    assert (second[0] != second[2]).any()
    assert (pixels[:, 6:, 3] == 0).all()
    (data,) = (json.loads(text) for text in page.scripts if text.startswith("{"))
    assert data["starts"] == [0, 2, 4]
    assert data["ids"] == [[3, 7], [3, 8], [9, 7]]
    blue, green, red, _ = (int(value) for value in first[0])
    assert data["colours"]["3"] == f"#{red:02x}{green:02x}{blue:02x}"


def test_codes_alone_say_what_to_give(tmp_path: Path) -> None:
    ids = np.arange(30).reshape(10, 3) % 20
    page = report(write_made_up(tmp_path / "codes.jsonl", made_up_codes(ids)), tmp_path / "page.html")
    assert "give their videos with --input" in page.told
    assert "give --checkpoint theirs.pth" in page.told
    assert "give a folder of them with --tracks" in page.told
    assert not page.of("video")


def test_codes_of_which_little_is_known_have_a_page(tmp_path: Path) -> None:
    nothing = made_up_codes(np.zeros((0, 2), int))
    page = report(write_made_up(tmp_path / "none.jsonl", nothing), tmp_path / "page.html")
    assert "no clip has windows" in page.told
    unknown = {"seconds": torch.full((4, 2), math.nan).double(), "motion_energy": torch.full((4,), math.nan)}
    codes = dataclasses.replace(made_up_codes([[1, 2]] * 4, fps=None), **unknown)
    gone = ("fsq_levels", "checkpoint_sha256", "config_hash")
    codes = dataclasses.replace(codes, meta={key: codes.meta[key] for key in codes.meta if key not in gone})
    page = report(write_made_up(tmp_path / "few.jsonl", codes), tmp_path / "page.html")
    assert "seconds are not known" in page.told
    assert "4 windows, 12 frames" in page.told
    assert "motion: not known" in page.told


def test_tracks_without_positions_are_told_of(made: Made, tmp_path: Path) -> None:
    config = config_from_dict(TINY, "in the tests")
    write_velocities(tmp_path / "velocities" / "a", config, 3)
    page = report(made.run, tmp_path / "page.html", tracks=tmp_path / "velocities")
    assert "holds velocities, and no positions; give track files (HDF5)" in page.told
    assert "Of 3 windows of" in page.told
    write_pack(find_recorded(made.tracks), tmp_path / "pack")
    page = report(made.run, tmp_path / "page.html", tracks=tmp_path / "pack")
    assert "is a pack; give the folder of track files that it was made from" in page.told
    assert "Of 16 windows of" in page.told


def test_the_codebook_is_told_as_it_is_used(tmp_path: Path) -> None:
    # Of 20 codes 0 and 5 alike, never another: perplexity 2, and 18 do not occur.
    page = report(
        write_made_up(tmp_path / "codes.jsonl", made_up_codes([[0, 5]] * 4 + [[5, 0]] * 4)),
        tmp_path / "page.html",
    )
    assert "16 ids are 2 of 20 codes; 18 do not occur. Perplexity 2" in page.told
    assert "The 18 codes that do not occur 1\u20134, 6\u201319" in page.told
    entropies = page.text.rsplit("Entropy of each digit", 1)[1].split("</figure>")[0]
    # 0 is (0, 0) and 5 is (0, 1): the first digit never changes, the second has 1 bit of 2.
    assert re.findall(r">([\d.]+)</td>", entropies) == ["0", "0.5"] * 3
    alike = page.text.rsplit("Equal ids in windows that overlap", 1)[1].split("</table>")[0]
    # Windows one stride apart are equal but for one pair of seven.
    assert re.findall(r">([\d.]+)</td>", alike)[:3] == ["0.857", "0.429", "7"]


def test_names_are_text_wherever_they_stand(made: Made, of_codes: Page, tmp_path: Path) -> None:
    codes = made_up_codes([[1, 2]] * 3, clip=NASTY, checkpoint=NASTY, source=NASTY, extra=NASTY)
    folder = tmp_path / HOSTILE
    folder.mkdir()
    page = report(write_made_up(folder / "codes.jsonl", codes), tmp_path / "page.html", command=[NASTY])
    for each, scripts in ((page, 2), (of_codes, 3)):  # the page's own, and data of each clip
        assert len(each.of("script")) == scripts
        assert not any(name.startswith("on") for _, found in each.elements for name in found)
        assert not any("alert" in text for text in each.scripts)
    assert page.told.count(NASTY) >= 4
    assert HOSTILE in of_codes.told


def test_a_full_page_leaves_out_and_says_so(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MOST_MEDIA", 20_000)
    more = {"given": made.videos, "checkpoint": str(made.run / "best.pth")}
    page = report(made.codes, tmp_path / "page.html", **more)
    assert "2 pictures or videos are left out, to keep the page below 10 MB" in page.told
    assert page.told.count("Its video is left out") == 2
    assert len([found for found in page.of("img") if "over time" in found["alt"]]) == 2


def test_many_long_clips_stay_below_the_limit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    more = {"codebook_size": 4000, "fsq_levels": [80, 50]}
    ids = rng.integers(0, 4000, (26, 300, 32))
    clips = [made_up_codes(of_clip, f"{number}", 1, **more) for number, of_clip in enumerate(ids)]
    page = report(write_made_up(tmp_path / "codes.jsonl", *clips), tmp_path / "page.html", clips=24)
    assert "24 of 26 clips; --clips shows more" in page.told
    assert "the first 12 s shown" in page.told


@pytest.mark.parametrize("kind", ["two", "version", "cut", "none"])
def test_codes_that_are_no_codes_of_one_run_are_refused(tmp_path: Path, kind: str) -> None:
    path = write_made_up(tmp_path / "codes.jsonl", made_up_codes([[1, 2]] * 3))
    line = path.read_text(encoding="utf-8")
    more = write_made_up(tmp_path / "b.jsonl", made_up_codes([[1, 2]], "b", checkpoint_sha256="2" * 64))
    newer = line.replace('"format_version": 1', '"format_version": 7')
    content, told = {
        "two": (line + more.read_text(encoding="utf-8"), "holds codes of several runs"),
        "version": (newer, "format version 7, expected 1"),
        "cut": (line[: len(line) // 2], "is damaged"),
        "none": ("", "holds the codes of no clip"),
    }[kind]
    path.write_text(content, encoding="utf-8")
    refused(path, tmp_path, told)


def refused(source: Path, folder: Path, told: str, **more: Any) -> None:
    """The page that is there stays as it is."""
    output = folder / "page.html"
    output.write_text("before", encoding="utf-8")
    with pytest.raises(TokenizerError, match=re.escape(told)) as caught:
        write_report(Request(source, output, overwrite=True, **more), NOW)
    assert "\n" not in str(caught.value)
    assert output.read_text(encoding="utf-8") == "before"
    assert not list(folder.glob(".*tmp*"))


def test_what_is_neither_codes_nor_a_run_is_refused(made: Made, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, tmp_path, "holds neither codes nor checkpoints; expected the output folder of infer")
    refused(tmp_path / "absent", tmp_path, "absent: does not exist")
    refused(made.videos, tmp_path, "holds neither codes nor checkpoints")
    refused(made.run / "best.pth", tmp_path, "is a checkpoint; give the folder of its run")
    absent = tmp_path / "absent"
    refused(made.run, tmp_path, "absent: does not exist; expected a folder of tracks", tracks=absent)
    refused(made.run, tmp_path, "leave one of them out", tracks=made.tracks, given=made.tracks)
    refused(made.run, tmp_path, "leave --checkpoint out", checkpoint="codec")
    refused(made.codes, tmp_path, "is another file", checkpoint="transform")
    config = config_from_dict({**TINY, "data": {**TINY["data"], "grid_size": 4}}, "in the tests")
    other = write_tracks_of(tmp_path / "other", config, ("a",))
    refused(made.run, tmp_path, "expected T = 6", tracks=other)


def test_a_run_that_is_damaged_is_refused(made: Made, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(made.run, tmp_path / "cut"))
    whole = (made.run / "best.pth").read_bytes()
    (cut / "best.pth").write_bytes(whole[: len(whole) // 2])
    refused(cut, tmp_path, "best.pth: is damaged")


def test_videos_must_be_those_of_the_codes(made: Made, tmp_path: Path) -> None:
    render(tmp_path / "videos" / "pan.mp4", "zoom", 5)
    refused(made.codes, tmp_path, "is not the video that its codes were made of", given=tmp_path / "videos")
    render(tmp_path / "others" / "another.mp4", "zoom", 5)
    refused(made.codes, tmp_path, "none of its clips has codes in", given=tmp_path / "others")


def test_a_page_is_replaced_only_where_that_is_wanted(made: Made, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    output.write_text("before", encoding="utf-8")
    with pytest.raises(TokenizerError, match="is there already; give --overwrite"):
        write_report(Request(made.run, output), NOW)
    assert output.read_text(encoding="utf-8") == "before"
    with pytest.raises(TokenizerError, match=r"expected the name of a page, such as report\.html"):
        write_report(Request(made.run, made.codes, overwrite=True), NOW)
    report(made.run, output)


def test_the_command_writes_the_page_and_refuses_in_one_line(made: Made, tmp_path: Path, run: Run) -> None:
    script = "amplify_motion_tokenizer/__main__.py"
    done = run(script, "report", made.run, "--output", tmp_path / "page.html")
    assert (done.status, done.err) == (0, "")
    assert re.fullmatch(r"report: .*page\.html \(0\.\d\d MB\)\n", done.out)
    page = Page(tmp_path / "page.html")
    assert f"motion-tokenizer report {made.run}" in page.told
    again = run(script, "report", made.run, "--output", tmp_path / "page.html")
    assert "is there already; give --overwrite to replace it" in again.error
    with pytest.raises(TokenizerError, match="--clips is 25; expected 1 to 24"):
        main([str(made.run), "--output", "x.html", "--clips", "25"])
