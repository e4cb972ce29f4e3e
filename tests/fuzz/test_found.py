"""Single faults that fuzzing and attacks showed, each by what it does now."""

import json
import os
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from amplify_motion_tokenizer import read_codes
from amplify_motion_tokenizer.codes.merging import merge
from amplify_motion_tokenizer.codes.probing.labels import read_table
from amplify_motion_tokenizer.codes.search import nearest, query_moment
from amplify_motion_tokenizer.codes.search_index import open_index
from amplify_motion_tokenizer.damaged_files import DamagedError
from amplify_motion_tokenizer.errors import (
    CheckpointError,
    TokenizerError,
    TrackFileError,
    UsageError,
    VideoError,
    WorkerError,
)
from amplify_motion_tokenizer.evaluation.against_truth import evaluate_tracks
from amplify_motion_tokenizer.file_names import is_clip_name
from amplify_motion_tokenizer.foreign_json import parse_json
from amplify_motion_tokenizer.jobs.folder_run import FolderRun
from amplify_motion_tokenizer.jobs.loop import run_clips
from amplify_motion_tokenizer.jobs.manifest import Manifest
from amplify_motion_tokenizer.jobs.workers import run_in_workers
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from amplify_motion_tokenizer.report.overview import utc
from amplify_motion_tokenizer.tracks.find import find_tracks
from amplify_motion_tokenizer.tracks.hdf5 import TrackFile
from amplify_motion_tokenizer.video.clips import Clip, ViewSource
from amplify_motion_tokenizer.video.faults import check_file
from amplify_motion_tokenizer.video.libero import holds_demos
from tests.fuzz import folder_seeds, seeds
from tests.support.pages import made_up_codes


def sleeper(_threads: int) -> object:
    return time.sleep


def test_a_clip_without_its_line_is_made_again(tmp_path: Path) -> None:
    clips = [Clip(name, {"default": ViewSource(tmp_path / f"{name}.mp4")}) for name in ("told", "cut_off")]
    manifest = Manifest(tmp_path / "manifest.jsonl")
    manifest.begin()
    manifest.add({"clip": "told", "status": "done", "windows": 2, "output": "told.hdf5"})
    made: list[str] = []

    def process(clip: Clip) -> dict[str, object]:
        made.append(clip.name)
        return {"windows": 3}

    summary = run_clips(clips, Manifest(manifest.path), lambda _: True, process)
    assert (made, summary.done, summary.skipped) == (["cut_off"], 1, 1)
    records = Manifest(manifest.path).records
    assert (records["told"]["windows"], records["cut_off"]["windows"]) == (2, 3)


def test_an_item_that_takes_too_long_is_ended_and_told() -> None:
    ((item, result),) = run_in_workers([600.0], 1, partial(sleeper), limit_s=3)  # type: ignore[arg-type]
    assert item == 600.0
    assert isinstance(result, WorkerError)
    assert "took longer than 3 s" in str(result)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a//b", "a\0b", "\ud800", "a/../b"])
def test_names_that_lead_elsewhere_are_no_clips(name: str, tmp_path: Path) -> None:
    assert not is_clip_name(name)
    assert is_clip_name("sub/été 1")
    import json

    (tmp_path / "manifest.jsonl").write_text(json.dumps({"clip": name}) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 1 is not a record"):
        Manifest(tmp_path / "manifest.jsonl")


@pytest.mark.parametrize("text", ["[" * 5000, '{"a":' * 200 + "1" + "}" * 200, "1" * 5000, b"\xff"])
def test_json_that_cannot_be_handed_on_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
    assert parse_json('{"a": "' + "[" * 500 + '", "b": [1e3]}')["b"] == [1000.0]


def test_messages_are_one_line() -> None:
    assert str(UsageError("a\nb\x1b[31m\ud800 été")) == "a\\nb\\x1b[31m\\ud800 été"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(VideoError, match="pipe or a device"):
        check_file(tmp_path / "clip.mp4")


@pytest.mark.parametrize("length", [0, 2**64 - 16])
def test_a_heap_that_leads_nowhere_is_refused_and_not_walked_for_ever(length: int, tmp_path: Path) -> None:
    seeds.tracks(tmp_path)
    path = tmp_path / "clip.hdf5"
    assert TrackFile(path).settings
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL") + 16
    while not length and struct.unpack_from("<H", content, place)[0]:  # texts come before what is free
        place += 16 + -(-struct.unpack_from("<Q", content, place + 8)[0] // 8) * 8
    struct.pack_into("<Q", content, place + 8, length)
    path.write_bytes(content)
    with pytest.raises(TrackFileError, match="heap"):
        TrackFile(path)


def test_a_size_that_is_a_text_is_no_number(tmp_path: Path) -> None:
    seeds.tracks(tmp_path)
    with h5py.File(tmp_path / "clip.hdf5", "r+") as file:
        file["root/default"].attrs["height"] = "48"
    with pytest.raises(TrackFileError, match="height of /root/default is no number"):
        TrackFile(tmp_path / "clip.hdf5")


def test_starts_of_other_windows_are_refused(tmp_path: Path) -> None:
    seeds.tracks(tmp_path)
    with h5py.File(tmp_path / "clip.hdf5", "r+") as file:
        starts = file["root/default/start_frame"][:]
        del file["root/default/start_frame"]
        file["root/default/start_frame"] = np.append(starts, starts[-1] + 2)
    with pytest.raises(TrackFileError, match="start_frame"):
        evaluate_tracks(tmp_path, tmp_path)


def test_names_in_hdf5_need_not_be_utf_8(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "task_demo.hdf5", "w") as file:
        file.create_group(b"data/\xff")
        assert not holds_demos(tmp_path / "task_demo.hdf5")
        file.create_group("data/demo_0")
    assert holds_demos(tmp_path / "task_demo.hdf5")


def test_a_table_that_unfolds_to_far_more_is_refused(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from amplify_motion_tokenizer.foreign_parquet import read_rows

    pq.write_table(pa.table({"a": np.zeros(2**23, np.int8)}), tmp_path / "bomb.parquet")
    with pytest.raises(DamagedError, match="unfold to 8388608 values"):
        read_rows(tmp_path / "bomb.parquet")
    pq.write_table(pa.table({"a": np.arange(3)}), tmp_path / "good.parquet")
    assert read_rows(tmp_path / "good.parquet") == [{"a": 0}, {"a": 1}, {"a": 2}]
    with pytest.raises(DamagedError, match="no column b"):
        read_rows(tmp_path / "good.parquet", lambda _: ["b"])


def test_vectors_that_are_no_numbers_are_not_searched_for_ever(tmp_path: Path) -> None:
    codes = made_up_codes([[1], [2], [3], [4]])
    vectors = np.zeros((4, 3), np.float32)
    vectors[2, 1] = np.nan
    query = query_moment({"clip": codes}, "clip", 0.0, 0.0)
    with pytest.raises(UsageError, match="no finite numbers"):
        nearest({"clip": codes}, {"clip": vectors}, query, 2)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("windows", lambda array: array[::-1], "other clips"),
        ("clips", lambda array: np.array(["../a", "b"]), "names of clips"),
        ("vectors", lambda array: array[:-1], "7 vectors of 8 windows"),
        ("vectors", lambda array: array.astype("f8"), "another kind"),
    ],
)
def test_an_index_of_search_that_was_changed_is_refused(
    name: str, change: Callable[[Any], Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seeds.beside(tmp_path)
    (tmp_path / "own").mkdir()
    folder_seeds.searched(tmp_path / "own")
    assert open_index(tmp_path / "own/two.jsonl") is not None
    (path,) = tmp_path.glob(f"own/two.jsonl.search_index/*/{name}.npy")
    np.save(path, change(np.load(path)))
    with pytest.raises(UsageError, match=told):
        open_index(tmp_path / "own/two.jsonl")


def test_labels_of_frames_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("clip,frame,a\nx,0,1\nx,one,2\n", encoding="utf-8")
    with pytest.raises(UsageError, match="frame of the clip x holds no whole numbers"):
        read_table(tmp_path / "labels.csv")


def test_a_message_is_no_longer_than_a_person_reads() -> None:
    told = str(UsageError(f"clip.json: {'x' * 100_000}; remake it"))
    assert told.startswith("clip.json: ")
    assert told.endswith("; remake it")
    assert len(told) < 2000


def test_a_config_of_amplify_s_of_a_larger_network_than_its_weights_is_refused(tmp_path: Path) -> None:
    folder_seeds.amplify(tmp_path)
    content = torch.load(tmp_path / "plain.pth", weights_only=True)
    for key, value, told in (
        ("num_tracks", 2**63 - 1, "num_tracks is"),
        ("num_tracks", 2**18, "weights do not fit the config"),
        ("hidden_dim", 65536, "weights do not fit the config"),
        ("type", torch.zeros(3), "type = tensor.* is not supported"),
    ):
        torch.save(content | {"config": content["config"] | {key: value}}, tmp_path / "theirs.pth")
        with pytest.raises(CheckpointError, match=told):
            load_checkpoint(tmp_path / "theirs.pth")


def test_labels_whose_sums_are_infinite_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"x": {"a": [1e308, 1e308]}}', encoding="utf-8")
    with pytest.raises(UsageError, match="32 bits"):
        read_table(tmp_path / "labels.json")


def test_an_index_of_tracks_with_settings_that_are_no_json_counts_for_nothing(tmp_path: Path) -> None:
    folder_seeds.index(tmp_path)
    index = tmp_path / ".tracks.json"
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace('{\\\\\\"', "{", 1), encoding="utf-8")
    assert index.read_text(encoding="utf-8") != text
    with folder_seeds.small_index():
        assert {name: clip.num_windows for name, clip in find_tracks(tmp_path).items()} == folder_seeds.CLIPS


def test_a_shard_s_manifest_that_lost_lines_is_not_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seeds.beside(tmp_path)
    (tmp_path / "own").mkdir()
    folder_seeds.shards(tmp_path / "own")
    (path,) = tmp_path.glob("own/codes/.shards/1-of-2.jsonl")
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: whole.index("\n") + 5], encoding="utf-8")
    with pytest.raises(UsageError, match="tell of 1 clips, and the input had 2"):
        merge(tmp_path / "own/codes")


def test_a_damaged_file_of_codes_is_told_where_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    seeds.beside(tmp_path)
    (tmp_path / "own").mkdir()
    folder_seeds.shards(tmp_path / "own")
    (tmp_path / "own/codes/a.json").write_text("damaged", encoding="utf-8")
    with caplog.at_level("WARNING"):
        merge(tmp_path / "own/codes")
    assert caplog.text.count("a.json: is damaged, and left out") == 1
    assert list(read_codes(tmp_path / "own/codes")) == ["sub/b"]


def test_codes_whose_facts_are_infinite_are_refused(tmp_path: Path) -> None:
    said = json.dumps({"clip": "a", "codes": [], "meta": {"source_fps": 30}}).replace("30", "1e999")
    (tmp_path / "a.json").write_text(said)
    with pytest.raises(TokenizerError, match="a.json.*no finite number"):
        read_codes(tmp_path / "a.json")


def test_a_record_that_tells_no_status_counts_as_one_of_an_output(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "manifest.jsonl").write_text('{"clip": "gone"}\n')
    run = FolderRun(clips=[], output=tmp_path, kind="codes", overwrite=False)
    run.begin(SimpleNamespace(records={}, changed=lambda: []), "they stay")
    assert "also holds codes of 1 clips" in caplog.text and "gone" in caplog.text


def test_a_time_that_no_calendar_has_is_not_known() -> None:
    assert utc(1e300) == utc(float("nan")) == "not known"
    assert utc(0) == "1970-01-01 00:00 UTC"
