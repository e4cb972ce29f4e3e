"""Benchmarks are read by people, not by the suite: here they only have to run, on little."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from amplify_motion_tokenizer.config.loading import config_from_dict
from amplify_motion_tokenizer.evaluation import plain_coders
from amplify_motion_tokenizer.models import build_model
from amplify_motion_tokenizer.models.displacement import codec
from amplify_motion_tokenizer.training.pretraining import Pretraining, write_pretrained
from amplify_motion_tokenizer.video.reading import open_video
from benchmarks import (
    altered_copies,
    attention,
    camera,
    codebook,
    cuts,
    encode,
    finetuning,
    latency,
    loader,
    model,
    search,
    search_copies,
    search_index,
    segmentation,
    shots,
)
from benchmarks.support import compared_vectors, measuring, moving_windows, phases
from tests.support.render_clips import write_clip
from tests.support.run_scripts import TINY, Work, render


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Benchmarks set them for their process, which is the tests' own here."""
    before, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before)
    cv2.setNumThreads(of_opencv)


def test_codebook_trains_each_variant_with_each_seed(work: Work, capsys: pytest.CaptureFixture[str]) -> None:
    keypoint = "keypoint"
    amplify = "amplify --model.name amplify --model.num_layers 2 --data.reference_size [48,64]"
    arguments = ["--tracks", work.tracks, "--config", work.config, "--steps", 2, "--seeds", 0, 1]
    library = "library noise_dropout=0.5 --data.source both --loss.usage.weight 0"
    variants = ["--variant", keypoint, "--variant", amplify, "--variant", library]
    codebook.main([*map(str, arguments), *variants])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    names = [row[0] for row in rows if len(row) == len(codebook.SHOWN) + 1][1:]
    assert names == [
        "keypoint, seed 0", "keypoint, seed 1", "**keypoint**",
        "amplify, seed 0", "amplify, seed 1", "**amplify**",
        "library, seed 0", "library, seed 1", "**library**",
    ]  # fmt: skip
    figures = [[float(value) for value in row[1:]] for row in rows if row[0] in names]
    assert all(math.isfinite(value) for row in figures for value in row)
    assert [row[list(codebook.SHOWN).index("steps")] for row in figures] == [2.0] * 9


def test_finetuning_leaves_each_clip_out_and_judges_it(
    tmp_path: Path,
    write_tracks: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Clips that move steadily are told best in modes that no training changes: here are no others.
    monkeypatch.setattr(codec, "PLAIN_MODES", 1)
    monkeypatch.setattr(codec, "OBJECT_CAMERA_IDS", ())
    model = {"name": "codec", "hidden_dim": 16, "encoder_sequence_len": 16}
    data = {**TINY["data"], "grid_size": 5}
    config = config_from_dict({"model": model, "data": data}, "here")
    for seed, name in enumerate("ab"):
        write_tracks(tmp_path / "tracks" / f"{name}.hdf5", 3, seed=seed, config=config)
    small = Pretraining(steps=1, windows=4, batch_size=4, fitted_to=200)
    write_pretrained(tmp_path / "small.safetensors", config, small, lambda *_: None)
    capsys.readouterr()
    line = ["--tracks", str(tmp_path / "tracks"), "--init", str(tmp_path / "small.safetensors")]
    finetuning.main([*line, "--folds", "2", "--steps", "8", "--set", "--training.learning_rate", "0.02"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    ways = [f"{mark}{way}{end}" for way in finetuning.WAYS for mark, end in (("", ", seed 0"), ("**", "**"))]
    assert [row[0] for row in rows] == ["as it is", *ways]
    left = [[float(value.rstrip(" %")) for value in row[1:4]] for row in rows]
    assert all(0 < share < 200 for row in left for share in row)
    assert left[0] != left[1] != left[3]


def test_the_camera_of_scenes_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--scenes", "1", "--size", "64x96", "--cases", "zoom", "--shaken", "shake", "--markdown"]
    camera.main(line)
    found, kept, cost = (table.splitlines()[2:] for table in capsys.readouterr().out.split("\n\n"))
    case, _, *errors = found[0].strip("| ").split(" | ")
    assert (case, float(errors[0])) == ("zoom", pytest.approx(0, abs=0.01))
    assert float(errors[4]) < 1 < float(errors[8])  # tracked: ours, and the plain camera's
    keep, remove = ([cell.strip() for cell in row.strip("|").split("|")] for row in kept)
    assert (keep[:2], remove[:2]) == (["shake", "keep"], ["", "remove"])
    assert float(keep[3].rstrip("%")) > 10 * float(remove[3].rstrip("%"))
    assert float(keep[4]) > 5 * float(remove[4])
    assert len(cost) == 5


SMALL = ["--dim", "32", "--steps", "3", "--batch-size", "1", "--repeats", "1", "--threads", "1"]


@pytest.mark.parametrize("name", ["amplify", "keypoint"])
@pytest.mark.parametrize("points", [1, 9])
def test_training_steps_of_few_points_are_compared(name: str, points: int, tmp_path: Path) -> None:
    args = model.parse([*SMALL, "--model", name, "--points", str(points), "--variants", "plain", "ours"])
    for variant in args.variants:
        model.measure(variant, args, tmp_path / variant)
    found = {variant: torch.load(tmp_path / variant, weights_only=True) for variant in args.variants}
    theirs, mine = (torch.load(tmp_path / f"{variant}.grads", weights_only=True) for variant in found)
    assert found["ours"]["loss"] == pytest.approx(found["plain"]["loss"], rel=1e-5)
    assert max(model.gradients_apart(mine, theirs)[:2]) < 1e-4
    assert model.apart(found, tmp_path)["ours"].startswith("   apart: loss ")


def test_a_peak_of_memory_is_the_processs_own() -> None:
    held = np.ones(600 << 20, np.uint8)
    done = subprocess.run(
        [sys.executable, "-c", "import measuring; print(measuring.peak_bytes())"],
        cwd=Path(measuring.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert 0 < int(done.stdout) < held.nbytes


def test_a_small_parameters_wrong_gradient_shows() -> None:
    theirs = {"large": torch.full((1000,), 1e3), "small": torch.tensor([1e-3, 2e-3]), "none": torch.zeros(2)}
    mine = theirs | {"small": torch.tensor([1e-3, 1e-3])}
    of_all, of_one, name = model.gradients_apart(mine, theirs)
    assert of_all < 1e-6
    assert (of_one, name) == (pytest.approx(0.5), "small")
    mine["none"] = torch.tensor([0.0, 1e-9])
    assert model.gradients_apart(mine, theirs)[1:] == (math.inf, "none")


@pytest.mark.parametrize(
    ("parse", "argument", "error"),
    [
        (model.parse, "--points 30", "argument --points: 30 is no square; 25 and 36 are"),
        (model.parse, "--points many", "argument --points: invalid square value: 'many'"),
        (model.parse, "--variants our", "argument --variants: invalid choice: 'our'"),
        (model.parse, "--variants plain point", "point is a variant of --model keypoint alone"),
        (model.parse, "--model keypoint --views 2", "--model keypoint has one view"),
        (encode.main, "--repeats 0", "argument --repeats: 0 is less than 1"),
        (loader.main, "--clips 0", "argument --clips: 0 is less than 1"),
    ],
)
def test_bad_arguments_are_refused(
    parse: Callable[[list[str]], object], argument: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(argument.split())
    assert error in capsys.readouterr().err


def test_the_loader_benchmark_takes_fewer_windows_than_it_compares(
    capsys: pytest.CaptureFixture[str],
) -> None:
    loader.main(["--windows", "32", "--clips", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("keypoint, 32 windows of 400 points")
    assert "differ from the reference's, share: {'labels': 0.0, 'mask': 0.0}" in lines[-2]


AMPLIFY = {"model": {"name": "amplify", "num_layers": 2}, "data": {"reference_size": [48, 64]}}
KINDS = {"point_step": {}, "point": {"model": {"keypoint": {"tokens": "point"}}}, "amplify": AMPLIFY}


def tiny(kind: str) -> dict[str, dict[str, object]]:
    sections = TINY | {"tracking": {"query_order": "uniform"}} if kind == "amplify" else TINY
    return {name: {**sections.get(name, {}), **KINDS[kind].get(name, {})} for name in sections}


@pytest.mark.parametrize("kind", KINDS)
def test_the_floor_counts_the_encoders_products(kind: str) -> None:
    config = config_from_dict(tiny(kind), "in the test")
    network = build_model(config).eval()
    # The counter knows the plain form of attention alone.
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.encode(torch.zeros(1, *network.input_shape))
    products = measuring.encoder_products(config)
    if kind == "point_step":  # causal: plain attention makes the masked half too
        products += (
            config.model.num_layers * config.model.hidden_dim * (config.num_steps * config.num_points) ** 2
        )
    assert 2 * products == counter.get_total_flops()


def test_encode_prints_rates_and_their_floor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(encode, "MODELS", {kind: tiny(kind) for kind in KINDS})
    monkeypatch.setattr(encode, "flops_per_second", lambda *_: 1e9)
    encode.main(["--repeats", "1"])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(KINDS)
    assert all("floor" in row and row.endswith("operations at 1 G/s)") for row in rows)


@pytest.mark.parametrize("bf16", [False, True])
def test_attention_variants_compute_the_same(bf16: bool, tmp_path: Path) -> None:
    args = attention.parse(["--tokens", "20", "--heads", "2", "--width", "8", "--repeats", "1"])
    args.bf16 = bf16
    found = {}
    for variant in attention.VARIANTS:
        attention.measure(variant, args, tmp_path / variant)
        found[variant] = torch.load(tmp_path / variant, weights_only=True)["values"]
    for values in found.values():
        assert attention.apart(values, found["plain"]) < (0.05 if bf16 else 1e-5)


def test_cuts_prints_what_is_told_and_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuts, "KINDS", ("mixed", "movers"))
    monkeypatch.setattr(cuts, "EVENTS", {"nothing": cuts.EVENTS["nothing"]})
    cuts.main(["--sizes", "96x128", "--seeds", "0"])
    rows = [line.rsplit(maxsplit=4) for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == [
        f"96x128 {name}" for name in ("cut", "cut, mp4", "cut, 4x", "nothing")
    ]
    figures = {row[0]: [float(value) for value in row[1:]] for row in rows}
    assert figures["96x128 cut"][:2] == [15, 1]
    assert figures["96x128 cut"][2] > 0.1
    assert figures["96x128 cut"][3] == figures["96x128 nothing"][1] == 0


def test_shots_prints_cuts_found_missed_and_made_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shots, "KINDS", ("still", "movers", "pan"))
    monkeypatch.setattr(shots, "EVENTS", {"nothing": shots.EVENTS["nothing"]})
    monkeypatch.setattr(shots, "DISSOLVES", (6,))
    monkeypatch.setattr(shots, "ALONE", 24)
    shots.main(["--sizes", "96x128", "--seeds", "0"])
    lines = capsys.readouterr().out.splitlines()[1:]
    rows = {name: line.split()[-5:] for line in lines for name, _, _ in [line.rpartition(" ours ")]}
    found = {name.strip(): [*map(int, row[:3]), *row[3:]] for name, row in rows.items()}
    assert found["96x128 hard"] == found["96x128 dissolve, 6 frames"] == [2, 2, 0, "1.000", "1.000"]
    assert found["96x128 none, 24 frames"] == found["96x128 none: nothing"] == [0, 0, 0, "-", "-"]
    film = shots.Film(np.zeros((40, 4, 4, 3), np.uint8), [(10, 10), (19, 26)])
    assert shots.score(iter([film]), lambda _: [11, 20]) == (2, 1, 1)
    assert shots.Score(2, 1, 3).row().split() == ["2", "1", "3", "0.500", "0.250"]


def test_copies_are_what_they_are_called(tmp_path: Path) -> None:
    render(tmp_path / "clips" / "sub" / "pan.mp4")
    config = config_from_dict(TINY | {"video": {"size": None, "target_fps": 10}}, "in the test")
    counts = altered_copies.write_copies(tmp_path / "clips", tmp_path / "copies", config, 9)
    assert counts == {"sub/pan": 8}  # 6 frames of a window, and whole strides of 2
    found = {}
    for copy in altered_copies.COPIES:
        with open_video(tmp_path / "copies" / copy / "sub" / "pan.mkv", config.video) as video:
            found[copy] = np.stack([frame.rgb for frame in video]).astype(int)
    own = found["written again"]
    np.testing.assert_array_equal(found["mirrored"], own[:, :, ::-1])
    np.testing.assert_array_equal(found["reversed"], own[::-1])
    np.testing.assert_array_equal(found["slowed to half"][::2], own)
    np.testing.assert_array_equal(found["slowed to half"][1::2], own)
    assert np.abs(found["darkened to 0.6"] - 0.6 * own).max() <= 0.5
    assert found["half size"].shape == (8, own.shape[1] // 2, own.shape[2] // 2, 3)
    assert abs(found["half size"].mean() - own.mean()) < 2


def test_copies_are_held_against_the_same_frames_and_against_other_clips() -> None:
    # Levels 5 and 4: the id 7 is the digits 2 and 1.
    own = {"a": {0: np.array([7, 3]), 2: np.array([0, 19])}, "b": {0: np.array([1, 1])}}
    reverse = {"a": {0: np.array([0, 19]), 2: np.array([7, 4])}, "b": {2: np.array([1, 1])}}
    way = altered_copies.COPIES["reversed"]
    one, other = altered_copies.compared(own, reverse, way, {"a": 8, "b": 8}, 6)
    assert one.tolist() == [[7, 3], [0, 19], [1, 1]]
    assert other.tolist() == [[7, 4], [0, 19], [1, 1]]
    found = altered_copies.likeness(one, other, (5, 4))
    assert (found.pairs, found.equal) == (3, pytest.approx(5 / 6))
    assert found.distance == pytest.approx((1 / 4) / 12)
    assert [len(part) for part in altered_copies.of_others(own)] == [4, 4]
    alone = altered_copies.likeness(*altered_copies.of_others({"a": own["a"]}), (5, 4))
    assert alone.pairs == 0
    assert math.isnan(alone.equal)


def write_panning(path: Path, size: tuple[int, int], frames: int, step_px: int) -> None:
    texture = cv2.resize(np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8), size[::-1])
    write_clip(path, (np.roll(texture, step_px * index, axis=1) for index in range(frames)), 20)


@pytest.fixture()
def quick_pca(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its components, which take seconds to find, have tests of their own."""
    for module in (compared_vectors, segmentation):
        monkeypatch.setattr(module, "made_up_components", lambda *_: None)
        monkeypatch.setattr(module, "PcaCoder", lambda *_: plain_coders.no_motion)
    kinds = {name: moving_windows.KINDS[name] for name in ("pan", "still", "movers")}
    monkeypatch.setattr(moving_windows, "KINDS", kinds)


@pytest.mark.usefixtures("quick_pca")
def test_search_ranks_windows_by_every_vector(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--seeds", "0", "1", "--speeds", "1", "--frames", "17", "--stride", "16"]
    search.main([*small, "--size", "48x64", "--ids", "2"])
    single, whole, by_class = capsys.readouterr().out.split("\n\n")[1:]
    found = []
    for table in (single, whole):
        head, *rows = table.splitlines()
        assert "vectors of" in head
        found.append([[float(value) for value in row.split()[-6:]] for row in rows])
        assert all(0 <= value <= 1 for row in found[-1] for value in row)
        assert len(rows) == 11  # two tokenizers, digits, ids, PCA, five of tracks, a random order
    assert found[0][:-1] == found[1][:-1]  # clips of one window
    assert [row.split()[:2] for row in by_class.splitlines()[1:]] == [
        ["movers", "2"], ["pan", "2"], ["still", "2"]
    ]  # fmt: skip


def test_whole_clips_are_compared_window_by_window_in_order() -> None:
    distances = np.arange(16, dtype=np.float32).reshape(4, 4)
    # Windows 0 and 1 are of the clip 0: (0, 2) and (1, 3) are its pairs with the clip 1.
    assert search.of_clips(distances, np.array([0, 0, 1, 1])).tolist() == [[2.5, 4.5], [10.5, 12.5]]


@pytest.mark.usefixtures("quick_pca")
def test_search_finds_copies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_copies, "SIZE", (96, 128))
    write_panning(tmp_path / "clip.mp4", (96, 128), 28, 2)
    search_copies.main(["--input", str(tmp_path), "--seeds", "0", "--stride", "12"])
    head, *rows = capsys.readouterr().out.splitlines()[2:]
    assert head.split()[:3] == ["vectors", "of", "bits"]
    assert {row.count(" / ") for row in rows} == {2 * len(search_copies.COPIES)}
    # Of a darkened copy the share of windows that are first, overlap the first, and are among the ten.
    (own,) = (row for row in rows if row.startswith("tracks, averaged"))
    assert own.split("3168")[1].split()[4] == "1.00"
    video = np.arange(2 * 20 * 30 * 3, dtype=np.uint8).reshape(2, 20, 30, 3)
    made = {name: copy(video) for name, copy in search_copies.COPIES.items() if "H.264" not in name}
    assert made["mirrored"][0, 3, 0].tolist() == video[0, 3, 29].tolist()
    assert made["half size"].shape == (2, 10, 14, 3)
    assert made["cropped to .8"].shape == (2, 16, 24, 3)
    assert made["brightened by 1.4"].max() == 255
    assert made["brightened by 1.4"][0, 0, 0, 2] == 2


def test_an_index_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("usearch")
    search_index.main(["--windows", "2000", "--queries", "4", "--made-up", "20"])
    (row,) = capsys.readouterr().out.splitlines()[1:]
    assert row.split()[0] == "2,000"
    assert 0.8 <= float(row.split()[-1]) <= 1


@pytest.mark.usefixtures("quick_pca")
def test_segmentation_scores_every_way_to_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ruptures")
    monkeypatch.setattr(phases, "FRAMES", (24, 28))
    monkeypatch.setattr(segmentation, "PIECES", 2)
    for name in ("a", "b"):
        write_panning(tmp_path / f"{name}.mp4", (48, 64), 44, 1)
    small = ["--clips", "1", "--tuned-on", "1", "--phases", "2", "--size", "48x64"]
    segmentation.main([*small, "--real", str(tmp_path), "--joined", "1"])
    _, rendered, _, joined, *_ = capsys.readouterr().out.split("\n\n")
    for table in (rendered, joined):
        head, *rows = table.splitlines()
        assert head.split()[:3] == ["cut", "by", "threshold"]
        assert len(rows) == 19
        assert {row.split()[-9] for row in rows} == {"1"}  # one true boundary


def test_latency(capsys: pytest.CaptureFixture[str]) -> None:
    latency.main(["--size", "48", "64", "--seconds", "2"])
    out = capsys.readouterr().out
    assert "40 pictures, 4 windows" in out
    assert all(f"{stage} " in out for stage in ("p50", "p95", "decode", "to RGB", "track", "encode"))
