"""Codes of every timestep: which windows an item holds, what is joined, and what is refused."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from amplify_motion_tokenizer import MotionCodeDataset, MotionCodes, MotionCodeSet


def codes_of(clip: str, begins: list[int], latents: bool = False, known: bool = True) -> MotionCodes:
    """Windows of 5 tracked frames, each 2 frames of the source; ids say the window's first tracked frame."""
    starts = torch.tensor(begins, dtype=torch.int64)
    windows = len(begins)
    ids = starts[:, None] * 10 + torch.arange(2)
    sources = torch.stack([starts * 2, starts * 2 + 8], dim=1)
    return MotionCodes(
        ids=ids,
        starts=starts,
        seconds=torch.zeros(windows, 2, dtype=torch.float64),
        step_seconds=torch.zeros(windows, dtype=torch.float64),
        source_frames=sources if known else torch.full((windows, 2), -1),
        valid_steps=torch.full((windows,), 4),
        motion_energy=torch.zeros(windows),
        visible_share=torch.ones(windows),
        latents=ids[..., None].float() if latents else None,
        clip=clip,
        meta={"tracked_length": 5, "sequence_length": 5, "codebook_size": 5000},
    )


CODES = MotionCodeSet([codes_of("a", [0, 3, 6, 12]), codes_of("b", []), codes_of("c", [1, 4], known=True)])


def test_the_codes_at_a_frame_are_of_the_last_window_that_began() -> None:
    found = CODES.at("a", 9)
    assert (found.ids.tolist(), found.window, found.offset) == ([30, 31], 1, 3)
    assert CODES["a"].at(3, of="tracked").offset == 0
    assert CODES.at("a", 20).window == 2
    with pytest.raises(IndexError, match="clip a: no window covers frame 21; covered are 0 to 32"):
        CODES.at("a", 21)
    for clip, frame, covered in (
        ("a", 33, "0 to 32"),
        ("a", -1, "0 to 32"),
        ("b", 0, "none"),
        ("c", 1, "2 to"),
    ):
        with pytest.raises(IndexError, match=f"no window covers frame {frame}; covered are {covered}"):
            CODES.at(clip, frame)
    with pytest.raises(KeyError, match="there is no clip x; there are 3"):
        CODES.at("x", 0)
    with pytest.raises(ValueError, match="do not say which frames of the source"):
        codes_of("d", [0], known=False).at(0)


def test_an_item_holds_the_windows_ahead_and_a_mask() -> None:
    data = MotionCodeDataset(CODES, horizon=3)
    assert len(data) == 6  # the clip b has none
    first = data[0]
    assert (first["clip"], first["timestep"]) == ("a", 0)
    # Windows begin 6 frames of the source apart, most often.
    assert first["frames"].tolist() == [0, 6, 12]
    assert first["ids"].tolist() == [[0, 1], [30, 31], [60, 61]]
    assert first["mask"].all()
    third = data[2]
    assert third["frames"].tolist() == [12, 18, 24]
    assert third["mask"].tolist() == [True, False, True]
    assert third["ids"].tolist() == [[60, 61], [0, 0], [120, 121]]
    assert third["valid_steps"].tolist() == [4, 0, 4]
    assert data[-1]["clip"] == "c"
    assert data[data.index("c", 8)]["ids"][0].tolist() == [40, 41]
    with pytest.raises(KeyError, match="clip a has no timestep 1; it has 0 to 24"):
        data.index("a", 1)
    with pytest.raises(KeyError, match="there is no clip b with windows"):
        data.index("b", 0)
    with pytest.raises(IndexError, match="there is no item 6; the data set has 6"):
        data[6]


def test_every_frame_may_be_a_timestep() -> None:
    data = MotionCodeDataset(CODES, of="tracked", timesteps="all", every=1)
    assert len(data) == 17 + 9
    masks = [bool(data[index]["mask"][0]) for index in range(17)]
    assert [frame for frame, begins in enumerate(masks) if begins] == [0, 3, 6, 12]


def test_arrays_are_joined_by_frame_and_batched(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "own.hdf5", "w") as file:
        for clip in ("a", "c"):
            file[f"{clip}/actions"] = np.arange(40)[:, None] + np.array([0.0, 100.0])
    asked = []

    def arrays(clip: str) -> dict[str, Any]:
        asked.append(clip)
        return {"action": h5py.File(tmp_path / "own.hdf5")[f"{clip}/actions"], "reward": list(range(40))}

    data = MotionCodeDataset(
        MotionCodeSet([codes_of("a", [0, 3, 6, 12], latents=True), codes_of("c", [1], latents=True)]),
        2,
        arrays=arrays,
        latents=True,
    )
    (batch,) = DataLoader(data, batch_size=5)
    assert batch["clip"] == ["a", "a", "a", "a", "c"]
    assert batch["timestep"].tolist() == batch["reward"].tolist() == [0, 6, 12, 24, 2]
    assert batch["action"].tolist() == [[0, 100], [6, 106], [12, 112], [24, 124], [2, 102]]
    assert batch["ids"].shape == (5, 2, 2)
    assert torch.equal(batch["latents"][..., 0], batch["ids"].float())
    assert asked == ["a", "c"]
    by_workers = DataLoader(data, batch_size=5, num_workers=1, multiprocessing_context="fork")
    assert torch.equal(next(iter(by_workers))["action"], batch["action"])


def test_what_cannot_be_joined_is_told() -> None:
    with pytest.raises(ValueError, match="action of a has 5 rows, and codes tell of frame 6"):
        list(MotionCodeDataset(CODES, arrays={"a": {"action": [0] * 5}, "c": {}}))
    with pytest.raises(ValueError, match=r"nothing for the clip c \(of 1 clips of 2\); give every clip's"):
        MotionCodeDataset(CODES, arrays={"a": {"action": [0] * 40}, "typo": {}})
    with pytest.raises(ValueError, match="an array of a is called ids"):
        MotionCodeDataset(CODES, arrays=lambda clip: {"ids": [0] * 40})[0]
    with pytest.raises(ValueError, match="horizon is 0 and every is None; expected at least 1"):
        MotionCodeDataset(CODES, 0)
    with pytest.raises(ValueError, match="codes of a have no latents; run infer with --save latents"):
        MotionCodeDataset(CODES, latents=True)
    with pytest.raises(ValueError, match="timesteps is 'some'"):
        MotionCodeDataset(CODES, timesteps="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count by 'tracked' frames"):
        MotionCodeDataset({"d": codes_of("d", [0], known=False)})
    assert len(MotionCodeDataset({"d": codes_of("d", [0], known=False)}, of="tracked")) == 1
    assert len(MotionCodeDataset({})) == 0
