"""Conditioning on images: from the frames of a video to a checkpoint that holds its vision encoder."""

from __future__ import annotations

import dataclasses
import json
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from amplify_motion_tokenizer import build_model, load_tokenizer
from amplify_motion_tokenizer.codes.inference import encode_windows
from amplify_motion_tokenizer.config import Config, to_dict
from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.inputs import from_tracks
from amplify_motion_tokenizer.data.loading import load_clips
from amplify_motion_tokenizer.data.views import stack_views
from amplify_motion_tokenizer.errors import CheckpointError
from amplify_motion_tokenizer.files import write_yaml
from amplify_motion_tokenizer.models.amplify import vision
from amplify_motion_tokenizer.models.amplify.exchange import amplify_content, read_amplify
from amplify_motion_tokenizer.models.amplify.network import AmplifyNetwork, amplify_sizes
from amplify_motion_tokenizer.models.amplify.vision import build_vision_encoder
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.models.convert import convert
from amplify_motion_tokenizer.video.sources import find_clips, model_views
from tests.support.framed import SIDE, config_of, render_views, tracked, unconditioned
from tests.support.run_scripts import INFER, PREPROCESS, REPO, TINY, TRAIN


@pytest.fixture(scope="module", autouse=True)
def _small_images_without_network() -> Iterator[None]:
    pytest.importorskip("transformers", reason="needs the vision extra (transformers)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr(vision, "IMAGE_SIDE", SIDE)
        yield


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_views(tmp_path_factory.mktemp("videos"))


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
    with pytest.raises(ValueError, match=r"images: expected a float tensor .* found a ndarray"):
        model.tokenize(velocities, first.numpy())
    with pytest.raises(ValueError, match="images hold values from .* divide bytes by 255"):
        model.tokenize(velocities, first * 255)
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


def test_an_encoder_that_stays_random_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    build_model(config_of(frozen=False), pretrained=True)
    build_model(unconditioned(config_of()), pretrained=True)
    build_model(config_of())  # a checkpoint holds its weights
    assert not caplog.records
    build_model(config_of(), pretrained=True)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "resnet18 has random weights and is frozen" in record.getMessage()
    assert "model.amplify.vision.weights" in record.getMessage()


@pytest.mark.parametrize(("pooled", "views"), [(False, ("front", "wrist")), (True, ("front",))])
def test_amplifys_conditioned_files_are_read_and_written(pooled: bool, views: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    config = config_of(224, views, pooled=pooled, frozen=False)
    model = build_model(config).eval()
    content = amplify_content(model.state_dict(), config)
    assert content["config"]["cond_on_img"] is True
    expected = {"model_name": "resnet18", "frozen": False, "lr_multiplier": 1.0}
    assert expected.items() <= content["config"]["vision_encoder"].items()
    state, back_config, *_ = read_amplify(Path("source.pt"), content)
    back = build_model(back_config).eval()
    back.load_state_dict(state)
    assert back_config.model.amplify.vision == config.model.amplify.vision
    assert back_config.tracking.first_frames == 224
    velocities, images = torch.rand(1, len(views), 5, 9, 2) * 0.1, torch.rand(1, len(views), 48, 48, 3)
    with torch.no_grad():
        ours, theirs = model(velocities, images), back(velocities, images)
    assert torch.equal(ours.latents, theirs.latents)
    assert torch.equal(ours.logits, theirs.logits)


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
def work(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
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
    with pytest.raises(SystemExit) as ended, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [name, *map(str, arguments)])
        runpy.run_path(str(REPO / name), run_name="__main__")
    return int(ended.value.code or 0)


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
    stored = data.batch(range(len(data))).inputs
    assert (stored.first_frames.shape, stored.first_frames.dtype) == ((12, 2, SIDE, SIDE, 3), torch.uint8)
    images = stored.images
    assert images is not None
    assert 0 <= images.min() < 0.2 < 0.8 < images.max() <= 1
    model = load_tokenizer(work.folder / "run/last.pth")
    lines = (work.folder / "codes/codes.jsonl").read_text().splitlines()
    codes = [window for line in lines for window in json.loads(line)["codes"]]
    meta = json.loads(lines[0])["meta"]
    assert (meta["views"], meta["per_view"]) == (["front", "wrist"], False)
    assert codes == model.tokenize(stored.velocities, images).tolist()
    with torch.no_grad():  # so that other images are other codes
        model.network.encoder.cond_proj.weight.mul_(100)
        project = model.network.quantize.project_in
        digits = project(model.encode(stored.velocities, images))
        project.weight.div_(digits.std(dim=(0, 1))[:, None])
        project.bias.sub_(digits.mean(dim=(0, 1))).div_(digits.std(dim=(0, 1)))
    live, live_codes = [], []
    for clip in find_clips(work.videos, config, model_views(work.videos, config)):
        with tracked(clip, config) as open_clip:
            windows = list(open_clip)
        live.append(from_tracks(stack_views(windows, open_clip.sizes), config))
        live_codes += [b["code_sequences"] for b in encode_windows(windows, open_clip.sizes, model, config)]
    assert torch.equal(torch.cat([inputs.first_frames for inputs in live]), stored.first_frames)
    assert torch.equal(torch.cat([inputs.velocities for inputs in live]), stored.velocities)
    assert torch.equal(torch.cat(live_codes), model.tokenize(stored.velocities, images))
    others = model.tokenize(stored.velocities, images.flip(0))
    assert (torch.cat(live_codes) != others).any(dim=1).sum() > len(others) / 2


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
    shuffled = data.batch([7, 0, 11, 4])
    for row, index in enumerate(shuffled.indices.tolist()):
        alone = data[index].inputs
        assert torch.equal(shuffled.inputs.first_frames[row], alone.first_frames)
        assert torch.equal(shuffled.inputs.velocities[row], alone.velocities)
    plain = WindowDataset(data.clips, unconditioned(config)).batch([0]).inputs
    assert plain.first_frames.shape == (1, 2, 0, 0, 3)
    assert plain.images is None
