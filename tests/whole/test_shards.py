"""preprocess and infer in shards, merged, leave what one run leaves."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.run_scripts import (
    INFER,
    TRAIN,
    Result,
    Run,
    Work,
    files_below,
    infer,
    manifest_of,
    preprocess,
    read_lines,
)

COMMANDS = "amplify_motion_tokenizer/__main__.py"
TIMES = ("seconds", "stage_seconds")
SAVE = ("--save", "latents", "labels", "--formats", "json,jsonl,npz")


def left(folder: Path) -> dict[str, Any]:
    """All that is in a folder, but for times in the manifest."""
    files: dict[str, Any] = {name: content for name, (_, content) in files_below(folder).items()}
    files["manifest.jsonl"] = [
        {key: value for key, value in record.items() if key not in TIMES}
        for record in read_lines(folder / "manifest.jsonl")
    ]
    return files


def merge(run: Run, folder: Path) -> Result:
    return run(COMMANDS, "merge", folder)


def test_tracks(run: Run, work: Work, broken: Path, tmp_path: Path) -> None:
    assert preprocess(run, work, tmp_path / "whole", source=broken).status == 3
    out = tmp_path / "out"
    results = [preprocess(run, work, out, "--shard", f"{index}/2", source=broken) for index in (1, 2)]
    assert {result.status for result in results} <= {0, 3}
    assert not (out / "manifest.jsonl").exists()
    refused = run(TRAIN, "--config", work.config, "--input", out, "--output", tmp_path / "run")
    assert f"holds shards 1, 2 of 2, not merged yet; run merge {out}" in refused.error
    merged = merge(run, out)
    assert (merged.status, merged.out) == (0, f"merged {out}: 2 done, 0 skipped, 5 failed\n")
    assert left(out) == left(tmp_path / "whole")


def test_codes_of_videos_and_of_tracks(run: Run, work: Work, tmp_path: Path) -> None:
    for name, source in (("videos", work.videos), ("tracks", work.tracks)):
        assert infer(run, work, tmp_path / f"{name} whole", *SAVE, source=source).status == 0
        out = tmp_path / name
        for shard in ("2/2", "1/2"):
            assert infer(run, work, out, *SAVE, "--shard", shard, source=source).status == 0
            assert not (out / "codes.jsonl").exists()
        refused = run(COMMANDS, "search", "--codes", out, "--clip", "pan", "--start", 0)
        assert f"not merged yet; run merge {out}" in refused.error
        assert merge(run, out).status == 0
        assert left(out) == left(tmp_path / f"{name} whole")
        assert len(read_lines(out / "codes.jsonl")) == len(manifest_of(out)) == 4


def test_shards_of_different_formats_are_refused(run: Run, work: Work, tmp_path: Path) -> None:
    """A file of all clips is made of one format's files."""
    for shard, formats in (("1/2", "json,jsonl"), ("2/2", "npz,jsonl")):
        assert infer(run, work, tmp_path, "--shard", shard, "--formats", formats).status == 0
    assert "shards 1/2 and 2/2 were made with different settings or formats" in merge(run, tmp_path).error
    assert infer(run, work, tmp_path, "--shard", "2/2", "--formats", "json,jsonl").status == 0
    assert merge(run, tmp_path).status == 0
    assert len(read_lines(tmp_path / "codes.jsonl")) == 4


def test_a_shard_of_a_video_that_is_followed_is_refused(run: Run, work: Work) -> None:
    result = run(INFER, "--checkpoint", work.best, "--follow", "-", "--shard", "1/2")
    assert "--follow cannot stand with --shard" in result.error


def test_large_folders_of_tracks_have_their_index(
    run: Run, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made by ``merge``, of the views that training reads."""
    from amplify_motion_tokenizer.codes.merging import merge as merge_here
    from amplify_motion_tokenizer.tracks import folder_index

    monkeypatch.setattr(folder_index, "LEAST_CLIPS", 2)
    for shard in ("1/2", "2/2"):
        assert preprocess(run, work, tmp_path, "--shard", shard).status == 0
    merge_here(tmp_path)
    assert (tmp_path / ".tracks.json").is_file()


def test_a_url_of_files_here_is_their_path(run: Run, work: Work, tmp_path: Path) -> None:
    for name, source in (("url", f"file://{work.videos}/"), ("path", work.videos)):
        tracks = preprocess(run, work, tmp_path / f"{name} tracks", source=source)
        codes = infer(run, work, tmp_path / f"{name} codes", source=source)
        assert (tracks.status, codes.status) == (0, 0)
    for made in ("tracks", "codes"):
        assert left(tmp_path / f"url {made}") == left(tmp_path / f"path {made}")
