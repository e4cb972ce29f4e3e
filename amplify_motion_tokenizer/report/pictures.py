"""The section of reconstructions: true tracks beside decoded ones, as pictures."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from amplify_motion_tokenizer.codes.tokenizer import Tokenizer
from amplify_motion_tokenizer.data.dataset import WindowDataset
from amplify_motion_tokenizer.data.inputs import ModelInput
from amplify_motion_tokenizer.errors import UsageError
from amplify_motion_tokenizer.evaluation.overlay import RGB
from amplify_motion_tokenizer.evaluation.reconstruction import known_windows, reconstructed_tracks
from amplify_motion_tokenizer.report.charts import every
from amplify_motion_tokenizer.report.events import Events
from amplify_motion_tokenizer.report.given import Subject
from amplify_motion_tokenizer.report.markup import Markup, join, missing, paragraph, tag
from amplify_motion_tokenizer.report.media import Budget, webp
from amplify_motion_tokenizer.tracks.stored import Clips
from amplify_motion_tokenizer.training.pictures import draw_window

LOGGED = "val_tracks/"
"""How the tags of the pictures begin that training logs."""


def reconstructions(subject: Subject, events: Events, most: int, budget: Budget) -> Markup:
    """Pictures of a window of each of some clips; of a run without tracks the last ones that it logged.

    Raises:
        TrackFileError: the tracks do not fit the tokenizer, or a file is bad.
        UsageError: a logged picture is damaged.
    """
    logged = {tag: found for tag, found in events.pictures.items() if tag.startswith(LOGGED)}
    if subject.tokenizer is not None and subject.clips is not None:
        drawn = _drawn(subject.tokenizer, subject.clips, most)
        left_out = len(subject.clips) - len(drawn)
        about = f"The first window of {len(drawn)} of the {len(subject.clips)} clips of {subject.tracks}."
        if not drawn:
            return missing("Left out: these tracks hold no positions, or none that are known.")
    elif logged:
        drawn = {
            tag.removeprefix(LOGGED): _read(tag, found) for tag, (_, found) in list(logged.items())[:most]
        }
        left_out, step = len(logged) - len(drawn), max(step for step, _ in logged.values())
        about = f"Held-out windows as training logged them last, at step {step}."
    else:
        return missing(subject.lacks("to decode", "to decode with") or "Left out: there are no tracks.")
    figures = [_figure(name, picture, budget) for name, picture in drawn.items()]
    note = f" {left_out} more are left out; --clips shows more." if left_out else ""
    return join(
        paragraph(f"{about} True tracks on the left, what the codes tell on the right.{note}"),
        tag("div", figures, class_="grid pictures"),
    )


@torch.no_grad()
def _drawn(tokenizer: Tokenizer, clips: Clips, most: int) -> dict[str, RGB]:
    """A picture of the first window of some clips, by the clip's name."""
    data, model = WindowDataset(clips, tokenizer.config), tokenizer.model
    indices = every(data.first_windows(len(clips)), most)
    inputs = data.batch(indices).inputs
    known = known_windows(inputs, torch.ones(len(indices), dtype=torch.bool))
    inputs = ModelInput(*(column[known] for column in inputs))
    shown = [index for index, is_known in zip(indices, known.tolist(), strict=True) if is_known]
    if not shown:
        return {}
    placed = inputs.to(model.device)
    predicted = reconstructed_tracks(
        model.moves_px(model(placed.velocities, placed.images).head), placed
    ).cpu()
    return {
        data.locate(index)[0]: draw_window(
            inputs.tracks_rc_norm[row], predicted[row], inputs.size_px[row], data.first_frames(index)
        )
        for row, index in enumerate(shown)
    }


def _read(tag: str, content: bytes) -> RGB:
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise UsageError(
            f"{tag}: the picture in TensorBoard's file is damaged; take that file out and run again"
        )
    return np.asarray(picture[..., ::-1], np.uint8)


def _figure(name: str, picture: RGB, budget: Budget) -> Markup:
    uri, (height, width) = budget.take("image/webp", webp(picture)), picture.shape[:2]
    if uri is None:
        return tag("figure", tag("figcaption", name), missing("Left out, as the page is full."))
    text = f"Tracks of a window of {name}: true ones on the left, decoded ones on the right."
    image = tag("img", src=uri, alt=text, width=width, height=height)
    return tag("figure", tag("figcaption", name), image)
