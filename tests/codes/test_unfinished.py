"""Codes of a clip that is being worked on are on disk, and are never taken for all of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from amplify_motion_tokenizer import read_codes, scenes
from amplify_motion_tokenizer.codes import clip_codes
from amplify_motion_tokenizer.codes.encoding import GatheredBatches
from amplify_motion_tokenizer.codes.inference import tokenize_folder
from amplify_motion_tokenizer.codes.overrides import overridden
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from tests.support.render_clips import write_clip

SETTINGS = {
    "tracking.window_stride": 4,
    "tracking.num_workers": 1,
    "video.size": {"shorter": 48},
    "inference.batch_size": 2,
}


def test_what_a_killed_run_made_is_there_and_the_next_run_makes_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load_checkpoint("default")
    config = overridden(checkpoint, SETTINGS)
    # As long as a name can be where the file is called <clip>.json: the other one must fit, too.
    name, out = "c" * 250, tmp_path / "codes"
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / f"videos/{name}.mp4", scenes.render_clip("mixed", 0, (48, 64), 44)[0])
    encode, calls = clip_codes.encode_views, []

    def killed(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return encode(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(clip_codes, "encode_views", killed)
        with pytest.raises(KeyboardInterrupt):
            tokenize_folder(tmp_path / "videos", out, checkpoint, config)
    (unfinished,) = out.glob("unfinished-*.jsonl")
    with pytest.warns(UserWarning, match="has not ended; it holds 4 windows so far"):
        so_far = read_codes(unfinished)[name]
    assert not list(out.glob("*.json"))
    with pytest.raises(UsageError, match=r"codes.jsonl: cannot be read"):
        read_codes(out)
    summary = tokenize_folder(tmp_path / "videos", out, checkpoint, config)
    assert (summary.done, summary.skipped) == (1, 0)
    whole = read_codes(out)[name]
    assert whole.starts.tolist() == list(range(0, 29, 4))
    assert torch.equal(whole.ids[:4], so_far.ids) and torch.equal(whole.starts[:4], so_far.starts)
    assert so_far.meta["config_hash"] == whole.meta["config_hash"]
    assert not list(out.glob("unfinished-*"))


def test_gathered_batches_are_what_was_given() -> None:
    torch.manual_seed(0)
    batches = [
        {"ids": torch.randint(0, 9, (count, 3)), "seconds": torch.rand(count, dtype=torch.float64)}
        for count in (1, 5, 2, 32, 32, 3)
    ]
    expected = {name: torch.cat([batch[name] for batch in batches]) for name in ("ids", "seconds")}
    gathered = GatheredBatches()
    for batch in batches:
        gathered.add(batch)
        for column in batch.values():
            column.fill_(-1)  # what was given may be used again
    assert len(gathered) == 75
    for name, column in gathered.taken().items():
        assert torch.equal(column, expected[name])
        assert column.untyped_storage().nbytes() == column.nelement() * column.element_size()
