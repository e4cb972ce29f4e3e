"""Codes on disk: every format gives back what was written, and says what is wrong with what it is given."""

import dataclasses
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from amplify_motion_tokenizer import MotionCodes, MotionCodeSet, read_codes, write_codes
from amplify_motion_tokenizer.codes.files.base import COLUMNS
from amplify_motion_tokenizer.codes.formats import FORMATS, check_formats, code_format
from amplify_motion_tokenizer.errors import UsageError

META: dict[str, Any] = {
    "format_version": 1,
    "checkpoint": "best.pth",
    "checkpoint_sha256": "ab" * 32,
    "config_hash": "0123456789abcdef",
    "model": "keypoint",
    "fsq_levels": [8, 8, 8, 4],
    "codebook_size": 2048,
    "num_codes": 3,
    "views": ["default"],
    "per_view": False,
    "sequence_length": 16,
    "tracked_length": 16,
    "window_stride": 4,
    "tracker": "flow",
    "versions": {"torch": "2.13.0"},
}

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")


def codes_of(
    clip: str, windows: int, seed: int = 0, latents: bool = False, camera: bool = False, **meta: Any
) -> MotionCodes:
    """Codes whose columns differ everywhere, with some things unknown."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.arange(windows) * 4
    seconds = torch.stack([starts / 20, starts / 20 + 0.75], dim=1).double() / 3
    energy = torch.rand(windows, generator=generator)
    sources = torch.stack([starts, starts + 15], dim=1)
    if windows > 2:
        seconds[1], energy[2], sources[0] = math.nan, math.nan, -1
    facts = {"source": f"{clip}.mp4", "fps": 20.0, "tracked_size": [240, 320], "parts": [0, 9]}
    return MotionCodes(
        ids=torch.randint(0, 2048, (windows, meta.get("num_codes", 3)), generator=generator),
        starts=starts,
        seconds=seconds,
        step_seconds=torch.full((windows,), 0.05, dtype=torch.float64),
        source_frames=sources,
        valid_steps=torch.randint(0, 16, (windows,), generator=generator),
        motion_energy=energy,
        visible_share=torch.rand(windows, generator=generator),
        latents=torch.randn(windows, 3, 4, generator=generator) if latents else None,
        **(_camera(windows, META | meta, generator) if camera else {}),
        clip=clip,
        meta={**META, **facts, **meta},
    )


def _camera(windows: int, meta: dict[str, Any], generator: torch.Generator) -> dict[str, torch.Tensor]:
    moves = torch.randn(windows, len(meta["views"]), 15, 4, 2, generator=generator)
    if windows > 1:
        moves[1, -1, 3:5] = math.nan
    ids = torch.randint(0, 2048, (windows, meta["num_codes"]), generator=generator)
    return {"camera": moves, "camera_ids": ids}


def check_same(found: MotionCodes, wanted: MotionCodes) -> None:
    assert (found.clip, dict(found.meta)) == (wanted.clip, dict(wanted.meta))
    for name in COLUMNS:
        one, other = getattr(found, name), getattr(wanted, name)
        if other is None:
            assert one is None
            continue
        assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        assert torch.equal(one.nan_to_num(-7.0), other.nan_to_num(-7.0)), name


def file_of(name: str, folder: Path) -> Path:
    return folder / f"a{code_format(name).ending}"


FORMAT_NAMES = [pytest.param(name, marks=needs_pyarrow if name == "parquet" else ()) for name in FORMATS]


@pytest.mark.parametrize("windows", [5, 0])
@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_codes_come_back_as_they_were(name: str, windows: int, tmp_path: Path) -> None:
    codes = codes_of("sub/é 1.x", windows)
    write_codes(file_of(name, tmp_path), codes)
    found = read_codes(file_of(name, tmp_path))
    assert list(found) == ["sub/é 1.x"]
    check_same(found["sub/é 1.x"], codes)
    assert found["sub/é 1.x"].parts.tolist() == [-1, 0, 0, 1, 1][:windows]


@pytest.mark.parametrize("windows", [4, 0])
@pytest.mark.parametrize(
    "meta",
    [{}, {"views": ["a", "b"], "num_codes": 6}, {"views": ["a", "b"], "num_codes": 6, "per_view": True}],
    ids=["view", "views", "per_view"],
)
@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_the_camera_comes_back_as_it_was(
    name: str, meta: dict[str, Any], windows: int, tmp_path: Path
) -> None:
    codes = codes_of("a", windows, camera=True, **meta)
    write_codes(file_of(name, tmp_path), codes)
    found = read_codes(file_of(name, tmp_path))["a"]
    check_same(found, codes)
    assert found.camera is not None and found.camera_known is not None
    assert found.camera_known.sum() == found.camera_known.numel() - 2 * (windows > 1)
    write_codes(file_of(name, tmp_path), dataclasses.replace(codes, camera_ids=None))
    assert read_codes(file_of(name, tmp_path))["a"].camera_ids is None


@pytest.mark.parametrize("changed", ["camera", "camera_codes"])
@pytest.mark.parametrize("rows", [[], [[[1]]] * 4])
def test_a_camera_that_cannot_be_is_refused(changed: str, rows: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_codes(path, codes_of("a", 4, camera=True))
    path.write_text(json.dumps(json.loads(path.read_text()) | {changed: rows}))
    with pytest.raises(UsageError, match=rf"a.json.*{changed}.*run inference again"):
        read_codes(path)


@needs_pyarrow
def test_a_table_takes_the_camera_of_all_clips_or_of_none(tmp_path: Path) -> None:
    clips = [codes_of("a", 2, camera=True), codes_of("b", 2)]
    for ordered in (clips, clips[::-1]):
        with pytest.raises(UsageError, match=r"the clip \w has (no )?camera, and others have"):
            write_codes(tmp_path / "codes.parquet", ordered)


def test_equal_codes_are_equal_safetensors_files(tmp_path: Path) -> None:
    for number in range(8):
        write_codes(tmp_path / f"{number}.safetensors", codes_of("a", 4))
    # Of two texts in the library's own order, eight files would agree once in 128 times.
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("name", ["npz", "safetensors", pytest.param("parquet", marks=needs_pyarrow)])
def test_vectors_come_back_too(name: str, tmp_path: Path) -> None:
    codes = codes_of("a", 4, latents=True)
    write_codes(str(file_of(name, tmp_path)), codes)
    check_same(read_codes(str(file_of(name, tmp_path)))["a"], codes)


@pytest.mark.parametrize("name", ["jsonl", pytest.param("parquet", marks=needs_pyarrow)])
def test_tables_hold_many_clips(name: str, tmp_path: Path) -> None:
    clips = [
        codes_of("b", 4),
        codes_of("a", 0),
        codes_of("c/d", 7, seed=1, fps=30.0, contents={"x": [0, 0, 1, 2]}),
    ]
    path = file_of(name, tmp_path)
    write_codes(path, clips)
    found = read_codes(path)
    assert list(found) == ["b", "a", "c/d"]
    for codes in clips:
        check_same(found[codes.clip], codes)
    write_codes(path, found)
    assert list(read_codes(path)) == ["b", "a", "c/d"]
    # The same codes in another format: one line.
    for codes in found.values():
        write_codes(tmp_path / "again" / f"{codes.clip}.npz", codes)
    again = read_codes(tmp_path / "again")
    assert sorted(again) == ["a", "b", "c/d"]
    check_same(again["c/d"], clips[2])


def test_json_has_either_systems_keys(tmp_path: Path) -> None:
    codes = codes_of("a", 3)
    write_codes(tmp_path / "a.json", codes)
    write_codes(tmp_path / "a.codes.json", codes)
    own, theirs = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "a.codes.json"))
    assert own["codes"] == theirs["code_sequences"] == codes.ids.tolist()
    assert own["start_frames"] == theirs["window_starts"] == [0, 4, 8]
    assert own["start_seconds"] == theirs["start_seconds"]
    assert own["start_seconds"][1] is None
    assert own["source_frames"] == [-1, 4, 8]
    assert own["end_source_frames"] == [-1, 19, 23]


def test_older_json_lacks_what_it_did_not_say(tmp_path: Path) -> None:
    meta = {"codebook_size": 9, "window_stride": 1, "sequence_length": 4, "tracked_length": 4, "model": "x"}
    line = {"clip": "a", "codes": [[1, 8]], "start_frames": [3], "meta": meta}
    (tmp_path / "codes.jsonl").write_text(json.dumps(line) + "\n")
    codes = read_codes(tmp_path)["a"]
    assert (codes.ids.tolist(), codes.starts.tolist(), codes.valid_steps.tolist()) == ([[1, 8]], [3], [3])
    assert codes.seconds.isnan().all()
    assert codes.source_frames.tolist() == [[-1, -1]]
    assert codes.parts.tolist() == [-1]


@needs_pyarrow
def test_a_parquet_file_can_be_read_alone(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    views = {"views": ["left", "right"], "per_view": True, "num_codes": 6}
    write_codes(tmp_path / "codes.parquet", [codes_of("a", 2, **views), codes_of("b", 3, seed=1, **views)])
    table = pq.read_table(tmp_path / "codes.parquet")
    rows = table.to_pylist()
    assert [(row["clip"], row["view"], row["start_frame"]) for row in rows[:4]] == [
        ("a", "left", 0), ("a", "right", 0), ("a", "left", 4), ("a", "right", 4),
    ]  # fmt: skip
    assert rows[0]["ids"] + rows[1]["ids"] == codes_of("a", 2, **views).ids[0].tolist()
    assert str(table.schema.field("ids").type) == "list<element: int32>"
    assert rows[4]["source_frame"] is None  # not known, of the clip b
    assert rows[6]["start_seconds"] is None
    told = json.loads(table.schema.metadata[b"motion_codes"])
    assert told["run"]["fsq_levels"] == [8, 8, 8, 4]
    assert {"checkpoint_sha256", "tracker", "versions", "format_version"} <= told["run"].keys()
    assert told["clips"]["b"]["source"] == "b.mp4"
    check_same(read_codes(tmp_path / "codes.parquet")["b"], codes_of("b", 3, seed=1, **views))


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_that_is_cut_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    path = file_of(name, tmp_path)
    write_codes(path, codes_of("a", 40))
    whole = path.read_bytes()
    for share in (0, 0.01, 0.3, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))] or b"")
        if name == "jsonl" and not path.read_bytes():
            continue  # the codes of no clips
        with pytest.raises(UsageError) as caught:
            read_codes(path)
        assert str(caught.value).startswith(str(path)), share
        assert "\n" not in str(caught.value)
    path.write_bytes(b"\x00\xff" * 400)
    with pytest.raises(UsageError, match="is damaged or of another version"):
        read_codes(path)
    path.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        read_codes(path)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_an_unknown_version_is_refused(name: str, tmp_path: Path) -> None:
    path = file_of(name, tmp_path)
    code_format(name).write(path, [codes_of("a", 3, format_version=7)])
    with pytest.raises(UsageError, match=r"format version 7, expected 1; run inference again, or use"):
        read_codes(path)


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_values_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    path, good = file_of(name, tmp_path), codes_of("a", 3)
    wrong = {
        "ids of a are .* to 2048; expected 0 to 2047": {"ids": torch.full((3, 3), 2048)},
        "start_frames of a do not ascend": {"starts": torch.tensor([0, 8, 4])},
        "valid_steps of a are at most 16; expected at most 15": {"valid_steps": torch.tensor([1, 16, 3])},
        "seconds of a do not ascend": {
            "seconds": torch.tensor([[0, 1], [math.nan, math.nan], [-1, 1.0]]).double()
        },
        "seconds of a do not .*scend": {"seconds": torch.tensor([[0, 1], [1, 2], [2, 1.5]]).double()},
    }
    for message, columns in wrong.items():
        code_format(name).write(path, [dataclasses.replace(good, **columns)])
        with pytest.raises(UsageError, match=message):
            read_codes(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracked_size", "x"), ("tracked_size", [0, 5]), ("tracked_size", [5]), ("tracked_sizes", [[1, 2]]),
        ("contents", {"a": [1, 2]}), ("parts", [5, 2]), ("parts", "x"), ("views", []), ("views", 5),
        ("size_changes", 3), ("size_changes", [{}]), ("fps", "x"), ("saved", 1), ("source", 4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["json", "safetensors"])
def test_facts_of_another_kind_are_refused(name: str, key: str, value: object, tmp_path: Path) -> None:
    path = file_of(name, tmp_path)
    code_format(name).write(path, [codes_of("a", 3, **{key: value})])
    with pytest.raises(UsageError, match=rf"meta: {key} is .*; expected .*") as caught:
        read_codes(path)
    assert "\n" not in str(caught.value)


def test_a_clip_that_the_manifest_names_must_be_there(tmp_path: Path) -> None:
    for clip in ("a", "b"):
        write_codes(tmp_path / f"{clip}.npz", codes_of(clip, 3))
    (tmp_path / "checkpoint.yaml").write_text("checkpoint: x\n")
    lines = [
        json.dumps({"clip": clip, "status": status}) for clip, status in (("a", "done"), ("c", "failed"))
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join([*lines, '{"clip": "tor']))
    assert list(read_codes(tmp_path)) == ["a", "b"]
    assert (tmp_path / "manifest.jsonl").read_text().endswith("tor")
    (tmp_path / "a.npz").unlink()
    with pytest.raises(UsageError, match=r"a\.npz: is not there, and manifest\.jsonl says that a is done"):
        read_codes(tmp_path)


@pytest.mark.parametrize("name", ["jsonl", pytest.param("parquet", marks=needs_pyarrow)])
def test_a_table_that_lost_whole_clips_is_cut(name: str, tmp_path: Path) -> None:
    clips = [codes_of(clip, 3) for clip in "abc"]
    write_codes(tmp_path / "a.json", clips[0])
    write_codes(tmp_path / "c.json", clips[2])
    (tmp_path / "checkpoint.yaml").write_text("checkpoint: x\n")
    lines = [json.dumps({"clip": clip, "status": "done"}) + "\n" for clip in "abc"]
    (tmp_path / "manifest.jsonl").write_text("".join(lines))
    table = tmp_path / str(code_format(name).table)
    write_codes(table, clips)
    assert list(read_codes(tmp_path)) == ["a", "b", "c"]
    write_codes(table, clips[:2])
    with pytest.raises(UsageError, match=r"is cut, as it lacks the clip c, whose codes are in c\.json"):
        read_codes(tmp_path)
    # Codes of other settings are another run's, and clips without a file are gone on purpose.
    write_codes(tmp_path / "c.json", codes_of("c", 3, config_hash="ef" * 8))
    assert list(read_codes(tmp_path)) == ["a", "b"]


def test_what_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    for name in ("folder", "codes.parquet", "a.json"):
        with pytest.raises(UsageError, match=rf"{name}: cannot be read \(No such file"):
            read_codes(tmp_path / name)


def test_codes_of_several_runs_are_refused(tmp_path: Path) -> None:
    one, other = codes_of("a", 3), codes_of("b", 3, checkpoint_sha256="cd" * 32, checkpoint="last.pth")
    message = r"several runs: a by best\.pth \(SHA-256 abababab.* and b by last\.pth \(SHA-256 cdcdcdcd"
    with pytest.raises(UsageError, match=message):
        write_codes(tmp_path / "codes.jsonl", [one, other])
    for codes in (one, other):
        write_codes(tmp_path / f"{codes.clip}.npz", codes)
    with pytest.raises(UsageError, match=message):
        read_codes(tmp_path)
    with pytest.raises(UsageError, match="two sets of codes of the clip a"):
        MotionCodeSet([one, one])
    assert not (tmp_path / "codes.jsonl").exists()


def test_what_a_name_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"a\.csv: is no file of codes by its name; .* \.json, \.jsonl"):
        write_codes(tmp_path / "a.csv", codes_of("a", 3))
    with pytest.raises(UsageError, match=r"holds one clip, and there are 2; write \.jsonl or \.parquet"):
        write_codes(tmp_path / "a.npz", [codes_of("a", 3), codes_of("b", 3)])
    with pytest.raises(UsageError, match="cannot be read"):
        read_codes(tmp_path)
    with pytest.raises(KeyError, match="there is no clip x; there are 1, such as a"):
        MotionCodeSet([codes_of("a", 3)])["x"]
    assert check_formats(["json", "npz", "json"]) == ("json", "npz")
    for names, message in {
        ("json", "xml"): "'xml' is no format; allowed: json, jsonl, parquet",
        ("",): "'' is no format",
        ("jsonl",): "jsonl is made of the files of single clips .* name one of json, npz",
    }.items():
        with pytest.raises(UsageError, match=message):
            check_formats(names)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for attempt in (
        lambda: check_formats(["json", "parquet"]),
        lambda: write_codes(tmp_path / "a.parquet", codes_of("a", 3)),
        lambda: read_codes(tmp_path / "a.parquet"),
    ):
        with pytest.raises(UsageError, match=r"needs pyarrow, .* pip install 'pyarrow>=17'"):
            attempt()
