"""Inputs on another file system, tried on fsspec's memory and on one that breaks."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import UsageError, VideoError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.tracks.preprocessing import preprocess_folder
from amplify_motion_tokenizer.video.remote import input_of, list_files, local_copy
from amplify_motion_tokenizer.video.sources import find_clips
from tests.support.render_clips import numbered_frames
from tests.support.run_scripts import TINY, Work, files_below, manifest_of, render, statuses

TIMES = ("seconds", "stage_seconds", "source", "source_identity")


class Breaking(MemoryFileSystem):
    """Counts what is copied; names that hold ``broken`` break off, others that hold ``short`` end early."""

    protocol = "breaking"
    copied: list[str] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("breaking://"))

    def get_file(self, rpath: str, lpath: str, **options: Any) -> None:
        self.copied.append(rpath)
        if "broken" in rpath:
            raise ConnectionResetError("the other side\nhas gone")
        super().get_file(rpath, lpath, **options)
        if "short" in rpath:
            Path(lpath).write_bytes(Path(lpath).read_bytes()[:100])


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    """An empty file system in memory, whose copies go to a folder of the test's own."""
    system = fsspec.filesystem("memory")
    fsspec.register_implementation("breaking", Breaking, clobber=True)
    Breaking.copied = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    system.store.clear()
    yield system
    system.store.clear()
    assert not list((tmp_path / "copies").iterdir())  # whatever happened


def upload(system: MemoryFileSystem, folder: Path, to: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe_file(f"/{to}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def told(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        clip: {key: value for key, value in record.items() if key not in TIMES}
        for clip, record in manifest_of(folder).items()
    }


def left(folder: Path) -> dict[str, bytes]:
    return {
        name: data
        for name, (_, data) in files_below(folder).items()
        if name not in ("manifest.jsonl", "codes.jsonl")
    }


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    render(folder / "été 1.mp4", "pan")
    render(folder / "sub/b#.mp4", "zoom", 1)
    (folder / "sub/text.mp4").write_text("no frames here\n" * 50, encoding="utf-8")
    (folder / ".hidden").mkdir()
    (folder / "drawn").mkdir()
    for name in (".hidden/a.mp4", "drawn/a.mp4", ".a.mp4"):
        shutil.copy(folder / "été 1.mp4", folder / name)
    (folder / "drawn/drawings.yaml").write_text("{}")
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.mark.parametrize("output_format", ["hdf5", "pt"])
def test_tracks_are_those_of_the_same_files_here(
    memory: MemoryFileSystem, videos: Path, tiny: Config, tmp_path: Path, output_format: str
) -> None:
    upload(memory, videos, "bucket/clips")
    summary = preprocess_folder("memory://bucket/clips/", tmp_path / "out", tiny, output_format)
    assert (summary.done, summary.failed) == (2, 1)
    preprocess_folder(videos, tmp_path / "here", tiny, output_format)
    assert left(tmp_path / "out") == left(tmp_path / "here")
    records = manifest_of(tmp_path / "out")
    assert records["sub/b#"]["source"] == "memory://bucket/clips/sub/b#.mp4"
    error = records["sub/text"].pop("error")
    assert error.startswith("memory://bucket/clips/sub/text.mp4: ") and "copies" not in error
    expected = told(tmp_path / "here")
    assert expected.pop("sub/text")["error"].startswith(f"{videos}/sub/text.mp4: ")
    assert {clip: record for clip, record in told(tmp_path / "out").items() if clip in expected} == expected


def test_what_is_done_is_neither_copied_nor_made_again(
    memory: MemoryFileSystem, videos: Path, tiny: Config, tmp_path: Path
) -> None:
    upload(memory, videos, "clips")

    def run() -> tuple[dict[str, str], list[str]]:
        Breaking.copied.clear()
        preprocess_folder("breaking://clips", tmp_path / "out", tiny)
        return statuses(tmp_path / "out"), sorted(Breaking.copied)

    first, copied = run()
    assert copied == ["/clips/sub/b#.mp4", "/clips/sub/text.mp4", "/clips/été 1.mp4"]
    memory.rm_file("/clips/sub/text.mp4")
    assert run() == ({**first, "été 1": "skipped", "sub/b#": "skipped"}, [])
    # As many bytes, and other ones.
    content = bytearray(memory.cat_file("/clips/été 1.mp4"))
    content[-1] ^= 1
    memory.pipe_file("/clips/été 1.mp4", bytes(content))
    assert run()[1] == ["/clips/été 1.mp4"]
    # A run that was killed between a clip's file and its line left nothing to tell of it.
    lines = (tmp_path / "out/manifest.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "out/manifest.jsonl").write_text(
        "".join(line for line in lines if '"sub/b#"' not in line), encoding="utf-8"
    )
    assert run()[1] == ["/clips/sub/b#.mp4"]


def test_an_error_of_the_network_is_that_clips(
    memory: MemoryFileSystem, videos: Path, tiny: Config, tmp_path: Path
) -> None:
    for name in ("broken", "good", "short"):
        memory.pipe_file(f"/in/{name}.mp4", (videos / "été 1.mp4").read_bytes())
    summary = preprocess_folder("breaking://in", tmp_path / "out", tiny)
    assert (summary.done, summary.failed, summary.exit_status) == (1, 2, 3)
    records = manifest_of(tmp_path / "out")
    assert records["broken"]["error"] == (
        "breaking://in/broken.mp4: cannot be copied to this machine (ConnectionResetError: the other side "
        "has gone); run again"
    )
    assert "100 bytes came, and" in records["short"]["error"]
    assert {records[name]["stage"] for name in ("broken", "short")} == {"video"}


def test_views_of_a_clip(memory: MemoryFileSystem, videos: Path, tmp_path: Path) -> None:
    config = config_from_dict(
        {**TINY, "tracking": {**TINY["tracking"], "view_files": {"a": "{clip}_a.mp4", "b": "{clip}_b.mp4"}}},
        "in the test",
    )
    for name, view in (("one", "a"), ("one", "b"), ("two", "a")):
        memory.pipe_file(f"/in/{name}_{view}.mp4", (videos / "été 1.mp4").read_bytes())
    preprocess_folder("memory://in", tmp_path / "out", config)
    records = manifest_of(tmp_path / "out")
    assert (records["one"]["status"], records["two"]["status"]) == ("done", "failed")
    assert "is missing, the view b of the clip two" in records["two"]["error"]
    memory.pipe_file("/in/two_b.mp4", (videos / "été 1.mp4").read_bytes())
    preprocess_folder("memory://in", tmp_path / "out", config)
    assert statuses(tmp_path / "out") == {"one": "skipped", "two": "done"}


def test_pictures_of_a_sequence_and_a_lone_file(
    memory: MemoryFileSystem, videos: Path, tiny: Config, tmp_path: Path
) -> None:
    from PIL import Image

    for number, frame in enumerate(numbered_frames(3)):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
        memory.pipe_file(f"/in/seq/{number}.png", (tmp_path / f"{number}.png").read_bytes())
    (clip,) = find_clips("memory://in", tiny, ["default"])
    with local_copy(clip) as here:
        assert here.name == clip.name == "seq"
        assert [path.read_bytes() for path in here.paths] == [
            memory.cat_file(f"/in/seq/{number}.png") for number in range(3)
        ]
    memory.pipe_file("/in/film.mp4", b"x")
    (clip,) = find_clips("memory://in/film.mp4", tiny, ["default"])
    assert (clip.name, clip.source) == ("film", "memory://in/film.mp4")
    with pytest.raises(KeyError), local_copy(clip) as here:
        assert here.paths[0].name == "film.mp4" and here.paths[0].read_bytes() == b"x"
        raise KeyError


def test_codes(memory: MemoryFileSystem, work: Work, tmp_path: Path) -> None:
    upload(memory, work.videos, "clips")
    checkpoint = load_checkpoint(work.best)
    for _ in range(2):
        tokenize_folder("memory://clips", tmp_path, checkpoint, checkpoint.config, ["latents", "labels"])
    assert set(statuses(tmp_path).values()) == {"skipped"}
    assert left(tmp_path) == left(work.codes)
    assert (tmp_path / "codes.jsonl").read_bytes() == (work.codes / "codes.jsonl").read_bytes()


def test_names_that_lead_out_of_the_folder_are_left_out(
    memory: MemoryFileSystem, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("/in/../../evil.mp4", "/in/a//b.mp4", "/in/good.mp4"):
        memory.store[name] = memory.store.get(name) or _file(memory, name)
    listed = list_files("memory://in")
    assert [file.name for file in listed.files.values()] == ["good.mp4"]
    assert "2 files have names that are no paths below a folder" in caplog.text


def _file(memory: MemoryFileSystem, name: str) -> Any:
    memory.pipe_file("/x", b"x")
    return memory.store.pop("/x")


def test_no_room_is_told(memory: MemoryFileSystem, tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/in/a.mp4", b"x" * 3_000_000)
    (clip,) = find_clips("memory://in", tiny, ["default"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 1_000_000))
    with (
        pytest.raises(VideoError, match=r"memory://in/a\.mp4: its copy takes 3\.0 MB, and .* TMPDIR"),
        local_copy(clip),
    ):
        pass


def test_what_a_killed_process_left_goes(memory: MemoryFileSystem, tmp_path: Path, tiny: Config) -> None:
    from amplify_motion_tokenizer.files import unfinished_folder

    with unfinished_folder(tmp_path / "copies/clip") as folder:
        number = folder.name.split("-")[0]
    gone = tmp_path / "copies" / folder.name.replace(number, ".4194305", 1)
    gone.mkdir()
    (gone / "a.mp4").touch()
    memory.pipe_file("/in/a.mp4", b"x")
    (clip,) = find_clips("memory://in", tiny, ["default"])
    with local_copy(clip):
        assert not gone.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nowhere", "input memory://nowhere does not exist or is empty"),
        ("nonsense://a/b", r"input nonsense://a/b: ValueError: Protocol not known: nonsense.*s3://, gs://"),
        ("zip://a.mp4::memory://x.zip", "URLs within URLs are not read"),
        ("sftp://me:secret@host/clips", r"^input sftp://\.\.\.: holds a password"),
    ],
)
def test_what_cannot_be_listed(memory: MemoryFileSystem, url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list_files(url)


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_package_is_told_with_its_install_command(
    memory: MemoryFileSystem, protocol: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UsageError, match=rf"{protocol}:// needs a package that is missing: pip install {package}"
    ):
        list_files(f"{protocol}://bucket/clips")


def test_memory_is_this_processs_own(memory: MemoryFileSystem, videos: Path, tmp_path: Path) -> None:
    def config(**tracking: Any) -> Config:
        return config_from_dict({**TINY, "tracking": {**TINY["tracking"], **tracking}}, "in the test")

    for name in "ab":
        memory.pipe_file(f"/in/{name}.mp4", (videos / "été 1.mp4").read_bytes())
    with pytest.raises(UsageError, match=r"in this process's memory, and tracking\.clip_limit_s = 60"):
        preprocess_folder("memory://in", tmp_path / "out", config(clip_limit_s=60))
    assert preprocess_folder("memory://in", tmp_path / "out", config(num_workers=2)).done == 2


def test_every_listing_asks_anew(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems keep listings, and a process may go on for days."""
    asked: list[str] = []
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda _, path=None: asked.append(path))
    memory.pipe_file("/in/a.mp4", b"x")
    asked.clear()
    list_files("memory://in")
    assert asked == ["/in"]


@pytest.mark.parametrize("source", ["libero", "lerobot"])
def test_other_sources_are_refused(memory: MemoryFileSystem, source: str, tmp_path: Path) -> None:
    config = config_from_dict({**TINY, "video": {**TINY["video"], "source": source}}, "in the test")
    with pytest.raises(UsageError, match=f"a URL holds video files, not {source} data"):
        preprocess_folder("memory://in", tmp_path / "out", config)


def test_paths_and_urls_of_files_here_are_paths(tmp_path: Path) -> None:
    assert input_of(f"file://{tmp_path}/a b#%20.mp4") == tmp_path / "a b#%20.mp4"
    assert input_of(tmp_path) == input_of(str(tmp_path)) == input_of(f"file://{tmp_path}/") == tmp_path
    assert input_of("user/name") == Path("user/name")
    assert input_of("s3://bucket/clips") == "s3://bucket/clips"


def test_a_clip_of_unknown_age_is_made_again(
    memory: MemoryFileSystem, videos: Path, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that tells a size alone cannot tell that a file is what it was."""
    memory.pipe_file("/in/a.mp4", (videos / "été 1.mp4").read_bytes())
    real = MemoryFileSystem.find

    def sizes_alone(self: MemoryFileSystem, path: str, **options: Any) -> Any:
        found = real(self, path, **options)
        return {name: {k: v for k, v in info.items() if k != "created"} for name, info in found.items()}

    monkeypatch.setattr(MemoryFileSystem, "find", sizes_alone)
    for _ in range(2):
        preprocess_folder("memory://in", tmp_path / "out", tiny)
        assert statuses(tmp_path / "out") == {"a": "done"}
