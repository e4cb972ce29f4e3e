"""What is said of files that are no checkpoint, or no longer one."""

from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.errors import CheckpointError, ConfigError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint, load_tokenizer
from tests.support.checkpoints import save_native
from tests.support.render_clips import numbered_frames, write_clip
from tests.support.run_scripts import TINY


def write_tracks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["tracks"] = [1.0, 2.0]


def write_video(path: Path) -> None:
    write_clip(path.with_suffix(".mp4"), numbered_frames(2), 10).rename(path)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "YAML": (
        lambda path: path.write_text("model: {name: amplify}\n", encoding="utf-8"),
        "is a text file, such as YAML",
    ),
    "long text": (lambda path: path.write_text("é" * 5000, encoding="utf-8"), "is a text file, such as YAML"),
    "empty": (Path.touch, r"is empty \(0 bytes\)"),
    "tracks": (write_tracks, "is an HDF5 file, such as tracks"),
    "video": (write_video, "is a video"),
    "folder": (Path.mkdir, "is a folder"),
    "nothing": (lambda path: None, "does not exist"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_files_are_called_what_they_are(kind: str, tmp_path: Path) -> None:
    write, words = KINDS[kind]
    write(tmp_path / "given")
    with pytest.raises(CheckpointError, match=rf"given:? {words}; give a run's best\.pth"):
        load_checkpoint(tmp_path / "given")


@pytest.mark.parametrize("damage", ["cut", "changed", "zeros", "old and cut"])
def test_damage_is_told_in_our_words(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    model = save_native(path, config_from_dict(TINY, "in the tests"))
    if damage == "old and cut":
        torch.save({"weights": torch.ones(99)}, path, _use_new_zipfile_serialization=False)
    content = bytearray(path.read_bytes())
    if damage == "changed":
        # Between the parts of a file are bytes that mean nothing.
        content[content.index(model.get_parameter("pos_embed").detach().numpy().tobytes())] ^= 255
    cut = len(content) if damage == "changed" else len(content) // 2
    path.write_bytes(bytes(5000) if damage == "zeros" else content[:cut])
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: is damaged, cut short or changed (copy it again")
    for theirs in ("PytorchStreamReader", "miniz", "weights_only", ".tmp"):
        assert theirs not in message


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("model", None, "model is None; expected a mapping of names to tensors"),
        ("model", {"pos_embed": [1.0]}, "expected a mapping of names to tensors"),
        ("model", {1: torch.zeros(2)}, "expected a mapping of names to tensors"),
        ("format_version", torch.zeros(2), "has format version tensor([0., 0.])"),
        ("format_version", "1\n", "has format version '1\\n'; expected a checkpoint"),
        ("config", 3, "config is 3; expected a mapping"),
        ("track_settings", 5, "track_settings is 5; expected a mapping, or None"),
        ("metrics", None, "metrics is None; expected a mapping of names to numbers"),
        ("training", [1], "training is [1]; expected a mapping, or None"),
    ],
)
def test_parts_of_another_kind(key: str, value: object, found: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_native(path, config_from_dict(TINY, "in the tests"))
    torch.save({**torch.load(path, weights_only=True), key: value}, path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert found in str(caught.value)


def test_weights_of_8_bits_are_looked_at_too(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_native(path, config_from_dict(TINY, "in the tests"))
    content = torch.load(path, weights_only=True)
    small = content["model"]["pos_embed"].to(torch.float8_e4m3fn)
    for value, fits in ((small, True), ((small.float() * torch.nan).to(small.dtype), False)):
        torch.save({**content, "model": content["model"] | {"pos_embed": value}}, path)
        if fits:
            torch.testing.assert_close(load_tokenizer(path).get_parameter("pos_embed").data, small.float())
        else:
            with pytest.raises(CheckpointError, match="pos_embed holds .* numbers that are NaN or infinite"):
                load_tokenizer(path)


@pytest.mark.parametrize(
    ("device", "found"),
    [("cuda", "is not available"), ("gpu", "is not a device"), ("cuda:x", "is not a device")],
)
def test_devices_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, found: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "best.pth"
    save_native(path, config_from_dict(TINY, "in the tests"))
    with pytest.raises(ConfigError, match=f"device = '{device}' {found}; allowed here: auto, .*cpu"):
        load_tokenizer(path, device=device)
    for name in ("cpu", torch.device("cpu")):
        assert {weight.device.type for weight in load_tokenizer(path, device=name).parameters()} == {"cpu"}
