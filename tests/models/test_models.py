"""Models against the golden vectors of the reproduction, and what they promise beyond them."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from amplify_motion_tokenizer.config import Config, DataConfig
from amplify_motion_tokenizer.data.masks import static_mask
from amplify_motion_tokenizer.errors import ConfigError
from amplify_motion_tokenizer.geometry import labels_from_wnorm, wnorm_from_px
from amplify_motion_tokenizer.models import MotionTokenizer, build_model
from amplify_motion_tokenizer.models.keypoint.blocks import DecoderLayer, EncoderLayer
from amplify_motion_tokenizer.models.quantizer import build_fsq, quantize_float32
from tests.support.configs import small_config
from tests.support.golden_models import KEYPOINT, keypoint_config, read_golden, state_of
from tests.support.reference_losses import focal_loss


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return read_golden(KEYPOINT).tensors


@pytest.fixture(scope="module")
def golden_config() -> Config:
    return keypoint_config(read_golden(KEYPOINT))


@pytest.fixture
def loaded(golden: dict[str, Tensor], golden_config: Config) -> MotionTokenizer:
    model = build_model(golden_config)
    model.load_state_dict(state_of(golden))
    return model.eval()


def test_golden_outputs(loaded: MotionTokenizer, golden: dict[str, Tensor]) -> None:
    velocities = wnorm_from_px(golden["in.pixel_velocities"], 15)
    assert torch.equal(velocities, golden["out.velocities"])
    output = loaded(velocities)
    torch.testing.assert_close(
        output.distinct_logits[:, 0], golden["out.logits_per_point"], atol=1e-5, rtol=0
    )
    assert torch.equal(output.indices, golden["out.indices"])
    assert output.indices.dtype == torch.int64


@pytest.mark.parametrize("form", ["distinct", "expanded"])
def test_golden_loss_and_gradients(
    form: str, loaded: MotionTokenizer, golden: dict[str, Tensor], golden_config: Config
) -> None:
    velocities, static = golden["out.velocities"], golden_config.data.static_filter
    labels = labels_from_wnorm(velocities, 15)
    assert torch.equal(labels, golden["out.labels"])
    mask = static_mask(velocities, static.metric, static.threshold, static.min_keep)
    assert torch.equal(mask[:, None].expand_as(labels), golden["out.static_mask"])
    output = loaded(velocities)
    logits = output.distinct_logits if form == "distinct" else output.logits
    loss_sum, count = focal_loss(
        logits,
        labels,
        mask,
        golden_config.loss.gamma,
        golden_config.loss.alpha_center,
        1.0,
    )
    loss = loss_sum / count.clamp(min=1)
    torch.testing.assert_close(loss, golden["out.focal_loss_masked"][0], atol=1e-5, rtol=0)
    loss.backward()
    compared = 0
    for name, parameter in loaded.named_parameters():
        if f"grad_norm.{name}" in golden:
            assert parameter.grad is not None
            torch.testing.assert_close(
                parameter.grad.norm(), golden[f"grad_norm.{name}"][0], rtol=1e-4, atol=0
            )
            compared += 1
    assert compared == sum(key.startswith("grad_norm.") for key in golden) > 0


def test_state_dict_has_the_files_keys_but_the_mask(
    loaded: MotionTokenizer, golden: dict[str, Tensor]
) -> None:
    ours, theirs = loaded.state_dict(), state_of(golden)
    assert {key: value.shape for key, value in theirs.items() if key != "causal_mask"} == {
        key: value.shape for key, value in ours.items()
    }
    assert "causal_mask" in theirs, "loading must not change the caller's dict"


def test_only_the_mask_is_forgiven(loaded: MotionTokenizer, golden: dict[str, Tensor]) -> None:
    with pytest.raises(RuntimeError, match="causal_masks"):
        loaded.load_state_dict({**state_of(golden), "causal_masks": torch.zeros(1)})
    without = {key: value for key, value in loaded.state_dict().items() if key != "pos_embed"}
    with pytest.raises(RuntimeError, match="pos_embed"):
        loaded.load_state_dict(without)


def test_shapes_and_codebook_size() -> None:
    model = build_model(small_config()).eval()
    output = model(torch.rand(2, 3, 4, 2))
    assert output.logits.shape == (2, 3, 4, 25)
    assert output.logits.untyped_storage().nbytes() == 2 * 4 * 25 * 4, "steps are not copied"
    assert output.distinct_logits.shape == (2, 1, 4, 25)
    assert output.latents.shape == output.codes.shape == (2, 3, 16)
    assert model.codebook_size == 20


def test_tokenize_and_decode_indices_agree_with_forward(
    loaded: MotionTokenizer, golden: dict[str, Tensor]
) -> None:
    output = loaded(golden["out.velocities"])
    indices = loaded.tokenize(golden["out.velocities"])
    assert torch.equal(indices, output.indices)
    decoded = loaded.decode_indices(indices)
    assert decoded.shape == output.logits.shape
    torch.testing.assert_close(decoded, output.logits, atol=1e-5, rtol=0)


def test_tokenize_does_not_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(small_config())
    monkeypatch.setattr(model, "head", None)
    assert model.tokenize(torch.rand(2, 3, 4, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "found"),
    [((3, 4, 2), r"\(3, 4, 2\)"), ((2, 4, 4, 2), r"\(2, 4, 4, 2\)"), ((2, 3, 4, 3), "4, 3")],
)
def test_wrong_velocity_shapes(shape: tuple[int, ...], found: str) -> None:
    with pytest.raises(ValueError, match=rf"velocities: expected .*\(B, 3, 4, 2\), found .*{found}"):
        build_model(small_config())(torch.zeros(shape))


def test_a_decoder_without_layers_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Files of the source may have one; a new run would train codes that nothing reads."""
    config = small_config(name="amplify", num_layers=1)
    build_model(config)
    assert not caplog.records
    build_model(config, pretrained=True)
    (record,) = caplog.records
    assert "model.num_layers = 1 leaves the decoder" in record.getMessage()


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
def test_velocities_that_would_give_wrong_codes(name: str) -> None:
    model = build_model(small_config(name=name, num_layers=2)).eval()
    good = torch.full((1, *model.input_shape), 0.5)
    for wrong, found in ((good.numpy(), "a ndarray"), (good.double(), "float64"), (good.long(), "int64")):
        with pytest.raises(ValueError, match=rf"velocities: expected a torch\.float32 tensor \(B, .*{found}"):
            model.tokenize(wrong)
    for wrong in (torch.nan, torch.inf, -torch.inf):
        bad = good.clone()
        bad[..., 1, 0, 0] = wrong
        with pytest.raises(ValueError, match="hold NaN or infinity; expected 0"):
            model.tokenize(bad)
    assert model.tokenize(good).shape == model.tokenize(-2 * good).shape
    if name == "keypoint":
        with pytest.warns(UserWarning, match=r"from 0\.5 to 37; expected W-normalised, in \[-1, 1\]"):
            model.tokenize(torch.cat([good, 74 * good]))


def test_wrong_codes() -> None:
    model = build_model(small_config())
    with pytest.raises(ValueError, match=r"expected .*\(B, 3, 16\), found \(2, 4, 16\)"):
        model.decode(torch.zeros(2, 4, 16))
    for indices in (torch.tensor([[0, 1, 20]]), torch.tensor([[0, -1, 2]])):
        with pytest.raises(ValueError, match="expected 0 to 19"):
            model.decode_indices(indices)


def test_fsq_refuses_levels_it_cannot_round() -> None:
    with pytest.raises(ConfigError, match=r"\[4, 2\] .* at least 3"):
        build_model(small_config(fsq_levels=(4, 2)))


def test_initial_values() -> None:
    torch.manual_seed(0)
    model = build_model(small_config(hidden_dim=512))
    for parameter in (model.pos_embed, model.decoder_queries):
        assert isinstance(parameter, Tensor)
        assert parameter.mean().item() == pytest.approx(0, abs=0.1)
        assert parameter.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_quantising_is_float32_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    fsq = build_fsq((8, 8, 8, 4), 32)
    latents = torch.randn(16, 64, 32) * 3
    codes, indices = quantize_float32(fsq, latents)
    with torch.autocast("cpu", dtype):
        autocast_codes, autocast_indices = quantize_float32(fsq, latents)
        assert not torch.equal(fsq(latents)[1].long(), indices), "else the guard guards nothing"
    assert torch.equal(autocast_indices, indices)
    assert torch.equal(autocast_codes, codes)
    half_codes, half_indices = quantize_float32(fsq, latents.to(dtype))
    assert half_codes.dtype == torch.float32
    assert torch.equal(half_indices, quantize_float32(fsq, latents.to(dtype).float())[1])


def test_fsq_without_projections() -> None:
    fsq = build_fsq((5, 4), 2)
    assert not fsq.state_dict()
    codes, indices = quantize_float32(fsq, torch.tensor([[[-9.0, -9.0], [0.0, 0.0], [9.0, 9.0]]]))
    # Digits (0, 0), (2, 2) and (4, 3), little-endian: first + 5 * second.
    assert indices.tolist() == [[0, 12, 19]]
    torch.testing.assert_close(codes, torch.tensor([[[-1.0, -1.0], [0.0, 0.0], [1.0, 0.5]]]))


def test_encoder_is_causal(loaded: MotionTokenizer, golden: dict[str, Tensor]) -> None:
    velocities = golden["out.velocities"][:1]
    # The last step's first point is token 4 * 9 of 45.
    changed = velocities.clone()
    changed[:, 4, 0] = 1 - changed[:, 4, 0]
    before, after = (
        loaded.encoder(loaded.input_projection(v.flatten(1, 2)) + loaded.pos_embed)  # type: ignore[operator]
        for v in (velocities, changed)
    )
    assert torch.equal(before[:, :36], after[:, :36])
    assert (before[:, 36:] != after[:, 36:]).any(dim=-1).all()


@pytest.mark.parametrize("training", [True, False])
def test_encoder_equals_torchs_with_a_mask(training: bool) -> None:
    torch.manual_seed(2)
    ours = nn.TransformerEncoder(EncoderLayer(16, 4, 0.0), 2, enable_nested_tensor=False)
    layer = nn.TransformerEncoderLayer(16, 4, 64, 0.0, activation="gelu", batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for encoder, mask in ((ours, None), (theirs, nn.Transformer.generate_square_subsequent_mask(12))):
        tokens = torch.linspace(-2, 2, 3 * 12 * 16).view(3, 12, 16).sin().requires_grad_()
        output = encoder.train(training)(tokens, mask)
        (gradient,) = torch.autograd.grad(output.square().sum(), tokens)
        results.append((output, gradient))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_dropout_acts_in_training_only() -> None:
    tokens = torch.randn(1, 6, 16)
    for layer, given in ((EncoderLayer(16, 4, 0.5), [tokens]), (DecoderLayer(16, 4, 0.5), [tokens] * 2)):
        assert not torch.equal(layer.train()(*given), layer(*given))
        assert torch.equal(layer.eval()(*given), layer(*given))


def test_layers_refuse_masks() -> None:
    with pytest.raises(ValueError, match="takes no mask"):
        EncoderLayer(16, 4, 0.0)(torch.zeros(1, 3, 16), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="takes no mask"):
        DecoderLayer(16, 4, 0.0)(torch.zeros(1, 3, 16), torch.zeros(1, 2, 16), torch.zeros(3, 3))


def test_decoder_equals_torchs() -> None:
    torch.manual_seed(3)
    ours = nn.TransformerDecoder(DecoderLayer(16, 4, 0.0), 2)
    layer = nn.TransformerDecoderLayer(16, 4, 64, 0.0, activation="gelu", batch_first=True)
    theirs = nn.TransformerDecoder(layer, 2)
    theirs.load_state_dict(ours.state_dict())
    queries, codes = (torch.randn(*shape, requires_grad=True) for shape in ((1, 5, 16), (3, 4, 16)))
    results = []
    for output in (ours(queries, codes), theirs(queries.expand(3, -1, -1), codes)):
        gradients = torch.autograd.grad(output.square().sum(), (queries, codes))
        results.append((output, *gradients))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["keypoint", "amplify"])
def test_what_the_codes_do_not_change_is_decoded_once(name: str) -> None:
    """Without dropout the queries' self-attention is the same for all windows."""
    model = build_model(small_config(name=name, num_layers=2, dropout=0.1))
    codes = model.quantize(model.encode(torch.rand(8, *model.input_shape)))[0].detach()

    def operations(windows: int) -> int:
        with FlopCounterMode(display=False) as counter:
            model.head(codes[:windows])
        return int(counter.get_total_flops())

    def shared() -> float:
        return (8 * operations(1) - operations(8)) / 7

    with_dropout, without = shared(), (model.eval(), shared())[1]
    tokens = codes.shape[1] if name == "amplify" else 4
    assert without - with_dropout >= 2 * tokens * 4 * 16**2, "the projections of one self-attention"


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that an operation makes."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        # What a view repeats is not made.
        made = [
            r.untyped_storage().nbytes() // r.itemsize for r in tree_leaves(results) if torch.is_tensor(r)
        ]
        self.numel = max(self.numel, *made, 0)
        return results


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_no_tensor_grows_with_the_square_of_the_tokens(dropout: float) -> None:
    config = small_config(dropout=dropout, num_heads=1, hidden_dim=8)
    config = dataclasses.replace(config, data=DataConfig(sequence_length=16, grid_size=20))
    model = build_model(config)
    tokens = 15 * 400
    stored = [*model.parameters(), *model.buffers()]
    assert max(tensor.numel() for tensor in stored) <= tokens * 16
    # Nor does a step make one, kept or passing.
    with Largest() as made:
        model(torch.rand(1, 15, 400, 2)).logits.sum().backward()
    assert tokens * 8 <= made.numel < tokens * tokens / 10


def test_training_and_inference_raise_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build_model(small_config())
        model(torch.rand(2, 3, 4, 2))
        model.eval().tokenize(torch.rand(2, 3, 4, 2))


def test_gradients_reach_every_parameter() -> None:
    model = build_model(small_config(dropout=0.1))
    model(torch.rand(2, 3, 4, 2)).logits.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
