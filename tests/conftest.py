"""What tests share: a tiny config, tracks with known motion, odd clips, and the commands, run once."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.tracks.hdf5 import TrackFileWriter
from tests.support.render_clips import (
    VFR_MS,
    audio_only,
    cut_file,
    numbered_frames,
    rotate_mp4,
    trim_by_edit_list,
)
from tests.support.render_clips import write_clip as encode_clip

# Its assertions tell as much as those of the tests.
pytest.register_assert_rewrite("tests.support.run_scripts")

from tests.support.run_scripts import (  # noqa: E402
    CLIPS,
    ENVIRONMENT,
    INFER,
    LEARNING,
    LONGEST_S,
    PREPROCESS,
    REPO,
    TINY,
    TRAIN,
    Result,
    Run,
    Work,
    command,
    render,
    run_process,
    run_script,
    write_config,
)
from tests.support.tracked import clip_record_of, random_windows  # noqa: E402

# A shell starts what runs in the background with Ctrl-C ignored, and the commands here would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The models here are too small to share between threads.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its precision for the whole process; each test chooses its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def tiny() -> Config:
    """A config whose model trains in milliseconds."""
    return config_from_dict(TINY, "in the tests")


@pytest.fixture
def write_tracks(tiny: Config) -> Callable[..., Path]:
    """Writes a track file of random windows: ``write_tracks(path, count, seed=0, size=(48, 64))``."""

    def write(
        path: Path, count: int, seed: int = 0, size: tuple[int, int] = (48, 64), config: Config = tiny
    ) -> Path:
        with TrackFileWriter(path, clip_record_of(config), size) as writer:
            for window in random_windows(config, count, seed, size):
                writer.append(window)
            writer.finish(num_frames=count * 2 + 4, windows_dropped=0)
        return path

    return write


@pytest.fixture
def run_config(tmp_path: Path, tiny: Config, write_tracks: Callable[..., Path]) -> Config:
    """Four clips of seven windows: twelve steps in two epochs, the last of each smaller than others."""
    for number in range(4):
        write_tracks(tmp_path / "tracks" / f"{number}.hdf5", 7, seed=number)
    return tiny


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small clips, named after what is odd about them."""
    folder = tmp_path_factory.mktemp("clips")
    for fps in (10, 20, 25, 30, 60):
        encode_clip(folder / f"{fps}.mp4", numbered_frames(30, texture_seed=fps), fps)
    encode_clip(folder / "30.mkv", numbered_frames(30), 30)
    encode_clip(folder / "vfr.mp4", numbered_frames(40), 25, pts=VFR_MS)
    encode_clip(folder / "vfr.mkv", numbered_frames(40), 25, pts=VFR_MS)
    textured = list(numbered_frames(25, 61, 47, texture_seed=1))
    encode_clip(folder / "odd.webm", textured, 25, codec="libvpx-vp9", options={"deadline": "realtime"})
    encode_clip(folder / "odd.avi", textured, 25, codec="mpeg4")
    encode_clip(folder / "mpeg4.mp4", numbered_frames(30, texture_seed=4), 25, codec="mpeg4")
    encode_clip(folder / "ten_bit.mp4", numbered_frames(10, texture_seed=2), 25, pix_fmt="yuv420p10le")
    encode_clip(folder / "bt709.mp4", numbered_frames(10, texture_seed=3), 25, colorspace=1)
    encode_clip(folder / "no_timestamps.avi", numbered_frames(25), 25, codec="mpeg4", options={"bf": "2"})
    encode_clip(folder / "mjpeg.avi", numbered_frames(25), 25, codec="mjpeg", pix_fmt="yuvj420p")
    encode_clip(folder / "stream.ts", numbered_frames(60), 25, options={"g": "20"})
    encode_clip(folder / "stream.mpg", numbered_frames(25), 25, codec="mpeg2video")
    encode_clip(folder / "b_frames.mp4", numbered_frames(60), 25, options={"bf": "3", "g": "12"})
    encode_clip(folder / "one.mp4", numbered_frames(1), 10)
    for degrees in (90, 180, 270):
        rotate_mp4(folder / "25.mp4", folder / f"turned{degrees}.mp4", degrees)
    trim_by_edit_list(folder / "b_frames.mp4", folder / "trimmed.mp4", skip_frames=10)
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``run(script, *arguments)`` in a process of its own.

    The processes are forked from one that has imported the libraries, which saves seconds each. That
    the scripts import what they need themselves is tested by ``run_process``.
    """
    folder = tmp_path_factory.mktemp("outputs")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "amplify_motion_tokenizer.codes.inference",
            "amplify_motion_tokenizer.training.run",
            "pytest",
            "av",
            "h5py",
        ]
    )

    def run_forked(script: str, *arguments: object, cwd: Path = REPO) -> Result:
        out, err = folder / "out", folder / "err"
        line = [str(REPO / script), *map(str, arguments)]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
            process = context.Process(target=run_script, args=(line, cwd, out, err, ENVIRONMENT))
            process.start()
        process.join(timeout=LONGEST_S)
        if process.exitcode is None:
            process.kill()
            pytest.fail(f"{line} did not end within {LONGEST_S} s")
        return Result(process.exitcode, *(path.read_text(encoding="utf-8") for path in (out, err)))

    return run_forked


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("work")
    for seed, (name, kind) in enumerate(CLIPS.items()):
        render(folder / "videos" / f"{name}.mp4", kind, seed)
    write_config(folder / "tiny.yaml", training={**LEARNING})
    lines = {
        PREPROCESS: ["--config", "tiny.yaml", "--input", "videos", "--output", "tracks"],
        TRAIN: ["--config", "tiny.yaml", "--input", "tracks", "--output", "run"],
        INFER: ["--checkpoint", "run/best.pth", "--input", "videos", "--output", "codes"],
    }
    lines[INFER] += ["--save", "latents", "labels"]
    results = {script: run_process(*command(script, *line), cwd=folder) for script, line in lines.items()}
    assert [result.status for result in results.values()] == [0, 0, 0], results
    return Work(folder, results)


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good clips among bad ones."""
    folder = tmp_path_factory.mktemp("broken")
    good = render(folder / "good.mp4")
    render(folder / "sub" / "good.mp4", seed=1)
    (folder / "text.mp4").write_text("no frames here, only words\n" * 50, encoding="utf-8")
    (folder / "empty.mp4").touch()
    audio_only(folder / "sound.mp4")
    cut_file(good, folder / "cut.mp4", 0.7)
    encode_clip(folder / "sub" / "short.mp4", numbered_frames(1))
    return folder
