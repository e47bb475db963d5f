"""What each part of the model is good for: trains it with and without, and prints the table.

    python -m training.ablate --config training/configs/ablation_tabletop.yaml \\
        --steps 4000 --out runs/ablation

Every variant has the same seed, data, steps and loss weights. The same command goes on where it was
stopped; variants that are done are not trained again. ``table.md`` and ``table.json`` are written
into the folder, the evaluation of each variant into VARIANT/scores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from training import evaluate
from training.config import ConfigError, TrainConfig, as_dict
from training.train import Trainer

WITHOUT_INSTANCES = {
    "instance_heads": False,
    # what needs them
    "region_proposals": False,
    "distinct_regions": False,
    "region_appearance": False,
    "region_geometry": False,
    "region_semantics": False,
    "box_refiner": False,
    "coco_detector": False,
    "close_looks": 0,
    "refine_side": 0,
    "phrase_alignment": False,
    "relevance_no_target": False,
    "count_classes": 0,
    "generation_layers": 0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no region-region attention": {"region_region": False, "region_geometry": False},
    "no geometry between regions": {"region_geometry": False},
    "no ImageNet classes of regions": {"region_semantics": False},
    "regions at peaks, twins kept": {"distinct_regions": False},
    "boxes not refined": {"box_refiner": False},
    "no detector": {"coco_detector": False},
    "no close look": {"close_looks": 0},
    "no region-word attention": {"region_word": False},
    "no instance heads": WITHOUT_INSTANCES,
}
SCORES = {
    "gIoU": ("gres", "giou"),
    "cIoU": ("gres", "ciou"),
    "N-acc": ("gres", "n_acc"),
    "T-acc": ("gres", "t_acc"),
    "Pr@(F1=1)": ("grec", "pr_f1"),
}
console = Console()


def applicable(config: TrainConfig) -> dict[str, TrainConfig]:
    """The variants that there are of a run's model: all that are not the full one again."""
    changed = {}
    for name, change in VARIANTS.items():
        # Nothing is left to be mirrored.
        rest = {"mirrored_looks": 0.0} if change.get("close_looks") == 0 else {}
        changed[name] = config.replace(model={**config.model, **change}, **rest)
    return {n: c for n, c in changed.items() if n == "full" or c.rela != config.rela}


def run_variant(config: TrainConfig, folder: Path, dataset: str, split: str, limit: int) -> Any:
    """Trains (on) and evaluates one variant; its scores as ``training.evaluate`` writes them."""
    file = folder / "scores" / "scores.json"
    if not file.is_file() or not json.loads(file.read_text(encoding="utf-8"))["complete"]:
        trainer = Trainer(config, folder)
        trainer.train()
        if trainer.progress < 1:
            raise typer.Exit(130)
        weights = folder / "model.safetensors"
        trainer.export(weights)
        evaluate.main(
            dataset=dataset,
            split=split,
            checkpoint=weights,
            tasks="gres,grec",
            out=file.parent,
            engine="torch",
            limit=limit or None,
            worst=10,
        )
    return json.loads(file.read_text(encoding="utf-8"))


def row(scores: dict[str, Any]) -> dict[str, float | None]:
    """The scores of the table, in percent."""
    overall = scores["overall"]
    return {name: overall[task][key] for name, (task, key) in SCORES.items()}


def as_markdown(rows: dict[str, dict[str, float | None]], title: str) -> str:
    """The table, one line a variant."""
    lines = [("variant", *SCORES), ("---", *["---:"] * len(SCORES))]
    lines += [(name, *map(cell, found.values())) for name, found in rows.items()]
    return f"# {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(value: float | None) -> str:
    """A number of the table."""
    return "-" if value is None else f"{value:.1f}"


def check_settings(out: Path, settings: dict[str, Any]) -> None:
    """Notes what the folder's runs have in common; ConfigError if it was begun otherwise."""
    file = out / "settings.json"
    text = json.dumps(settings, indent=1, sort_keys=True)
    if not file.is_file():
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    elif file.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{out} was begun with other settings, see {file}; choose another folder")


def main(
    config: Annotated[Path, typer.Option(help="YAML of the full model's run")],
    steps: Annotated[int, typer.Option(min=1, help="steps of every variant")],
    out: Annotated[Path, typer.Option(help="folder; what is done in it is not done again")],
    dataset: Annotated[str, typer.Option(help="dataset to score; the config's first")] = "",
    split: Annotated[str, typer.Option(help="split to score")] = "val",
    limit: Annotated[int, typer.Option(help="only the first so many pictures; 0 = all")] = 0,
) -> None:
    """Trains every variant with the same seed and budget, scores it, and prints the table."""
    full = TrainConfig.load(config).replace(steps=steps, minutes=0.0)
    dataset = dataset or full.sources[0].path
    variants = applicable(full)
    given = {"dataset": dataset, "split": split, "limit": limit}
    check_settings(out, {"config": as_dict(full), **given})
    rows = {}
    for name, changed in variants.items():
        console.rule(name)
        rows[name] = row(run_variant(changed, out / name.replace(" ", "_"), dataset, split, limit))
    title = f"Ablation of {full.preset}: {steps} steps, seed {full.seed}, {dataset} {split}"
    (out / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (out / "table.md").write_text(as_markdown(rows, title), encoding="utf-8")
    table = Table("variant", title=title)
    for heading in SCORES:
        table.add_column(heading, justify="right")
    for name, found in rows.items():
        table.add_row(name, *map(cell, found.values()))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
