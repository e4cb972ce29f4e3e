"""Conditioning on images: from the frames of a video to a checkpoint that holds its vision encoder."""

from __future__ import annotations

import dataclasses
import json
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import clip_record_of, random_windows
from run_scripts import INFER, PREPROCESS, REPO, TINY, TRAIN, render

from amplify_motion_tokenizer import build_model, load_tokenizer
from amplify_motion_tokenizer.checkpoint import load_checkpoint
from amplify_motion_tokenizer.clips import Clip
from amplify_motion_tokenizer.config import Config, to_dict, unflatten
from amplify_motion_tokenizer.config.files import config_from_dict
from amplify_motion_tokenizer.convert import convert
from amplify_motion_tokenizer.dataset import WindowDataset, load_clips
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError, TrackFileError, UsageError
from amplify_motion_tokenizer.files import write_yaml
from amplify_motion_tokenizer.inputs import from_tracks
from amplify_motion_tokenizer.interop import amplify_content, read_amplify
from amplify_motion_tokenizer.models import vision
from amplify_motion_tokenizer.models.amplify import AmplifyNetwork, amplify_sizes
from amplify_motion_tokenizer.models.vision import build_vision_encoder
from amplify_motion_tokenizer.preprocessing import TrackedClip, preprocess_folder, stack_views
from amplify_motion_tokenizer.sources import find_clips, model_views
from amplify_motion_tokenizer.stores import TrackFile, TrackFileWriter, find_tracks
from amplify_motion_tokenizer.trackers import make_tracker
from amplify_motion_tokenizer.windows import small_frame

SIDE = 64
"""Of images in these tests: a ResNet-18 on 224 x 224 takes 12 times as long."""


@pytest.fixture(scope="module", autouse=True)
def _small_images() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision, "IMAGE_SIDE", SIDE)
        yield


needs_transformers = pytest.mark.usefixtures("_offline_transformers")


@pytest.fixture(scope="module")
def _offline_transformers() -> Iterator[None]:
    pytest.importorskip("transformers", reason="needs the vision extra (transformers)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def config_of(side: int | None = SIDE, views: tuple[str, ...] = ("default",), **own: Any) -> Config:
    """A tiny amplify model on images; ``own`` are keys of model.amplify.vision."""
    files = {view: f"{{clip}}/{view}.mp4" for view in views} if len(views) > 1 else {}
    tree = {
        **TINY,
        "tracking": {**TINY["tracking"], "first_frames": side, "view_files": files},
        "data": {
            **TINY["data"],
            "views": list(views),
            "reference_size": [48, 64],
            "static_filter": {"enable": False},
        },
        "model": {
            **TINY["model"],
            "name": "amplify",
            "num_layers": 2,
            "nominal_codebook_size": 64,
            "amplify": {"mlp_dim": 12, "vision": {"encoder": "resnet18", **own}},
        },
    }
    return config_from_dict(tree, "in the tests")


def unconditioned(config: Config) -> Config:
    amplify = dataclasses.replace(config.model.amplify, vision=type(config.model.amplify.vision)())
    return dataclasses.replace(config, model=dataclasses.replace(config.model, amplify=amplify))


def without_frames(config: Config) -> Config:
    tracking = dataclasses.replace(config.tracking, first_frames=None)
    return dataclasses.replace(unconditioned(config), tracking=tracking)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two views, 12 frames at 10 fps: four windows each."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(3):
        for view, kind in (("front", "pan"), ("wrist", "zoom")):
            render(folder / f"clip{seed}/{view}.mp4", kind, seed, frames=24)
    return folder


def tracked(clip: Clip, config: Config) -> TrackedClip:
    return TrackedClip(clip, config, make_tracker(config))


def test_first_frames_are_kept_small_for_every_window_and_view(videos: Path, tmp_path: Path) -> None:
    config = unconditioned(config_of(32, ("front", "wrist")))
    assert preprocess_folder(videos, tmp_path, config).done == 3
    for clip in find_clips(videos, config, ["front", "wrist"]):
        with h5py.File(tmp_path / f"{clip.name}.hdf5") as file, tracked(clip, config) as open_clip:
            frames = list(open_clip._frames())
            for view, name in enumerate(("front", "wrist")):
                data = file[f"root/{name}/first_frames"]
                assert (data.shape, data.dtype, data.chunks) == ((4, 32, 32, 3), np.uint8, (1, 32, 32, 3))
                starts = file[f"root/{name}/start_frame"][:]
                expected = [small_frame(frames[start][view].rgb, 32) for start in starts]
                np.testing.assert_array_equal(data[:], expected)
        track_file = TrackFile(tmp_path / f"{clip.name}.hdf5", ("wrist", "front"))
        with track_file.open() as handle:
            wrist, front = track_file.read_first_frames(handle, [2, 0, 2])
        assert wrist.shape == front.shape == (3, 32, 32, 3)
        np.testing.assert_array_equal(front[0], front[2])
        np.testing.assert_array_equal(wrist[1], small_frame(frames[0][1].rgb, 32))


def test_a_small_frame_is_the_models_own_stretch() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    expected = F.interpolate(
        torch.from_numpy(rgb).movedim(-1, 0)[None].float(), (224, 224), mode="bilinear", align_corners=False
    )
    found = torch.from_numpy(small_frame(rgb, 224)).float()
    assert (found - expected[0].movedim(0, -1)).abs().max() < 1
    square = rgb[:, :90]
    assert small_frame(square, 90) is square


def test_a_clip_without_windows_holds_empty_first_frames(tmp_path: Path) -> None:
    config = config_of()
    with TrackFileWriter(tmp_path / "clip.hdf5", clip_record_of(config), (48, 64)) as writer:
        writer.finish(6, 1)
    assert TrackFile(tmp_path / "clip.hdf5").frame_size == (SIDE, SIDE)
    window = random_windows(config, 1, 0, (48, 64))[0]
    with (
        pytest.raises(ValueError, match=r"first frame: expected \(64, 64, 3\), found None"),
        TrackFileWriter(tmp_path / "other.hdf5", clip_record_of(config), (48, 64)) as writer,
    ):
        writer.append(window)


def write_framed(path: Path, config: Config, side: int) -> Path:
    """Tracks with first frames, from a writer that says nothing of its settings."""
    with TrackFileWriter(path, clip_record_of(without_frames(config)), (48, 64)) as writer:
        for window in random_windows(config, 2, 0, (48, 64)):
            writer.append(window)
        writer.finish(8, 0)
    with h5py.File(path, "a") as file:
        file["root/default/first_frames"] = np.zeros((2, side, side, 3), np.uint8)
        del file["root"].attrs["settings"]
    return path


def test_frames_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    config = config_of()
    path = write_framed(tmp_path / "a.hdf5", config, SIDE)
    write_framed(tmp_path / "b.hdf5", config, SIDE)
    assert load_clips(tmp_path, config).keys() == {"a", "b"}
    write_framed(tmp_path / "b.hdf5", config, 32)
    with pytest.raises(TrackFileError, match=r"b\.hdf5: its first frames are \(32, 32\), those of .*a\.hdf5"):
        load_clips(tmp_path, config)
    for shape, kind in [((2, 8, 8), np.uint8), ((1, 8, 8, 3), np.uint8), ((2, 8, 8, 3), np.float32)]:
        with h5py.File(path, "a") as file:
            del file["root/default/first_frames"]
            file["root/default/first_frames"] = np.zeros(shape, kind)
        with pytest.raises(
            TrackFileError, match=r"a\.hdf5: first_frames are .* expected uint8 \(2, 8, 8, 3\)"
        ):
            find_tracks(tmp_path)
    with h5py.File(path, "a") as file:
        del file["root/default/first_frames"]
    with pytest.raises(TrackFileError, match=r"a\.hdf5: holds no first frames .* tracking\.first_frames"):
        load_clips(tmp_path, config)
    assert load_clips(tmp_path, unconditioned(config)).keys() == {"a", "b"}


def test_turning_frames_on_for_tracks_without_them_says_so(videos: Path, tmp_path: Path) -> None:
    views = ("front", "wrist")
    with_frames = unconditioned(config_of(SIDE, views))
    without = without_frames(with_frames)
    preprocess_folder(videos / "..", tmp_path / "one", _only_clip0(without, videos))
    with pytest.raises(UsageError, match=r"tracking\.first_frames None -> 64.*--overwrite"):
        preprocess_folder(videos / "..", tmp_path / "one", _only_clip0(with_frames, videos))
    keypoint = config_from_dict({**TINY, "tracking": {"first_frames": 32}}, "in the tests")
    with pytest.raises(ConfigError, match="velocity files hold no frames"):
        preprocess_folder(videos / "clip0/front.mp4", tmp_path / "pt", keypoint, "pt")


def _only_clip0(config: Config, videos: Path) -> Config:
    files = {view: f"{videos.name}/{{clip}}0/{view}.mp4" for view in config.data.views}
    return dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, view_files=files))


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({"tracking.first_frames": 8}, ["tracking.first_frames = 8", "at least 16"]),
        ({"model.amplify.vision.encoder": "resnet18"}, ["vision.encoder", "model.name: amplify"]),
        ({"model.amplify.vision.encoder": "vit"}, ["model.amplify.vision.encoder = vit", "dinov2-small"]),
        ({"model.amplify.vision.weights": "x"}, ["vision.weights", "vision.encoder"]),
        ({"model.amplify.vision.lr_multiplier": 0.0}, ["lr_multiplier = 0.0", "above 0"]),
        ({"training.pictures": -1}, ["training.pictures = -1", "at least 0"]),
    ],
)
def test_impossible_settings(keys: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(unflatten(keys), "in the tests")
    for part in parts:
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match=r"tracking\.first_frames = null .* such as 224"):
        config_of(None)


@needs_transformers
def test_a_conditioned_model_takes_images_and_others_do_not() -> None:
    torch.manual_seed(0)
    config = config_of(frozen=False, lr_multiplier=0.1)
    model, plain = build_model(config).eval(), build_model(unconditioned(config))
    velocities = torch.rand(2, 1, 5, 9, 2) * 0.1
    first, second = torch.rand(2, 2, 1, 48, 40, 3)
    latents = model.encode(velocities, first)
    assert (latents - model.encode(velocities, second)).abs().max() > 1e-4
    output = model(velocities, first)
    torch.testing.assert_close(output.latents, latents)
    assert torch.equal(model.tokenize(velocities, first), output.indices)
    with pytest.raises(ValueError, match="images: the model is conditioned .* found None"):
        model.tokenize(velocities)
    with pytest.raises(ValueError, match=r"images: expected \(2, 1, H, W, 3\), found \(1, 1, 48, 40, 3\)"):
        model.encode(velocities, first[:1])
    keypoint = build_model(config_from_dict(TINY, "in the tests"))
    for other, moves in ((plain, velocities), (keypoint, velocities[:, 0])):
        with pytest.raises(ValueError, match=r"not conditioned on images; expected None, found \(2, 1, 48"):
            other(moves, first)
    own, theirs = model.parameter_groups(0.5)
    assert (own["lr"], theirs["lr"]) == (0.5, 0.05)
    assert {*map(id, theirs["params"])} == {*map(id, model.vision.parameters())}
    assert len(own["params"]) + len(theirs["params"]) == len(list(model.parameters()))
    (frozen,) = build_model(config_of()).parameter_groups(0.5)
    assert len(frozen["params"]) == len(own["params"])


@needs_transformers
@pytest.mark.parametrize(("pooled", "views"), [(False, ("front", "wrist")), (True, ("front",))])
def test_amplifys_conditioned_files_are_read_and_written(pooled: bool, views: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    config = config_of(224, views, pooled=pooled, frozen=False)
    model = build_model(config).eval()
    content = amplify_content(model.state_dict(), config)
    assert content["config"]["cond_on_img"] is True
    expected = {"model_name": "resnet18", "frozen": False, "lr_multiplier": 1.0}
    assert expected.items() <= content["config"]["vision_encoder"].items()
    state, back_config = read_amplify(Path("source.pt"), content)
    back = build_model(back_config).eval()
    back.load_state_dict(state)
    assert back_config.model.amplify.vision == config.model.amplify.vision
    assert back_config.tracking.first_frames == 224
    velocities, images = torch.rand(1, len(views), 5, 9, 2) * 0.1, torch.rand(1, len(views), 48, 48, 3)
    with torch.no_grad():
        ours, theirs = model(velocities, images), back(velocities, images)
    assert torch.equal(ours.latents, theirs.latents)
    assert torch.equal(ours.logits, theirs.logits)


@needs_transformers
def test_image_tokens_that_cannot_be_exchanged() -> None:
    config = config_of(pooled=True)
    content = amplify_content(build_model(config).state_dict(), config)
    content["config"]["vision_encoder"]["patch_pooling"] = "max"
    with pytest.raises(CheckpointError, match=r"source\.pt: has 1 tokens an image, expected 4 .* 'max'"):
        read_amplify(Path("source.pt"), content)
    dinov2 = config_of(encoder="dinov2-small")
    network = AmplifyNetwork(amplify_sizes(dinov2)).state_dict()
    state = {f"network.{key}": value for key, value in network.items()}
    with pytest.raises(CheckpointError, match="vision encoder 'dinov2-small' cannot be exchanged"):
        amplify_content(state, dinov2)


@dataclasses.dataclass(frozen=True)
class Work:
    """What the three commands left behind, training stopped after an epoch and resumed."""

    videos: Path
    folder: Path
    config: Config
    pretrained: dict[str, torch.Tensor]
    """State dict of the vision encoder's weights, whose files were removed before the run was resumed."""


@pytest.fixture(scope="module")
def work(
    _offline_transformers: None, videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Work]:
    folder = tmp_path_factory.mktemp("conditioned")
    torch.manual_seed(5)
    encoder = build_vision_encoder("resnet18")
    encoder.model.save_pretrained(folder / "weights")
    views = ("front", "wrist")
    config = config_of(SIDE, views, weights=str(folder / "weights"))
    write_yaml(folder / "config.yaml", to_dict(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACCELERATE_USE_CPU", "true")
        line = ["--config", "config.yaml"]
        assert script(PREPROCESS, *line, "--input", videos, "--output", "tracks") == 0
        train = [*line, "--input", "tracks", "--output", "run", "--training.epochs"]
        assert script(TRAIN, *train, 1) == 0
        shutil.rmtree(folder / "weights")
        assert script(TRAIN, *train, 2, "--resume", "auto") == 0
        codes = ["--checkpoint", "run/last.pth", "--input", videos, "--output", "codes"]
        assert script(INFER, *codes, "--save", "latents") == 0
        yield Work(videos, folder, config, encoder.state_dict())


def script(name: str, *arguments: object) -> int:
    """A command in this process, which has imported transformers already."""
    status: int = runpy.run_path(str(REPO / name))["main"]([*map(str, arguments)])
    return status


def test_checkpoints_hold_the_vision_weights(work: Work) -> None:
    first, last = (load_checkpoint(work.folder / "run" / name) for name in ("epoch_1.pth", "last.pth"))
    moved = 0
    for key, value in last.model.items():
        if key.startswith("vision."):
            assert torch.equal(value, work.pretrained[key.removeprefix("vision.")])
            assert torch.equal(value, first.model[key])
        else:
            moved += not torch.equal(value, first.model[key])
    assert moved > 20
    assert {f"vision.{key}" for key in work.pretrained} < last.model.keys()
    assert last.track_settings is not None
    assert last.track_settings["tracking.first_frames"] == SIDE
    assert load_tokenizer(work.folder / "run/last.pth").config.conditioned


def test_inference_sees_what_training_sees(work: Work) -> None:
    config = load_checkpoint(work.folder / "run/last.pth").config
    data = WindowDataset(load_clips(work.folder / "tracks", config), config)
    stored = data.__getitems__(range(len(data))).inputs
    assert (stored.first_frames.shape, stored.first_frames.dtype) == ((12, 2, SIDE, SIDE, 3), torch.uint8)
    images = stored.images
    assert images is not None
    assert 0 <= images.min() < 0.2 < 0.8 < images.max() <= 1
    live = []
    for clip in find_clips(work.videos, config, model_views(config)):
        with tracked(clip, config) as windows:
            live.append(from_tracks(stack_views(list(windows), windows.sizes), config))
    assert torch.equal(torch.cat([inputs.first_frames for inputs in live]), stored.first_frames)
    assert torch.equal(torch.cat([inputs.velocities for inputs in live]), stored.velocities)
    model = load_tokenizer(work.folder / "run/last.pth")
    lines = (work.folder / "codes/codes.jsonl").read_text().splitlines()
    codes = [window for line in lines for window in json.loads(line)["codes"]]
    with torch.no_grad():
        latents = model.encode(stored.velocities, images)
        others = model.encode(stored.velocities, images.flip(0))
    assert codes == model.quantize(latents)[1].tolist()
    assert (latents - others).abs().max() > 1e-3


def test_the_trained_tokenizer_converts_to_amplifys_file_and_back(work: Work, tmp_path: Path) -> None:
    convert(work.folder / "run/last.pth", tmp_path / "source.pt", "amplify")
    convert(tmp_path / "source.pt", tmp_path / "native.pth", "native")
    content = torch.load(tmp_path / "source.pt", weights_only=True)
    assert sum(key.startswith("vis_enc.model.") for key in content["model"]) == len(work.pretrained)
    velocities, images = torch.rand(2, 2, 5, 9, 2) * 0.1, torch.rand(2, 2, 48, 48, 3)
    paths = (work.folder / "run/last.pth", tmp_path / "source.pt", tmp_path / "native.pth")
    with torch.no_grad():
        ours, *others = (load_tokenizer(path)(velocities, images) for path in paths)
    for output in others:
        assert torch.equal(output.latents, ours.latents)
        assert torch.equal(output.logits, ours.logits)


def test_loading_batches_keeps_frames_beside_their_windows(work: Work) -> None:
    config = load_checkpoint(work.folder / "run/last.pth").config
    data = WindowDataset(load_clips(work.folder / "tracks", config), config)
    shuffled = data.__getitems__([7, 0, 11, 4])
    for row, index in enumerate(shuffled.indices.tolist()):
        alone = data[index].inputs
        assert torch.equal(shuffled.inputs.first_frames[row], alone.first_frames[0])
        assert torch.equal(shuffled.inputs.velocities[row], alone.velocities[0])
    plain = WindowDataset(data.clips, unconditioned(config))[0].inputs
    assert plain.first_frames.shape == (1, 2, 0, 0, 3)
    assert plain.images is None
