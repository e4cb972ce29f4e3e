"""What pages are made of: markup, axes, charts and TensorBoard's files."""

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest

from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.report.axes import Axis, Scale, told
from amplify_motion_tokenizer.report.charts import Line, every, line_chart
from amplify_motion_tokenizer.report.events import read_events
from amplify_motion_tokenizer.report.markup import Markup, data_script, escape, join, tag
from amplify_motion_tokenizer.report.media import Budget


def test_text_is_escaped_and_markup_is_not():
    assert join("<b>", Markup("<i>"), 3, None, ["&"]) == "&lt;b&gt;<i>3&amp;"
    assert tag("a", "x", title="\"'<", class_="y", hidden=True, id=None, aria_label="z") == (
        '<a title="&quot;&#x27;&lt;" class="y" hidden aria-label="z">x</a>'
    )
    assert tag("img", alt="") == '<img alt="">'
    # What UTF-8 and HTML cannot hold: a byte of a file's name that is no text, and a control character.
    assert escape("\udcff\x00") == "?\ufffd"


def test_no_text_ends_a_script_of_data():
    value = {"</script><!--": ["<script>", "&lt;", "\u2028"]}
    found = data_script(value)
    inside = found.removeprefix('<script type="application/json">').removesuffix("</script>")
    assert "<" not in inside
    assert json.loads(inside) == value


@pytest.mark.parametrize(
    ("axis", "values", "ticks"),
    [
        (Axis("x"), [0, 10], [0, 5, 10]),
        (Axis("x", from_zero=True), [3, 47], [0, 10, 20, 30, 40]),
        (Axis("x", log=True), [1, 900], [1, 10, 100, 1000]),
        (Axis("x", log=True), [2, 40, -1, 0], [2, 5, 10, 20]),
        (Axis("x"), [7, 7], [6.5, 7, 7.5]),
        (Axis("x", ticks=[1, 2, 4, 99]), [1, 4], [1, 2, 4]),
        (Axis("x"), [], [0.5, 1, 1.5]),
    ],
)
def test_ticks_are_round_and_within_the_axis(axis, values, ticks):
    scale = Scale.of(axis, values)
    assert scale.ticks == pytest.approx(ticks)
    assert all(0 <= scale.place(tick) <= 1 for tick in scale.ticks)


def test_numbers_are_short():
    assert [told(value) for value in (None, math.nan, 0.0, 1234567, 12.345, 0.00025, 1234.6, 0.98765)] == [
        "\u2013", "\u2013", "0", "1,234,567", "12.3", "2.5e-4", "1,235", "0.988",
    ]  # fmt: skip


def test_a_line_is_interrupted_where_there_is_no_number_and_long_ones_are_thinned():
    nan = math.nan
    points = [(0, 1), (1, 2), (2, nan), (3, 3), (4, 4)]
    chart = line_chart("t", "about", Axis("x"), Axis("y"), [Line("one", points)])
    (path,) = _paths(chart)
    assert (path.count("M"), path.count("L")) == (2, 2)
    long = [(step, step % 7) for step in range(100_000)]
    chart = line_chart("t", "about", Axis("x"), Axis("y"), [Line("one", long)])
    assert len(chart) < 20_000
    assert "60 of 300 rows" in chart
    assert [every(range(10), most) for most in (4, 1, 0)] == [[0, 3, 6, 9], [0], []]


def _paths(chart: str) -> list[str]:
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag == "path":
                found.append(dict(attrs)["d"])

    Reader().feed(chart)
    return found


def test_a_budget_refuses_what_does_not_fit():
    budget = Budget(60)
    assert budget.take("a/b", b"123") == "data:a/b;base64,MTIz"
    assert budget.take("a/b", bytes(60)) is None
    assert not budget.fits("\u00e9" * 21)
    assert budget.fits("\u00e9" * 20)
    assert budget.refused == 2


@pytest.fixture
def log(tmp_path: Path) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "tensorboard")) as writer:
        for step, value in ((1, 5.0), (2, 4.0), (3, 9.0), (2, 3.0), (4, math.nan)):
            writer.add_scalar("val/loss", value, step)
    return tmp_path


def test_of_a_step_that_is_logged_again_the_last_value_counts(log: Path):
    found = read_events(log)
    assert found.scalars["val/loss"][:3] == [(1, 5.0), (2, 3.0), (3, 9.0)]
    assert math.isnan(found.scalars["val/loss"][3][1])
    assert not found.cut
    assert not read_events(log / "nothing").scalars


def test_a_log_that_was_cut_is_read_to_there_and_a_damaged_one_refused(log: Path):
    (path,) = (log / "tensorboard").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    found = read_events(log)
    assert found.cut == [path.name]
    assert found.scalars["val/loss"] == [(1, 5.0), (2, 3.0), (3, 9.0)]
    path.write_bytes(whole[:-30] + b"\xff" * 26 + whole[-4:])
    with pytest.raises(UsageError, match="is damaged, expected TensorBoard's records"):
        read_events(log)
