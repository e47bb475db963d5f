"""The evaluation: on predictors with scores known by hand, and as the command that users type."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from grex_ros.grounding import rle
from grex_ros.grounding.grounder import Grounder, Thresholds
from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.model.checkpoint import save_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from training import evaluate as module
from training.dataset.grefcoco import DatasetError, Record, load_grefcoco
from training.evaluate import Evaluation, Predict, evaluate, groups, report

SIZE = (40, 60)  # height, width
BOXES = {1: (5, 5, 15, 15), 2: (20, 5, 30, 15), 3: (40, 20, 60, 40)}  # 100, 100 and 400 pixels
SAID: list[tuple[str, list[int], str, str]] = [
    ("the left cup", [1], "position", ""),
    ("both cups", [1, 2], "count", ""),
    ("the plate", [3], "kind", ""),
    ("the unicorn", [-1], "absent", "easy"),
    ("the blue plate", [-1], "color", "deceptive"),
]
IMAGES = (1, 2)


def whole_image(box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two pictures, each with three objects and the same five expressions."""
    (tmp_path / "images" / "train2014").mkdir(parents=True)
    (tmp_path / "grefcoco").mkdir()
    images: list[dict] = []
    annotations: list[dict] = []
    refs: list[dict] = []
    for image_id in IMAGES:
        name = f"{image_id}.png"
        picture = np.full((*SIZE, 3), 10 * image_id, np.uint8)
        cv2.imwrite(str(tmp_path / "images" / "train2014" / name), picture)
        images.append({"id": image_id, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for number, (x0, y0, x1, y1) in BOXES.items():
            annotations.append(
                {
                    "id": 10 * image_id + number,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": rle.encode(whole_image((x0, y0, x1, y1))),
                }
            )
        for text, numbers, category, falsified in SAID:
            number = len(refs)
            refs.append(
                {
                    "ref_id": number,
                    "image_id": image_id,
                    "split": "val",
                    "ann_id": [10 * image_id + n if n > 0 else n for n in numbers],
                    "sentences": [{"sent_id": number, "raw": text, "sent": text}],
                    "category": category,
                    "falsified": falsified,
                }
            )
    instances = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "grefcoco" / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "grefcoco" / "grefs(unc).json").write_text(json.dumps(refs))
    return tmp_path


def answer(text: str, numbers: Sequence[int]) -> Grounding:
    """An answer that names the given objects exactly; none of them is a refusal."""
    objects: list[GroundedObject] = []
    for number in numbers:
        x0, y0, x1, y1 = box = BOXES[number]
        crop = np.ones((y1 - y0, x1 - x0), bool)
        objects.append(GroundedObject(len(objects) + 1, 0.6, box, crop))
    status = Status.TARGETS if objects else Status.NO_TARGET
    message = "" if objects else "Nothing in view is meant."
    return Grounding(text, status, message, float(not objects), tuple(objects), SIZE, 0.01)


MEANT = {text: [n for n in numbers if n > 0] for text, numbers, _, _ in SAID}


def oracle(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
    return [answer(text, MEANT[text]) for text in expressions]


def always_none(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
    return [answer(text, []) for text in expressions]


def everything(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
    return [answer(text, list(BOXES)) for text in expressions]


def scored(dataset: Path, predict: Predict) -> dict[str, Any]:
    return report(evaluate(load_grefcoco(dataset, "val"), predict))


def test_an_oracle_has_a_hundred_everywhere(dataset: Path) -> None:
    content = scored(dataset, oracle)
    assert content["complete"]
    assert (content["images"], content["expressions"]) == (2, 10)
    assert list(content["strata"]) == [
        "single",
        "multi",
        "no-target",
        "no-target, easy",
        "no-target, deceptive",
    ]
    assert list(content["categories"]) == ["absent", "color", "count", "kind", "position"]
    for row in [content["overall"], *content["strata"].values(), *content["categories"].values()]:
        for scores in row.values():
            values = {k: v for k, v in scores.items() if k not in ("expressions", "targeted")}
            assert set(values.values()) <= {100.0, None}
    for scores in content["overall"].values():
        assert None not in scores.values()


def test_a_predictor_that_always_refuses(dataset: Path) -> None:
    content = scored(dataset, always_none)
    assert content["overall"]["gres"] == {
        "expressions": 10,
        "targeted": 6,
        "giou": 40.0,
        "ciou": 0.0,
        "n_acc": 100.0,
        "t_acc": 0.0,
        "pr70": 0.0,
        "pr80": 0.0,
        "pr90": 0.0,
        "miou": 0.0,
    }
    boxes = {"expressions": 10, "targeted": 6, "pr_f1": 40.0, "n_acc": 100.0, "t_acc": 0.0}
    assert content["overall"]["grec"] == content["overall"]["grec_iou"] == boxes
    assert content["strata"]["no-target"]["gres"]["giou"] == 100.0
    assert content["strata"]["no-target"]["gres"]["ciou"] is None
    assert content["strata"]["single"]["gres"]["giou"] == 0.0


def test_a_predictor_that_answers_everything(dataset: Path) -> None:
    """All three objects, 600 pixels, to every expression."""
    content = scored(dataset, everything)
    left, both, plate = 100 / 600, 200 / 600, 400 / 600
    gres = content["overall"]["gres"]
    assert gres["giou"] == pytest.approx(100 * (left + both + plate) / 5)
    assert gres["miou"] == pytest.approx(100 * (left + both + plate) / 3)
    assert gres["ciou"] == pytest.approx(100 * (100 + 200 + 400) / (5 * 600))
    assert (gres["n_acc"], gres["t_acc"]) == (0.0, 100.0)
    assert content["strata"]["single"]["gres"]["giou"] == pytest.approx(50 * (left + plate))
    assert content["overall"]["grec"]["pr_f1"] == 0.0
    assert content["overall"]["grec"]["t_acc"] == 100.0


def test_boxes_and_masks_are_scored_apart(dataset: Path) -> None:
    """Right boxes, every second row of the masks."""

    def striped(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        answers = oracle(image, expressions)
        for item in (o for a in answers for o in a.objects):
            item.mask[1::2] = False
        return answers

    content = scored(dataset, striped)
    assert content["overall"]["gres"]["miou"] == pytest.approx(50.0)
    assert content["overall"]["gres"]["n_acc"] == 100.0
    assert content["overall"]["grec"]["pr_f1"] == 100.0


def test_giou_and_iou_are_both_reported(dataset: Path) -> None:
    """Boxes shifted along the diagonal: IoU 0.504 of the plate's box, GIoU 0.474."""

    def shifted(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        moved = (37, 16, 57, 36)
        return [
            replace(a, objects=tuple(replace(o, box=moved) for o in a.objects))
            for a in oracle(image, expressions)
        ]

    records = [
        replace(r, expressions=tuple(e for e in r.expressions if e.text == "the plate"))
        for r in load_grefcoco(dataset, "val")
    ]
    content = report(evaluate(records, shifted))
    assert content["overall"]["grec"]["pr_f1"] == 0.0
    assert content["overall"]["grec_iou"]["pr_f1"] == 100.0


def test_the_predictor_sees_rgb_and_every_expression_of_a_picture_at_once(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), np.full((4, 6, 3), (0, 0, 255), np.uint8))
    seen: list[tuple[Any, Sequence[str]]] = []

    def look(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        seen.append((image, expressions))
        return []

    evaluate([Record(1, path, 4, 6, (), ())], look)
    ((image, expressions),) = seen
    assert image.dtype == np.uint8 and expressions == []
    np.testing.assert_array_equal(image[0, 0], (255, 0, 0))


def test_expressions_without_strata_of_their_own(dataset: Path) -> None:
    """The official dataset names neither a category nor what is false."""
    records = [
        replace(r, expressions=tuple(replace(e, category="", falsified="") for e in r.expressions))
        for r in load_grefcoco(dataset, "val")
    ]
    found = groups(evaluate(records, oracle).results)
    assert list(found["strata"]) == ["single", "multi", "no-target"]
    assert found["categories"] == {}


def test_an_answer_that_is_an_error_is_not_scored(dataset: Path) -> None:
    def broken(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        failed = replace(answer("", []), status=Status.ERROR, status_message="it broke")
        return [failed] * len(expressions)

    with pytest.raises(RuntimeError, match="image_id 1, sent_id 0 .*the left cup.*it broke"):
        evaluate(load_grefcoco(dataset, "val"), broken)


def test_a_predictor_that_leaves_expressions_out_is_found(dataset: Path) -> None:
    with pytest.raises(RuntimeError, match="image_id 1: 4 answers to 5 expressions"):
        evaluate(load_grefcoco(dataset, "val"), lambda i, e: oracle(i, e[:-1]))


@pytest.mark.parametrize(("wrong", "says"), [(False, "cannot be read"), (True, "9 x 9 pixels")])
def test_an_unusable_picture_is_named(dataset: Path, wrong: bool, says: str) -> None:
    path = dataset / "images" / "train2014" / "2.png"
    if wrong:
        cv2.imwrite(str(path), np.zeros((9, 9, 3), np.uint8))
    else:
        path.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=rf"2\.png: {says}"):
        evaluate(load_grefcoco(dataset, "val"), oracle)


def interrupting(after: int) -> Predict:
    """The oracle, until Ctrl-C comes."""
    calls = 0

    def predict(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return oracle(image, expressions)

    return predict


def test_ctrl_c_keeps_what_there_is(dataset: Path) -> None:
    evaluation = evaluate(load_grefcoco(dataset, "val"), interrupting(1))
    assert not evaluation.complete
    assert (evaluation.images, len(evaluation.results)) == (1, 5)
    assert report(evaluate(load_grefcoco(dataset, "val"), interrupting(0)))["images"] == 0


def test_a_report_of_nothing_is_a_report() -> None:
    content = report(Evaluation())
    assert content["overall"]["gres"]["giou"] is None
    assert content["seconds_per_image"] is None
    json.dumps(content, allow_nan=False)


class StandIn:
    """What the command needs of a Grounder, with the answers of a plain function."""

    name = "oracle@0123456789ab"
    device = torch.device("cpu")

    def __init__(self, predict: Predict) -> None:
        self.thresholds = Thresholds()
        self._predict = predict

    def set_image(self, image: np.ndarray) -> None:
        self._image = image

    def ground(self, expressions: Sequence[str]) -> Sequence[Grounding]:
        return self._predict(self._image, expressions)


Command = Callable[..., Any]


def invoke(*arguments: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(module.main)
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, arguments)


@pytest.fixture
def command(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str, predict: Predict = oracle) -> Any:
        stand_in = StandIn(predict)
        monkeypatch.setattr(Grounder, "from_checkpoint", lambda path, device: stand_in)
        result = invoke("--dataset", str(dataset), *arguments)
        result.thresholds = stand_in.thresholds
        return result

    return run


def test_command_prints_tables_and_writes_json(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.json"
    result = command("--json", str(path))
    assert result.exit_code == 0, result.output
    assert "GRES: masks, percent" in result.output and "GREC: boxes, percent" in result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert ["overall", "10", *["100.0"] * 8] in rows
    assert ["deceptive", "2", "100.0", "-", "-", "100.0", "-", "-", "-", "-"] in rows
    assert ["position", "2", "100.0", "-", "100.0", "100.0"] in rows  # boxes
    content = json.loads(path.read_text())
    assert content["model"] == "oracle@0123456789ab"
    assert content["units"] == "percent"
    assert content["overall"]["gres"]["giou"] == 100.0
    assert len(content["refs_sha256"]) == 64
    assert content["answers"][1] == {
        "image_id": 1,
        "sent_id": 1,
        "text": "both cups",
        "targets": 2,
        "refused": False,
        "iou": 1.0,
        "boxes": 2,
        "boxes_right": True,
    }


def test_command_limits_images_and_sets_thresholds(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    result = command("--limit", "1", "--no-target-threshold", "0.8", "--json", str(path))
    content = json.loads(path.read_text())
    assert (content["images"], content["limit"]) == (1, 1)
    assert result.thresholds == Thresholds(no_target=0.8)
    assert content["thresholds"] == {"target": 0.5, "mask": 0.5, "no_target": 0.8}


def test_command_stopped_by_ctrl_c_prints_what_it_has(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    result = command("--json", str(path), predict=interrupting(1))
    assert result.exit_code == 130
    assert "GRES: masks, percent" in result.output and "stopped early" in result.output
    content = json.loads(path.read_text())
    assert (content["complete"], content["images"]) == (False, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--split", "testC"], "no split 'testC'"), (["--dataset", "nowhere"], "no such file")],
)
def test_command_says_what_is_wrong(command: Command, arguments: list[str], says: str) -> None:
    result = command(*arguments)
    assert result.exit_code == 1
    assert says in result.output and "Traceback" not in result.output


def test_command_names_an_unusable_picture(command: Command, dataset: Path) -> None:
    (dataset / "images" / "train2014" / "2.png").write_bytes(b"no picture")
    result = command()
    assert result.exit_code == 1
    assert "cannot be read as a picture" in " ".join(result.output.split())


def test_command_with_a_real_model(dataset: Path, tmp_path: Path) -> None:
    """An untrained one, loaded from its file: every expression gets its answer."""
    torch.manual_seed(0)
    checkpoint, path = tmp_path / "untrained.safetensors", tmp_path / "out.json"
    save_checkpoint(ReLA(RelaConfig.preset("tabletop")), checkpoint)
    arguments = ("--checkpoint", str(checkpoint), "--device", "cpu", "--json", str(path))
    result = invoke("--dataset", str(dataset), *arguments, "--target-threshold", "0")
    assert result.exit_code == 0, result.output
    content = json.loads(path.read_text())
    assert content["model"].startswith("tabletop@") and content["device"] == "cpu"
    assert (content["complete"], content["expressions"]) == (True, 10)
    assert content["seconds_per_image"] > 0


def test_command_names_a_missing_checkpoint(dataset: Path) -> None:
    result = invoke("--dataset", str(dataset), "--checkpoint", "none.safetensors")
    assert result.exit_code == 1
    assert "none.safetensors" in result.output and "Traceback" not in result.output
