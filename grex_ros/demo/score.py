"""How often the demo's commands are answered right, over many scenes and without ROS:

python -m grex_ros.demo.score --seeds 20
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from grex_ros.demo.pictures import render_picture
from grex_ros.demo.truth import is_correct
from grex_ros.grounding.command import parse_command
from grex_ros.grounding.grounder import Grounder
from grex_ros.scenes.expressions import demo_commands

WIDTH, HEIGHT = 640, 480


def score(grounder: Grounder, seeds: range) -> tuple[Counter[str], Counter[str]]:
    """Commands asked and commands answered right, by what they ask for, over the demo's scenes."""
    asked: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for seed in track(seeds, "scenes", transient=True):
        picture = render_picture(seed, WIDTH, HEIGHT)
        commands = demo_commands(picture.truth.view, np.random.default_rng(seed))
        grounder.set_image(picture.rgb)
        for command, expression in commands:
            parsed = parse_command(command)
            if parsed is None:
                raise ValueError(f"the demo says nothing to look for: {command!r}")
            answer = grounder.ground([parsed.expression])[0]
            kind = expression.category if expression.targets else f"none ({expression.falsified})"
            asked[kind] += 1
            right[kind] += is_correct(answer, picture.truth, expression.targets)
    return asked, right


def main() -> None:
    """Print how many commands of the first scenes of the demo are answered right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many scenes (default: 20)")
    parser.add_argument("--checkpoint", default=None, help="weights (default: the package's)")
    args = parser.parse_args()
    asked, right = score(Grounder.from_checkpoint(args.checkpoint), range(args.seeds))
    table = Table("asked for", "right", "of", "%")
    for kind in sorted(asked):
        table.add_row(
            kind, str(right[kind]), str(asked[kind]), f"{100 * right[kind] / asked[kind]:.0f}"
        )
    total, hits = asked.total(), right.total()
    table.add_section()
    table.add_row("all", str(hits), str(total), f"{100 * hits / total:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
