"""What YAML files and command lines say: as it is written, or refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.config.checks import validate
from amplify_motion_tokenizer.config.loading import load_yaml
from amplify_motion_tokenizer.config.yaml_text import Scalar, meanings, parse
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.files import write_yaml

FLAGS: cli.Flags = {"--input": {"type": str}, "--starts": {"type": int, "nargs": "+"}}


def config_of(*argv: str) -> Config:
    return cli.parse(argv, "train", "test", FLAGS)[0]


def value_of(key: str, *words: str) -> Any:
    found: Any = config_of(f"--{key}", *words)
    for name in key.split("."):
        found = getattr(found, name)
    return found


def error_of(tmp_path: Path, *texts: str) -> str:
    argv = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
        argv += ["--config", str(tmp_path / f"{number}.yaml")]
    with pytest.raises(ConfigError) as caught:
        config_of(*argv)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  epochs: 3\n  epochs: 4\n", "0.yaml:3: epochs is written twice, first in line 2"),
        ("data: {}\nloss: {}\ndata: {}\n", "0.yaml:3: data is written twice, first in line 1"),
        (
            "training:\n  epochs: 010\n",
            "0.yaml:2: training.epochs = 010 is impossible: 010 has a leading zero",
        ),
        (
            "training:\n  epochs: 1:00\n",
            "0.yaml:2: training.epochs = 1:00 is impossible",
        ),
        (
            "training: {compile: on}\n",
            "0.yaml:1: training.compile = on is impossible; allowed: true or",
        ),
        ("training: {compile: 1}\n", "0.yaml:1: training.compile = 1 is impossible; allowed: true or false"),
        (
            'training: {epochs: "3"}\n',
            '0.yaml:1: training.epochs = "3" is impossible; allowed: a whole',
        ),
        ("training: {epochs: 2.0}\n", "0.yaml:1: training.epochs = 2.0 is impossible"),
        ("training: {epochs: true}\n", "0.yaml:1: training.epochs = true is impossible"),
        ("training:\n\n  seed:\n", "0.yaml:3: training.seed is left blank; write a whole number from 0"),
        (
            "video:\n  target_fps:\n",
            "0.yaml:2: video.target_fps is left blank; write a number above 0",
        ),
        ("training: {seed: null}\n", "0.yaml:1: training.seed = null is impossible"),
        ("tracking: {tracker: ~}\n", "0.yaml:1: tracking.tracker = ~ is impossible; allowed: a text"),
        ("training: {seed: .nan}\n", "0.yaml:1: training.seed = .nan is impossible"),
        ("loss: {gamma: .inf}\n", "0.yaml:1: loss.gamma = .inf is impossible; allowed: a finite number"),
        (
            "loss: {view_weights: [1]}\n",
            "loss.view_weights = [1] is impossible; allowed: {name: a",
        ),
        ("data: {views: default}\n", "data.views = default is impossible; allowed: [a text, ...]"),
        ("data: {views: []}\n", "data.views = [] is impossible; allowed: [a text, ...]"),
        ("data: &a {views: *a}\n", "0.yaml:1: holds itself"),
        ("? [a]\n: 3\n", "0.yaml:1: a key is a list or a mapping"),
        ("just a text\n", "0.yaml holds a text, expected sections"),
        (
            "training:\n  epoch: 3\n",
            "0.yaml:2: unknown key training.epoch = 3; closest valid key: tr",
        ),
        ("training: 3\n", "0.yaml:1: training = 3 is a section; expected keys below it"),
        (
            "model:\n  num_heads: 7\n",
            "0.yaml:2: model.num_heads = 7 is impossible; allowed: a whole num",
        ),
        ("a: !!python/object:os.system {}\n", "unknown key a"),
    ],
)
def test_what_is_refused_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    assert message in error_of(tmp_path, text)


def test_the_right_one_of_several_files_is_named(tmp_path: Path) -> None:
    good, bad = "training:\n  epochs: 3\n", "\n\ntraining:\n  epochs: ten\n"
    assert error_of(tmp_path, good, bad).startswith("1.yaml:4: training.epochs = ten is impossible")
    assert error_of(tmp_path, "training: {epochs: 0}", good.replace("3", "-1")).startswith(
        "1.yaml:2: training.e"
    )
    # A rule of two settings names the one that is told to change.
    assert error_of(tmp_path, "model: {num_heads: 5}", "model: {hidden_dim: 64}").startswith(
        "0.yaml:1: model.num"
    )


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "data:\n  augmentation:\n    # commented out\n", "training:\n", "loss: ~\n"],
)
def test_empty_files_and_sections_set_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert config_of("--config", str(tmp_path / "c.yaml")) == validate(Config())


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("training.mixed_precision", "no", "no"),
        ("training.mixed_precision", '"no"', "no"),
        ("training.wandb_project", "off", "off"),
        ("training.wandb_project", "010", "010"),
        ("training.wandb_project", "1e5", "1e5"),
        ("training.wandb_project", '"null"', "null"),
        ("training.wandb_project", "null", None),
        ("training.wandb_project", "2020-01-01", "2020-01-01"),
        ("training.learning_rate", "1e-5", 1e-5),
        ("training.learning_rate", "1", 1.0),
        ("training.epochs", "0o10", 8),
        ("training.epochs", "0x10", 16),
        ("training.epochs", "+12", 12),
        ("video.size", "[64, 96]", (64, 96)),
        ("video.size", "{shorter: 64}", {"shorter": 64}),
        ("data.augmentation.scale", "[1, 2]", (1.0, 2.0)),
        ("tracking.view_files", '{a: "{clip}/a.mp4"}', {"a": "{clip}/a.mp4"}),
    ],
)
def test_values_mean_the_same_in_a_file_and_on_the_command_line(
    tmp_path: Path, key: str, text: str, value: object
) -> None:
    assert value_of(key, text) == value
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(key.split("."))]
    (tmp_path / "c.yaml").write_text("\n".join(lines) + f" {text}\n")
    found: Any = config_of("--config", str(tmp_path / "c.yaml"))
    for name in key.split("."):
        found = getattr(found, name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--model.fsq_levels", "8,8"], (8, 8)),
        (["--model.fsq_levels", "8", "8"], (8, 8)),
        (["--model.fsq_levels", "[8,8]"], (8, 8)),
        (["--model.fsq_levels", "[8,", "8]"], (8, 8)),
        (["--model.fsq_levels=8,8"], (8, 8)),
        (["--model.fsq_levels", "8"], (8,)),
    ],
)
def test_lists_can_be_typed_in_every_way(words: list[str], value: tuple[int, ...]) -> None:
    assert config_of(*words, "--training.epochs", "3").model.fsq_levels == value


def test_other_typing() -> None:
    assert value_of("training.betas", "0.9", "0.95") == value_of("training.betas", "0.9,0.95") == (0.9, 0.95)
    assert value_of("video.size", "64", "96") == value_of("video.size", "64,96") == (64, 96)
    assert value_of("video.size", "null") is None
    assert value_of("video.size", "{shorter:", "64}") == {"shorter": 64}
    assert value_of("loss.view_weights", "{a: 1}") == {"a": 1.0}
    amplify = ["--model.name", "amplify", "--data.reference_size", "64", "64"]
    assert config_of("--data.views", "a", "b", *amplify).data.views == ("a", "b")
    assert config_of("--data.views", "a,b", *amplify).data.views == ("a", "b")
    with pytest.raises(ConfigError, match=r"^training\.learning_rate = -1e-3 is impossible; allowed: a num"):
        value_of("training.learning_rate", "-1e-3")
    with pytest.raises(ConfigError, match=r"^tracking\.cotracker\.weights_sha256 is a record"):
        value_of("tracking.cotracker.weights_sha256", "abc")
    with pytest.raises(ConfigError, match=r"^training\.epochs lacks its value"):
        config_of("--training.epochs=")
    with pytest.raises(ConfigError, match=r"^training\.betas = 0\.9 is impossible"):
        config_of("--training.betas", "0.9", "--input", "x")


def test_flags_win_wherever_they_stand_and_keep_their_values(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("training: {epochs: 9}\ndata: {views: [a]}\n")
    line = [
        "--training.epochs",
        "2",
        "--starts",
        "3",
        "-5",
        "--config",
        str(tmp_path / "c.yaml"),
        "--input",
        "x",
    ]
    config, flags = cli.parse(line, "train", "test", FLAGS)
    assert (config.training.epochs, config.data.views) == (2, ("a",))
    assert (flags.input, flags.starts) == ("x", [3, -5])


def test_every_yaml_is_read_by_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: no\nb: 1:00\nc: 1e3\nd: 0x1F\ne: [~, TRUE, .5]\n")
    found = {"a": "no", "b": "1:00", "c": 1000.0, "d": 31, "e": [None, True, 0.5]}
    assert load_yaml(tmp_path / "a.yaml") == found
    for text, message in [
        ("a: 1\na: 2", "a.yaml:2: a is written twice"),
        ("a: 007", "007 has a leading zero"),
    ]:
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_yaml(tmp_path / "a.yaml")


NINE = ", ".join("x" * 9)
"""Nine values; each line of BOMB has nine times as many as the one before."""
BOMB = f"a: &a [{NINE}]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "aliases stand for more than 100000 values"),
        (f"video: {'{a: ' * 60}1{'}' * 60}", "0.yaml:1: is nested too deeply"),
        (f"video: {'[' * 3000}{']' * 3000}", "0.yaml: is nested too deeply"),
        ("video: &v {target_fps: 20}\ntracking:\n  <<: *v\n", "0.yaml:3: merging with << is no part"),
        ("video:\n\ttarget_fps: 20\n", "0.yaml:2: is not YAML: while scanning for the next token, found"),
        ("video: {fps: 1}\n---\nvideo: {fps: 1}\n", "0.yaml:2: is not YAML: expected a single document"),
        ("video: \0", "0.yaml: is not YAML: unacceptable character"),
        (
            "video:\n  fps: 20\nvideo.fps: 25\n",
            "0.yaml:3: video.fps is written twice, first at 0.yaml:2; keep one",
        ),
        (
            "video.size: 1\nvideo: {fps: 1, size: 2}\n",
            "0.yaml:2: video.size is written twice, first at 0.yaml:1",
        ),
        ('video: {reader: "a\\nb\\e[31m"}', '0.yaml:1: video.reader = "a\\nb\\x1b[31m" is impossible'),
        ('"a\\nb": 1', "0.yaml:1: unknown key a\\nb = 1"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in error_of(tmp_path, text)


def test_a_long_value_is_told_by_its_beginning(tmp_path: Path) -> None:
    message = error_of(tmp_path, f"video: {{reader: {'a' * 3000}}}")
    assert f"= {'a' * 200}... (3000 characters) is impossible; allowed: auto" in message


def test_a_folder_called_like_a_shipped_config_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "other").mkdir()
    assert config_of("--config", "quickstart").data.grid_size == 6
    with pytest.raises(ConfigError, match="other is a folder; give a path, or the name of a shipped"):
        config_of("--config", "other")


texts = (
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
    | st.from_regex(r"[-+]?[0-9.:_eox]{1,6}", fullmatch=True)
    | st.sampled_from(["no", "on", "null", "~", "True", "y", "0o7", "1e5", ".inf", "<<", "="])
)
trees = st.dictionaries(
    texts, texts | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False) | st.lists(texts)
)


@settings(max_examples=40)
@given(trees)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.yaml"
    write_yaml(path, tree)
    assert load_yaml(path) == tree


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_as_yaml_itself_would(text: str) -> None:
    try:
        found = parse(text, "x.yaml")
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert yaml.compose(text, yaml.SafeLoader) is not None or found == Scalar("")
    try:
        meanings(found)
    except ValueError as error:
        assert "leading zero" in str(error)
