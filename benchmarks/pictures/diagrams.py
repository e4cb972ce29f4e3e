"""Drawings as SVG, whose colours stand before light and dark grounds."""

from __future__ import annotations

from html import escape

STYLE = """\
<style>
  text { font: 15px ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
  .in { fill: #ffffff; font-weight: 600; text-anchor: middle }
  .code { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; font-size: 13.5px }
  .mid { text-anchor: middle }
  .faint { fill: #57606a; font-size: 13px }
  .line { stroke: #6e7781; stroke-width: 2; fill: none }
  .head { fill: #6e7781 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .in { fill: #ffffff } .faint { fill: #9aa4af }
    .line { stroke: #8b949e } .head { fill: #8b949e }
  }
</style>"""

STAGES = (
    ("video", "video/", "any file or", "camera", "#57606a"),
    ("frames", "video/", "20 a second,", "240 rows", "#3b6ea5"),
    ("tracks", "trackers/ tracks/", "20 x 20 points,", "16 frames", "#2a7f7f"),
    ("velocities", "data/", "15 steps of", "each point", "#8a6a1f"),
    ("codes", "models/ codes/", "16 ids of", "2,048", "#a04a78"),
)
"""Name, folders, what it is of the tokenizer that is shipped, and colour of each stage."""

FLOORS = {
    "commands": "the command line",
    "report": "one HTML page about a run or about codes",
    "codes": "clips to codes, and what is done with them: search, segments, LeRobot, Hub, live",
    "training": "the run, its steps, checkpoints and logs",
    "evaluation": "numbers and pictures",
    "models": "batches to codes and back: codec, transform, keypoint, amplify",
    "data": "tracks to batches",
    "scenes": "rendered clips with exact tracks",
    "tracks": "tracks on disk: HDF5, velocity files, packs",
    "trackers": "frames to tracks: flow, and those of others' clones",
    "jobs": "many clips: the loop, workers, the manifest",
    "video": "files, data sets and cameras to frames",
    "config": "every setting, said at its field",
}
"""The folders of the package from the roof down; each imports only from those below it."""
FILLS = ("#3b6ea5", "#2a7f7f", "#8a6a1f", "#a04a78", "#57606a")


def stages() -> str:
    """From video to codes, with the folder of the package that does each step."""
    width, box, gap = 836, 128, 49
    parts = []
    for place, (name, folders, first, second, colour) in enumerate(STAGES):
        left = place * (box + gap)
        middle = left + box / 2
        parts.append(f'<rect x="{left}" y="8" width="{box}" height="46" rx="8" fill="{colour}"/>')
        parts.append(f'<text class="in" x="{middle}" y="36">{name}</text>')
        parts.append(f'<text class="code mid" x="{middle}" y="78">{folders}</text>')
        parts.append(f'<text class="faint mid" x="{middle}" y="100">{first}</text>')
        parts.append(f'<text class="faint mid" x="{middle}" y="117">{second}</text>')
        if place:
            parts += _arrow(left - gap + 6, left - 8, 31)
    return _svg(width, 126, "Video to frames to tracks to velocities to codes", parts)


def house() -> str:
    """The folders as floors of a house, of which each stands on those below it."""
    width, row, left, right = 836, 34, 40, 796
    parts = [f'<path class="line" d="M{left - 24} 62 L{width / 2} 8 L{right + 24} 62"/>']
    rule = "a folder imports only from those below it"
    parts.append(f'<text class="faint mid" x="{width / 2}" y="52">{rule}</text>')
    for floor, (name, told) in enumerate(FLOORS.items()):
        top, fill = 66 + floor * row, FILLS[floor % len(FILLS)]
        size = f'width="{right - left}" height="{row - 4}"'
        parts.append(f'<rect x="{left}" y="{top}" {size} rx="5" fill="{fill}"/>')
        white = 'style="fill:#ffffff;font-size:13px"'
        parts.append(f'<text class="code" x="{left + 14}" y="{top + 20}" {white}>{name}/</text>')
        parts.append(f'<text x="{left + 130}" y="{top + 20}" {white}>{escape(told)}</text>')
    bottom = 66 + len(FLOORS) * row
    own = "the package's own modules: geometry, letterbox, files, file_names, kinds, errors, devices ..."
    parts.append(f'<path class="line" d="M{left - 24} {bottom + 4} H{right + 24}"/>')
    parts.append(f'<text class="faint mid" x="{width / 2}" y="{bottom + 24}">{own}</text>')
    return _svg(width, bottom + 36, "The folders of the package, each on those that it imports from", parts)


def _arrow(begin: float, end: float, y: float) -> list[str]:
    head = f'<path class="head" d="M{end} {y} l-9 -5 v10 z"/>'
    return [f'<path class="line" d="M{begin} {y} H{end - 8}"/>', head]


def _svg(width: int, height: int, title: str, parts: list[str]) -> str:
    begin = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" width="{width}">'
    )
    return "\n".join([begin, f"<title>{escape(title)}</title>", STYLE, *parts, "</svg>"]) + "\n"
