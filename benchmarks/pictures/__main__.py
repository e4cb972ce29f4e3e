"""Draws docs/images anew: python -m benchmarks.pictures.

The other pictures there are screenshots of the report and of Rerun's viewer (docs/report.md, docs/rerun.md)
and the curve of docs/measured/rate_distortion.md, each of which says how it was made.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.pictures import decoded, diagrams, moving_arm

HOME = Path(__file__).parents[2] / "docs/images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=HOME)
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    moving_arm.write(output / "codes.gif")
    decoded.write(output / "decoded.jpg")
    (output / "stages.svg").write_text(diagrams.stages(), encoding="utf-8")
    (output / "house.svg").write_text(diagrams.house(), encoding="utf-8")
    for path in sorted(output.iterdir()):
        print(f"{path.stat().st_size:9,} bytes  {path}")


if __name__ == "__main__":
    main()
