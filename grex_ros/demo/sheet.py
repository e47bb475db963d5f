"""Put overlays of a demo side by side, for a README.

python -m grex_ros.demo.sheet out/demo docs/demo.png --answers 1 3 5 7
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

GAP = 8  # pixels between pictures
PAPER = 255


def sheet(pictures: list[Picture], columns: int, scale: float) -> Picture:
    """Pictures (H, W, 3) of one size, row by row, each made smaller by `scale`, as (H', W', 3)."""
    small = [
        cv2.resize(it, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for it in pictures
    ]
    height, width = small[0].shape[:2]
    rows = -(-len(small) // columns)
    size = rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3
    paper = np.full(size, PAPER, np.uint8)
    for number, picture in enumerate(small):
        y, x = number // columns * (height + GAP), number % columns * (width + GAP)
        paper[y : y + height, x : x + width] = picture
    return paper


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Put overlays of a demo side by side.")
    parser.add_argument("demo", type=Path, help="the demo's folder, with 1.png, 2.png, ...")
    parser.add_argument("picture", type=Path, help="the file to write")
    parser.add_argument("--answers", type=int, nargs="+", default=[1, 2, 3, 4, 5, 7])
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--scale", type=float, default=0.6)
    arguments = parser.parse_args()
    overlays: list[Picture] = []
    for number in arguments.answers:
        path = arguments.demo / f"{number}.png"
        overlay = cv2.imread(str(path))
        if overlay is None:
            parser.error(f"{path} cannot be read")
        overlays.append(overlay.astype(np.uint8))
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.picture), sheet(overlays, arguments.columns, arguments.scale))


if __name__ == "__main__":
    main()
