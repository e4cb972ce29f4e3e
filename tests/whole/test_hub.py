"""Tokenizers and data sets as folders of the Hugging Face Hub: written, read again, fetched, uploaded."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from amplify_motion_tokenizer import Tokenizer, load_tokenizer
from amplify_motion_tokenizer.codes.made_with import tokenizer_of
from amplify_motion_tokenizer.codes.reading import MotionCodeSet
from amplify_motion_tokenizer.errors import CheckpointError, UsageError
from amplify_motion_tokenizer.geometry import query_grid
from amplify_motion_tokenizer.hub import is_name
from amplify_motion_tokenizer.models.checkpoint import load_checkpoint
from tests.support.checkpoints import KEYPOINT, save_native
from tests.support.fake_hub import COMMIT, fake_hub
from tests.support.run_scripts import REPO

pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("run") / "best.pth"
    save_native(path, KEYPOINT)
    return load_tokenizer(path, "cpu")


def ids_of(tokenizer: Tokenizer) -> torch.Tensor:
    shape = tokenizer.model.input_shape
    return tokenizer.tokenize(torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)) * 0.2)


@pytest.mark.parametrize("name", ["trained", "codec", "transform"])
def test_a_saved_folder_gives_the_same_codes(trained: Tokenizer, tmp_path: Path, name: str) -> None:
    before = trained if name == "trained" else load_tokenizer(name, "cpu")
    picture = REPO / "docs/images/rate_distortion.png"
    written = before.save_pretrained(tmp_path / "saved", "user/mine", "mit", picture)
    names = ["model.safetensors", "config.json", "README.md", "curve.png"]
    assert (
        [path.name for path in written]
        == names
        == [each for each in names if (tmp_path / "saved" / each).is_file()]
    )
    for path in (tmp_path / "saved", tmp_path / "saved/model.safetensors"):
        after = Tokenizer.from_pretrained(path, "cpu")
        assert after.config == before.config
        for key, value in before.model.state_dict().items():
            assert torch.equal(after.model.state_dict()[key], value), key
        if name == "trained":
            assert torch.equal(ids_of(after), ids_of(before))
    again = Tokenizer.from_pretrained(tmp_path / "saved", "cpu")
    again.save_pretrained(tmp_path / "again", "user/mine", "mit", picture)
    for each in names:
        assert (tmp_path / "again" / each).read_bytes() == (
            tmp_path / "saved" / each
        ).read_bytes() or each == "README.md"


def test_a_copy_and_its_original_have_the_same_codes(tmp_path: Path) -> None:
    before = load_tokenizer("transform", "cpu")
    before.save_pretrained(tmp_path / "copy")
    after = load_tokenizer(tmp_path / "copy", "cpu")
    after.save_pretrained(tmp_path / "copy of it")
    last = load_tokenizer(tmp_path / "copy of it", "cpu")
    assert before.checkpoint_sha256 == after.checkpoint_sha256 == last.checkpoint_sha256
    size, generator = (48, 64), torch.Generator().manual_seed(0)
    start = torch.from_numpy(query_grid("row_major", 20, size)).reshape(1, 1, 400, 2)
    steps = torch.randn(1, 15, 1, 2, generator=generator).cumsum(1)
    tracks = torch.cat([start, start + steps], 1)
    codes = before.encode_tracks(tracks, torch.ones(tracks.shape[:3]), size=size, fps=20)
    for one in (after, last):
        torch.testing.assert_close(one.decode(codes), before.decode(codes))
        assert tokenizer_of(MotionCodeSet([codes]), one._checkpoint.path).num_codes == 16


def test_a_tokenizer_that_was_changed_is_another(trained: Tokenizer, tmp_path: Path) -> None:
    other = copy.deepcopy(trained)
    with torch.no_grad():
        next(other.model.parameters()).add_(1)
    other.save_pretrained(tmp_path / "other")
    assert load_tokenizer(tmp_path / "other", "cpu").checkpoint_sha256 != trained.checkpoint_sha256


def test_the_card_says_what_the_tokenizer_is(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path / "saved", "user/mine", "apache-2.0")
    _, front, text = (tmp_path / "saved/README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "amplify-motion-tokenizer",
        "tags": ["motion-tokenizer", "robotics", "video", "fsq"],
        "license": "apache-2.0",
    }
    assert 'load_tokenizer("user/mine")' in text and "| codes of a window | 3 ids of 20, 13 bits |" in text
    assert "| trained on | tracks of videos |" in text and "curve.png" not in text
    config = json.loads((tmp_path / "saved/config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "keypoint" and config["config"]["model"]["fsq_levels"] == [5, 4]
    for name, words in (("codec", "made-up motion, as the package"), ("transform", "nothing: it works by")):
        load_tokenizer(name, "cpu").save_pretrained(tmp_path / name)
        assert f"| trained on | {words}" in (tmp_path / name / "README.md").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match=r"none\.png: cannot be read"):
        trained.save_pretrained(tmp_path / "other", picture=tmp_path / "none.png")


def test_a_changed_config_is_refused(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["config"]["video"]["target_fps"] = 3.0
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json: says something else than model\.safetensors"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("no JSON", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json: is not JSON"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    load_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is a folder; give"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("user/name", True), ("user/name@v1.0", True), ("user/na-me.2", True), ("name", False),
        ("user/best.pth", False), ("a/b/c", False), ("/user/name", False), ("tests/whole", False),
        ("tests/missing", False), ("../x/y", False), ("user/", False),
    ],
)  # fmt: skip
def test_names_on_the_hub_are_no_paths(text: str, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    assert is_name(text) is named


FETCH = """
import sys
from pathlib import Path
from amplify_motion_tokenizer import load_tokenizer
from amplify_motion_tokenizer.errors import TokenizerError
from amplify_motion_tokenizer.video.lerobot import read_dataset
for name in sys.argv[1:]:
    try:
        if name.startswith("data:"):
            print(len(read_dataset(Path(name[5:])).episodes), "episodes")
        elif name.startswith("push:"):
            print(load_tokenizer("transform", "cpu").push_to_hub(name[5:], "mit"))
        else:
            print(load_tokenizer(name, "cpu").config.model.name)
    except TokenizerError as error:
        print("error:", error)
"""


def fetched(home: Path, url: str, *names: str, **environment: str) -> list[str]:
    own = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_TOKEN": "hf_none",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *names], capture_output=True, text=True, cwd=REPO, check=False,
        env={**os.environ, **own, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_names_are_fetched_kept_and_uploaded(trained: Tokenizer, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from tests.support.lerobot_data import write_dataset

    trained.save_pretrained(tmp_path / "mine")
    load_tokenizer("transform", "cpu").save_pretrained(tmp_path / "old")
    (tmp_path / "empty").mkdir()
    folders: Any = {
        ("model", "user/mine", "main"): tmp_path / "mine",
        ("model", "user/mine", "v1"): tmp_path / "old",
        ("model", "user/empty", "main"): tmp_path / "empty",
        ("dataset", "user/robot", "main"): write_dataset(tmp_path / "data", (2, 2)),
    }
    home = tmp_path / "home"
    with fake_hub(folders) as (url, hub):
        names = ["user/mine", "user/mine@v1", "user/none", "user/empty", "data:user/robot", "push:user/new"]
        found = fetched(home, url, *names)
        assert found[:2] == ["keypoint", "transform"] and found[4] == "2 episodes"
        assert found[2].startswith(
            "error: user/none: cannot be fetched from the Hugging Face Hub as a model ("
        )
        assert (
            found[3]
            == "error: user/empty: holds no model.safetensors on the Hub; expected a motion tokenizer"
        )
        assert found[5].endswith(f"/commit/{COMMIT}")
        assert set(hub.uploaded) == {"model.safetensors", "config.json", "README.md"}
        assert not [asked for asked in hub.asked if "README.md" in asked]
        for name, content in hub.uploaded.items():
            assert content == (tmp_path / "old" / name).read_bytes() or name == "README.md"
    # The Hub is gone; what was fetched is not.
    found = fetched(
        home, url, "user/mine", "user/mine@v1", "data:user/robot", "user/other", HF_HUB_OFFLINE="1"
    )
    assert found[:3] == ["keypoint", "transform", "2 episodes"] and found[3].startswith(
        "error: user/other: cannot"
    )


def test_torch_hub_loads_a_tokenizer(tmp_path: Path) -> None:
    tokenizer = torch.hub.load(
        str(REPO), "motion_tokenizer", source="local", checkpoint="transform", device="cpu"
    )
    assert tokenizer.config.model.name == "transform" and tokenizer.num_codes == 16


def test_without_the_library_its_install_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        UsageError, match="someone/somewhere is no file or folder here, and the .* pip install"
    ):
        load_checkpoint("someone/somewhere")
