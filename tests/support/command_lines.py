"""Command lines that a command refuses."""

import pytest

from amplify_motion_tokenizer.commands import cli
from amplify_motion_tokenizer.config import (
    Config,
)
from amplify_motion_tokenizer.errors import ConfigError

FLAGS: cli.Flags = {"--input": {"type": str}}


def parse(*argv: str) -> Config:
    return cli.parse(argv, "train", "test", FLAGS)[0]


def error_of(*argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(*argv)
    message = str(caught.value)
    assert "\n" not in message
    return message
