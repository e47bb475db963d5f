"""What a run writes down: rows, curves, pictures with answers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from tests.training.test_resume import SMALL
from tests.training.test_train import make_dataset
from training.config import TrainConfig
from training.curve import draw, read_rows
from training.reporting import RunLog
from training.train import Trainer


def test_curves_and_pictures(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    config = TrainConfig(
        dataset=str(make_dataset(tmp_path / "data")),
        steps=2,
        batch_size=1,
        image_size=64,
        model=SMALL,
        overlay_minutes=0.0001,
    )
    Trainer(config, tmp_path / "run").train()
    resumed = Trainer(config.replace(steps=4), tmp_path / "run")
    resumed.train()  # after it was asked for answers, the model still learns

    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    found = event_accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    for name in ("loss/loss", "loss/generation", "run/pictures_per_second"):
        assert [event.step for event in found.Scalars(name)] == [2, 4]
    assert found.Scalars("loss/target")[1].value == pytest.approx(rows[1]["target"], abs=1e-4)
    assert found.Scalars("run/backbone_learning_rate")[1].value < 1e-4
    assert [event.step for event in found.Images("answers/0")] == [2, 4]
    image = found.Images("answers/0")[0]
    assert image.width == 3 * 64 and image.height > 48  # three expressions, and captions


def test_rows_that_a_killed_run_will_write_again_are_dropped(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in (20, 40, 60):
        log.row({"loss": 1.0}, {"speed": 2.0}, step, 1.5 * step)
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"loss": 3')  # the last line is torn
    RunLog(tmp_path, 45).close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [20, 40]
    assert rows[0] == {"loss": 1.0, "speed": 2.0, "step": 20, "seconds": 30.0}


def test_a_curve_has_panels_for_what_the_run_has_learned(tmp_path: Path) -> None:
    row = {"target": 0.5, "alignment": 0.2, "seconds": 60.0, "step": 20}
    draw([row, row | {"seconds": 120.0, "step": 40}], tmp_path / "two.png")
    draw([row | {"heat": 1.0}], tmp_path / "three.png")
    widths = {p.stem: cv2.imread(str(p)).shape[1] for p in tmp_path.iterdir()}
    assert widths["three"] * 2 == widths["two"] * 3


def test_the_mean_of_a_few_last_steps_is_left_out(tmp_path: Path) -> None:
    for last, left in ((42, [20, 40]), (55, [20, 40, 55])):
        lines = [json.dumps({"step": step}) for step in (20, 40, last)]
        (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
        assert [row["step"] for row in read_rows(tmp_path)] == left
    (tmp_path / "log.jsonl").write_text("")
    assert read_rows(tmp_path) == []
