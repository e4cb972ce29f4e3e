"""Vision encoders with random weights: shapes, freezing, and the names of AMPLIFY's ResNet-18."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from amplify_motion_tokenizer.errors import CheckpointError, ConfigError
from amplify_motion_tokenizer.models.amplify.vision import (
    VISION_ENCODERS,
    VisionEncoder,
    build_vision_encoder,
    image_shape,
    load_pretrained,
    resnet18_from_timm,
    resnet18_to_timm,
)

TINY_DINOV2 = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def _needs_transformers(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "without_transformers" not in request.node.name:
        pytest.importorskip("transformers", reason="needs the vision extra (transformers)")


def resnet(**options: bool) -> VisionEncoder:
    torch.manual_seed(0)
    return build_vision_encoder("resnet18", **options)


def timm_forward(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """ResNet-18's features by the names of AMPLIFY's files, from the paper: (K, 3, H, W) to (K, 512, ...)."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"model.{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (
            state[f"model.{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, scale, shift)

    x = F.max_pool2d(norm(conv(images, "0", 2), "1").relu(), 3, 2, 1)
    for stage in range(4, 8):
        for block in range(2):
            name, stride = f"{stage}.{block}", 2 if stage > 4 and block == 0 else 1
            inner = norm(conv(x, f"{name}.conv1", stride), f"{name}.bn1").relu()
            inner = norm(conv(inner, f"{name}.conv2"), f"{name}.bn2")
            if stride == 2:
                x = norm(conv(x, f"{name}.downsample.0", 2), f"{name}.downsample.1")
            x = (x + inner).relu()
    return x


def test_resnet18_names_mean_the_same_network() -> None:
    encoder = resnet()
    with torch.no_grad():
        for parameter in encoder.parameters():  # no weight may be the same as another
            parameter.add_(torch.rand_like(parameter) * 0.02)
    images = torch.rand(1, 2, 224, 224, 3)
    state = resnet18_to_timm(encoder.state_dict())
    expected = timm_forward(state, images[0].movedim(-1, 1)).flatten(2).transpose(1, 2)
    tokens = encoder(images)
    assert tokens.shape == (1, 2, encoder.num_tokens, encoder.dim) == (1, 2, 49, 512)
    torch.testing.assert_close(tokens[0], expected, rtol=1e-4, atol=1e-4)


def test_resnet18_names_round_trip() -> None:
    ours = resnet().state_dict()
    theirs = resnet18_to_timm(ours)
    assert len(theirs) == len(ours) == 20 + 5 * 20
    assert {"model.0.weight", "model.1.running_var", "model.7.0.downsample.1.num_batches_tracked"} < {*theirs}
    back = resnet18_from_timm(theirs)
    assert back.keys() == ours.keys()
    assert all(back[key] is ours[key] or torch.equal(back[key], ours[key]) for key in ours)


def test_names_that_cannot_be_mapped() -> None:
    theirs = resnet18_to_timm(resnet().state_dict())
    lacking = {key: value for key, value in theirs.items() if key != "model.4.1.bn2.bias"}
    with pytest.raises(CheckpointError, match=r"do not fit AMPLIFY's.*model\.4\.1\.bn2\.bias is missing"):
        resnet18_from_timm(lacking)
    with pytest.raises(CheckpointError, match=r"model\.blocks\.0\.attn\.weight is unknown"):
        resnet18_from_timm({**theirs, "model.blocks.0.attn.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"\(and \d+ more\)"):
        resnet18_to_timm({})


def test_images_are_stretched_and_not_normalised() -> None:
    encoder = resnet()
    small = torch.rand(1, 1, 30, 50, 3)
    large = F.interpolate(small[0].movedim(-1, 1), (224, 224), mode="bilinear").movedim(1, -1)[None]
    torch.testing.assert_close(encoder(small), encoder(large))
    seen = []
    encoder.model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs), with_kwargs=True)
    encoder(torch.full((1, 1, 8, 8, 3), 0.25))
    torch.testing.assert_close(seen[0]["pixel_values"], torch.full((1, 3, 224, 224), 0.25))
    with pytest.raises(ValueError, match=r"torch\.uint8 \(1, 1, 30, 50, 3\); expected float"):
        encoder((small * 255).byte())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_may_be_of_any_float_type(dtype: torch.dtype) -> None:
    encoder, images = resnet().eval(), torch.rand(1, 1, 20, 20, 3).to(dtype)
    assert torch.equal(encoder(images), encoder(images.float()))


@pytest.mark.parametrize("wrong", [255.0, -1.0, torch.nan])
def test_values_beyond_0_to_1_are_refused(wrong: float) -> None:
    images = torch.rand(1, 1, 20, 20, 3)
    images[0, 0, 3, 4, 1] = wrong
    with pytest.raises(ValueError, match=r"hold values from .* in \[0, 1\]: divide bytes by 255"):
        resnet().eval()(images)


def test_a_frozen_encoder_stays_as_it_is() -> None:
    encoder = resnet().train()
    assert not any(module.training for module in encoder.model.modules())
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    assert not encoder(torch.rand(1, 1, 32, 32, 3)).requires_grad
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_trained_encoder_learns() -> None:
    encoder = resnet(frozen=False).train()
    assert all(module.training for module in encoder.modules())
    encoder(torch.rand(2, 1, 32, 32, 3)).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters())
    with torch.no_grad():
        assert not encoder.eval()(torch.rand(1, 1, 32, 32, 3)).requires_grad


def test_dinov2_gives_patch_tokens() -> None:
    encoder = build_vision_encoder("dinov2-small", overrides=TINY_DINOV2)
    images = torch.rand(2, 3, 40, 60, 3)
    tokens = encoder(images)
    assert tokens.shape == (2, 3, 256, 24)
    assert (encoder.num_tokens, encoder.dim) == (256, 24)
    one = encoder(images[1:, 2:])
    torch.testing.assert_close(tokens[1:, 2:], one, rtol=1e-4, atol=1e-5)
    full_size = torch.rand(1, 1, 224, 224, 3)
    everything = encoder.model(pixel_values=full_size[0].movedim(-1, 1)).last_hidden_state
    torch.testing.assert_close(encoder(full_size)[0], everything[:, 1:])  # the class token comes first
    pooled = VisionEncoder(encoder.model, pooled=True)
    assert pooled.num_tokens == 1
    torch.testing.assert_close(pooled(images[1:, 2:]), one.mean(dim=2, keepdim=True))


def test_weights_from_a_folder(tmp_path: Path) -> None:
    encoder = build_vision_encoder("dinov2-small", overrides=TINY_DINOV2)
    encoder.model.save_pretrained(tmp_path)
    other = build_vision_encoder("dinov2-base", overrides=TINY_DINOV2)
    images = torch.rand(1, 1, 20, 20, 3)
    assert not torch.equal(other(images), encoder(images))
    load_pretrained(other, str(tmp_path))
    assert torch.equal(other(images), encoder(images))
    with pytest.raises(CheckpointError, match="holds a dinov2 model, expected resnet"):
        load_pretrained(resnet(), str(tmp_path))
    wider = build_vision_encoder("dinov2-small", overrides={**TINY_DINOV2, "hidden_size": 32})
    with pytest.raises(CheckpointError, match=r"another .* has shape \(1, 1, 24\), expected \(1, 1, 32"):
        load_pretrained(wider, str(tmp_path))


def test_weights_that_lack_keys_or_are_not_there(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    encoder = build_vision_encoder("dinov2-small", overrides=TINY_DINOV2)
    encoder.model.save_pretrained(tmp_path)
    state = safetensors.load_file(tmp_path / "model.safetensors")
    state.pop("layernorm.bias")
    safetensors.save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights such as layernorm\.bias"):
        load_pretrained(encoder, str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="vision weights cannot be read"):
        load_pretrained(encoder, str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty: vision weights cannot be read"):
        load_pretrained(encoder, str(tmp_path / "empty"))


def test_shapes_are_known_before_the_network_is() -> None:
    for pooled in (False, True):
        encoder = resnet(pooled=pooled)
        assert image_shape("resnet18", pooled) == (encoder.num_tokens, encoder.dim)
    assert [image_shape(name) for name in VISION_ENCODERS[1:]] == [(256, 384), (256, 768), (256, 1024)]


def test_names() -> None:
    assert VISION_ENCODERS == ("resnet18", "dinov2-small", "dinov2-base", "dinov2-large")
    with pytest.raises(ConfigError, match="'resnet' is unknown; allowed: resnet18, dinov2-small"):
        build_vision_encoder("resnet")


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="pip install transformers"):
        build_vision_encoder("resnet18")
