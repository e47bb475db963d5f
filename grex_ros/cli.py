"""The command `grex`. What a command needs is imported when it runs, so that help comes at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from grex_ros.cli_describe import describe
from grex_ros.cli_input import (
    Checkpoint,
    Device,
    ImageSize,
    Precision,
    load_grounder,
    one_line_errors,
    read_picture,
)
from grex_ros.demo import DEFAULT_SEED

if TYPE_CHECKING:
    from grex_ros.grounding.command import Command
    from grex_ros.grounding.grounder import Grounder
    from grex_ros.grounding.objects import Grounding

    # name, how far it is from torch, seconds of each step
    from grex_ros.reports import EngineRow

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Finds the objects that a sentence means in a picture: one, many or none.",
)


@app.command()
def ground(
    image: Annotated[Path, typer.Argument(help="A picture: JPEG, PNG, ...", show_default=False)],
    words: Annotated[
        str,
        typer.Argument(
            help='A command or an expression: "pick up all red cups".', show_default=False
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    overlay: Annotated[
        Optional[Path], typer.Option(help="Write the picture with the answer drawn on it.")
    ] = None,
    checkpoint: Checkpoint = "",
    device: Device = "auto",
    precision: Precision = "auto",
    image_size: ImageSize = 0,
    target_threshold: Annotated[
        Optional[float], typer.Option(min=0, max=1, help="Least score of an object.")
    ] = None,
    mask_threshold: Annotated[
        Optional[float], typer.Option(min=0, max=1, help="Least probability of a mask's pixel.")
    ] = None,
    no_target_threshold: Annotated[
        Optional[float], typer.Option(min=0, max=1, help="From this score on: no target.")
    ] = None,
) -> None:
    """Ground words in a picture.

    Exits with 0 if there is an answer, "no target" included, and with 2 and one line if the
    picture, the words, the weights or the device cannot be used.
    """
    with one_line_errors():
        command = _command(words)
        picture = read_picture(image)
        # For one picture torch is the quickest.
        grounder = load_grounder(checkpoint, device, precision, "torch", image_size)
        changes = {
            "target": target_threshold,
            "mask": mask_threshold,
            "no_target": no_target_threshold,
        }
        _set_thresholds(grounder, changes)
        grounder.set_image(picture)
        (answer,) = grounder.ground([command.expression])
        if overlay is not None:
            _write_overlay(overlay, picture, answer, command.text)
    if as_json:
        print(json.dumps(_record(image, command, answer, grounder), ensure_ascii=False))
    else:
        _print_answer(command, answer, grounder)


app.command()(describe)


@app.command()
def demo(
    seed: Annotated[
        int, typer.Option(min=0, help="Which objects, light, view and words.")
    ] = DEFAULT_SEED,
    out: Annotated[Path, typer.Option(help="Where answers, overlays and logs go.")] = Path(
        "out/demo"
    ),
    bag: Annotated[
        bool, typer.Option("--bag", help="Play the recorded camera instead of rendering.")
    ] = False,
    checkpoint: Checkpoint = "",
    device: Device = "auto",
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for the node, and for each answer.")
    ] = 120.0,
) -> None:
    """A camera, the node and seven spoken commands, as real ROS 2 processes.

    Exits with 0 if every command got its answer.
    """
    with one_line_errors():
        from grex_ros.demo.run import run_demo

        code = run_demo(
            seed=seed, out=out, bag=bag, checkpoint=checkpoint, device=device, timeout=timeout
        )
    raise typer.Exit(code)


@app.command()
def benchmark(
    preset: Annotated[
        str,
        typer.Option(help="swin_base, swin_tiny, r50 or tabletop with random weights: for speed."),
    ] = "",
    checkpoint: Checkpoint = "",
    device: Device = "auto",
    precision: Precision = "auto",
    image_size: ImageSize = 0,
    engine: Annotated[
        str, typer.Option(help="auto, torch, compile, onnxruntime or openvino.")
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 = torch's choice.")] = 0,
    runs: Annotated[
        int, typer.Option(min=1, help="Runs that count, after three that do not.")
    ] = 20,
    busy: Annotated[
        int, typer.Option(min=0, help="Other processes that compute meanwhile, as on a robot.")
    ] = 0,
    image: Annotated[
        Optional[Path], typer.Option(help="A picture; without it a scene of 640 x 480 pixels.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """How long answers take: end to end, and every stage.

    Without --preset the checkpoint is timed, by default that of the package.
    """
    with one_line_errors():
        from grex_ros.benchmark import (
            EXAMPLE,
            print_benchmark,
            random_grounder,
            run_benchmark,
            use_threads,
        )
        from grex_ros.model.config import PRESETS

        if preset and checkpoint:
            raise ValueError("give --preset or --checkpoint, not both")
        if preset and preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
        picture = read_picture(image or EXAMPLE)
        use_threads(threads)
        if preset:
            grounder = random_grounder(preset, device, precision, engine, image_size)
        else:
            grounder = load_grounder(checkpoint, device, precision, engine, image_size)
        result = run_benchmark(grounder, picture, runs, busy)
    if as_json:
        print(json.dumps(result.to_record()))
    else:
        print_benchmark(result)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    checkpoint: Checkpoint = "",
    device: Device = "auto",
) -> None:
    """What is installed, whether the model answers, whether messages go round.

    Exits with 0 if everything that the node needs works, else with 1.
    """
    from grex_ros.doctor import print_report, run_checks

    checks = run_checks(checkpoint=checkpoint, device=device, quiet=as_json)
    if as_json:
        healthy = all(check.ok for check in checks)
        print(json.dumps({"healthy": healthy, "checks": [check.to_record() for check in checks]}))
    else:
        print_report(checks)
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


@app.command()
def import_checkpoint(
    official: Annotated[
        Path, typer.Argument(help="Official weights: .pth or .safetensors.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(help="The .safetensors file to write.", show_default=False)
    ],
    preset: Annotated[
        str, typer.Option(help="auto (from the shapes), swin_base, swin_tiny or r50.")
    ] = "auto",
    lang_weight: Annotated[
        str,
        typer.Option(
            help="Gate of the words: published (0, which the official loader leaves, so that the "
            "published numbers come out) or trained (the file's)."
        ),
    ] = "published",
) -> None:
    """Turn a checkpoint of the official ReLA code into one of this package.

    No code of the file is run. Exits with 2 and one line if the file cannot be used or is not
    exactly one of the official models.
    """
    with one_line_errors():
        from grex_ros.model.official import import_official

        report = import_official(official, out, preset, lang_weight)
    from grex_ros.reports import print_import

    print_import(out, report)


@app.command()
def export(
    checkpoint: Checkpoint = "",
    out: Annotated[
        Optional[Path],
        typer.Option(help="The folder to write; without it the cache, where the node looks."),
    ] = None,
) -> None:
    """Write the model as ONNX, for the faster engines, and compare them with torch.

    Exits with 1 if an engine that is installed is not equal, and with 2 and one line if nothing
    can be written.
    """
    with one_line_errors():
        from grex_ros.model import engine_check, engines
        from grex_ros.model.checkpoint import DEFAULT_CHECKPOINT, file_digest, load_checkpoint
        from grex_ros.model.export import export_onnx
        from grex_ros.model.exported import load_export
        from grex_ros.model.inference import prepare

        file = checkpoint or DEFAULT_CHECKPOINT
        model, digest = prepare(load_checkpoint(file)[0]), file_digest(file)
        if not engines.is_installed("onnx"):
            raise ValueError(engines.missing("onnx"))
        folder = out or engines.cache_folder(digest)
        export_onnx(model, folder, digest)
        runs = 20 if model.cfg.image_layers else 5  # an official preset takes seconds
        rows: list[EngineRow] = [("torch", None, engine_check.step_times(model, model, runs))]
        for name in filter(engines.is_installed, engines.EXPORTED):
            engine = load_export(model, name, folder, digest)
            difference = engine_check.compare_often(model, engine)
            rows.append((name, difference, engine_check.step_times(model, engine, runs)))
    from grex_ros.reports import print_engines

    print_engines(rows)
    size = sum(path.stat().st_size for path in folder.glob("*.onnx")) / 1e6
    print(f"written: {folder}, {size:.0f} MB")
    for name in engines.EXPORTED:
        if not engines.is_installed(name):
            print(f"not compared: {engines.missing(name)}")
    raise typer.Exit(0 if all(found is None or found.small for _, found, _ in rows) else 1)


def _command(words: str) -> Command:
    from grex_ros.grounding.command import parse_command

    command = parse_command(words)
    if command is None:
        raise ValueError("the words are blank; say for example: all red cups")
    return command


def _set_thresholds(grounder: Grounder, changes: dict[str, float | None]) -> None:
    import dataclasses

    given = {name: value for name, value in changes.items() if value is not None}
    grounder.thresholds = dataclasses.replace(grounder.thresholds, **given)


def _write_overlay(path: Path, picture: Any, answer: Grounding, title: str) -> None:
    import cv2

    from grex_ros.grounding.overlay import draw_overlay

    drawn = draw_overlay(picture, answer, title)
    try:
        written = cv2.imwrite(str(path), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise ValueError(f"{path} cannot be written: {error.err}") from error
    if not written:
        raise ValueError(f"{path} cannot be written")


def _record(image: Path, command: Command, answer: Grounding, grounder: Grounder) -> dict[str, Any]:
    from grex_ros.grounding.record import to_record

    return {
        "image": str(image),
        "command": command.text,
        "action": command.action,
        **to_record(answer),
        "model": grounder.name,
        "device": str(grounder.device),
    }


def _print_answer(command: Command, answer: Grounding, grounder: Grounder) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from grex_ros.grounding.overlay import status_text

    console = Console()
    color = "green" if answer.objects else "yellow"
    action = f"  (action: {escape(command.action)})" if command.action else ""
    console.print(f"[bold]{escape(command.expression)}[/]{action}")
    console.print(
        f"[{color}]{status_text(answer)}[/]  no-target score {answer.no_target_score:.2f},"
        f" {1000 * answer.latency:.0f} ms on {grounder.device}, {grounder.name}",
        soft_wrap=True,
    )
    if not answer.objects:
        console.print(escape(answer.status_message), soft_wrap=True)
        return
    table = Table("id", "score", "box x0 y0 x1 y1", "pixels")
    for item in answer.objects:
        box = " ".join(map(str, item.box))
        table.add_row(str(item.id), f"{item.score:.2f}", box, str(int(item.mask.sum())))
    console.print(table)


if __name__ == "__main__":
    app()
