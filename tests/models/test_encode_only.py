"""Asking for codes alone never runs the decoder, on any way to them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from amplify_motion_tokenizer.codes.inference import encode_windows
from amplify_motion_tokenizer.config import Config
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from tests.support.tracked import random_windows

DECODING = {"keypoint": {"decoder", "output_projection"}, "amplify": {"network.decoder"}}


def watched_model(tiny: Config, name: str) -> tuple[MotionTokenizer, set[str], Config]:
    """A model, the names of its modules that have run, and its config."""
    config = dataclasses.replace(
        tiny,
        model=dataclasses.replace(tiny.model, name=name, num_layers=2),
        data=dataclasses.replace(tiny.data, reference_size=(48, 64)),
    )
    model, ran = build_model(config).eval(), set[str]()
    for part, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, part=part: ran.add(part))
    return model, ran, config


@pytest.mark.parametrize("name", DECODING)
def test_codes_are_made_without_decoding(tiny: Config, name: str) -> None:
    model, ran, config = watched_model(tiny, name)
    windows = [(window,) for window in random_windows(config, 3, 0, (48, 64))]
    assert [len(batch["code_sequences"]) for batch in encode_windows(windows, [(48, 64)], model, config)] == [
        3
    ]
    list(encode_windows(windows, [(48, 64)], model, config, save=["latents"]))
    model.tokenize(torch.zeros(2, *model.input_shape))
    assert ran and not DECODING[name] & ran
    list(encode_windows(windows, [(48, 64)], model, config, save=["labels"]))
    assert DECODING[name] & ran, "else the hooks see nothing"
