"""The evaluation: on predictors with scores known by hand, and as the command that users type."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from grex_ros.grounding.grounder import Grounder
from grex_ros.grounding.objects import GroundedObject, Grounding, Status
from grex_ros.grounding.reading import Thresholds
from grex_ros.model.checkpoint import save_checkpoint
from grex_ros.model.config import RelaConfig
from grex_ros.model.rela import ReLA
from tests.training.tiny_dataset import Said, write_dataset
from training import evaluate as module
from training.dataset.load import load_dataset
from training.dataset.records import DatasetError, Record
from training.describing import describe_all, target_sets
from training.score_report import groups, official_scores, report
from training.scoring import Evaluation, Predict, Rules, Size, evaluate

SIZE = (40, 60)  # height, width
BOXES = {1: (5, 5, 15, 15), 2: (20, 5, 30, 15), 3: (40, 20, 60, 40)}  # 100, 100 and 400 pixels
SAID: list[Said] = [
    ("the left cup", [1], {"category": "position", "falsified": ""}),
    ("both cups", [1, 2], {"category": "count", "falsified": ""}),
    ("the plate", [3], {"category": "kind", "falsified": ""}),
    ("the unicorn", [], {"category": "absent", "falsified": "easy"}),
    ("the blue plate", [], {"category": "color", "falsified": "deceptive"}),
]
IMAGES = (1, 2)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two pictures, each with three objects and the same five expressions."""
    pictures = {n: np.full((*SIZE, 3), 10 * n, np.uint8) for n in IMAGES}
    return write_dataset(tmp_path, pictures, dict.fromkeys(IMAGES, BOXES), SAID, split="val")


def picture(dataset: Path, image_id: int) -> Path:
    return dataset / "images" / "train2014" / f"COCO_train2014_{image_id:012d}.png"


def answer(text: str, numbers: Sequence[int], size: tuple[int, int] = SIZE) -> Grounding:
    """An answer that names the given objects exactly; none of them is a refusal. ``size`` is that
    of the picture that was seen, a whole multiple of SIZE."""
    y, x = (seen // own for seen, own in zip(size, SIZE, strict=True))
    objects: list[GroundedObject] = []
    for number in numbers:
        x0, y0, x1, y1 = BOXES[number]
        crop = np.ones((y * (y1 - y0), x * (x1 - x0)), bool)
        box = (x * x0, y * y0, x * x1, y * y1)
        objects.append(GroundedObject(len(objects) + 1, 0.6, box, crop))
    status = Status.TARGETS if objects else Status.NO_TARGET
    message = "" if objects else "Nothing in view is meant."
    return Grounding(text, status, message, float(not objects), tuple(objects), size, 0.01)


MEANT = {text: numbers for text, numbers, _ in SAID}


def oracle(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
    return [answer(text, MEANT[text], image.shape[:2]) for text in expressions]


def always_none(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
    return [answer(text, []) for text in expressions]


def everything(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
    return [answer(text, list(BOXES)) for text in expressions]


def scored(dataset: Path, predict: Predict, *more: Any) -> dict[str, Any]:
    return report(evaluate(load_dataset(dataset, "val"), predict, *more))


@pytest.mark.parametrize("rules", [Rules(), Rules(Size.OFFICIAL)], ids=["picture", "official"])
def test_an_oracle_has_a_hundred_everywhere(dataset: Path, rules: Rules) -> None:
    content = scored(dataset, oracle, rules)
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
    assert content["overall"]["grec"] == {**boxes, "ap50": 0.0}
    assert content["overall"]["grec_iou"] == boxes
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


def rated(score: float, no_target: float = 0.0) -> Predict:
    """The right objects for each expression, all with this score."""

    def predict(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        return [
            replace(
                given,
                no_target_score=no_target,
                objects=tuple(replace(thing, score=score) for thing in given.objects),
            )
            for given in oracle(image, expressions)
        ]

    return predict


def test_average_precision_needs_no_threshold(dataset: Path) -> None:
    """Right boxes with low scores: too low for an answer, and ranked before all others."""
    for content in (scored(dataset, rated(0.01)), scored(dataset, rated(0.6, no_target=0.9))):
        assert content["overall"]["gres"]["t_acc"] == 0.0
        assert content["overall"]["grec"]["t_acc"] == 0.0
        assert content["overall"]["grec"]["ap50"] == 100.0
        assert content["strata"]["no-target"]["grec"]["ap50"] is None


def test_average_precision_falls_with_boxes_for_nothing(dataset: Path) -> None:
    content = scored(dataset, everything)
    # All boxes have one score and stay in order: 8 of 30 are right, those ranked
    # 1, 4, 5, 9 and 16, 19, 20, 24. So many of 101 recalls see the precision that follows:
    recalls, precisions = (13, 25, 13, 37, 13), (1, 3 / 5, 4 / 9, 7 / 20, 8 / 24)
    expected = 100 * np.dot(recalls, precisions) / 101
    assert content["overall"]["grec"]["ap50"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rules", "answered", "boxes"),
    [
        (Rules(), 100.0, 100.0),
        (Rules(target=0.7), 0.0, 100.0),
        (Rules(boxes=0.7), 100.0, 0.0),
        (Rules(no_target=0.4), 0.0, 0.0),
        (Rules(no_target=0.41), 100.0, 100.0),
    ],
)
def test_thresholds_are_those_of_the_rules(
    dataset: Path, rules: Rules, answered: float, boxes: float
) -> None:
    content = scored(dataset, rated(0.6, no_target=0.4), rules)
    for kind in ("single", "multi"):
        assert content["strata"][kind]["gres"]["t_acc"] == answered
        assert content["strata"][kind]["gres"]["giou"] == answered
        assert content["strata"][kind]["grec"]["pr_f1"] == boxes
    # The predictor has no object for an expression that means none.
    assert content["strata"]["no-target"]["gres"]["n_acc"] == 100.0


def test_the_mask_of_a_refused_expression_stays_in_the_union(dataset: Path) -> None:
    """Masks and refusals come from ``decide``, boxes from the predictor."""
    whole = np.ones(SIZE, bool)

    def refuse(image: np.ndarray, expressions: Sequence[str]) -> list[tuple[np.ndarray, bool]]:
        return [(whole, text == "the left cup") for text in expressions]

    content = scored(dataset, oracle, Rules(), refuse)
    gres, grec = content["overall"]["gres"], content["overall"]["grec"]
    assert gres["ciou"] == pytest.approx(100 * (200 + 400) / (5 * whole.size))
    assert gres["t_acc"] == pytest.approx(200 / 3) and gres["n_acc"] == 0.0
    assert grec["pr_f1"] == grec["ap50"] == 100.0


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
        for r in load_dataset(dataset, "val")
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
        for r in load_dataset(dataset, "val")
    ]
    found = groups(evaluate(records, oracle).results)
    assert list(found["strata"]) == ["single", "multi", "no-target"]
    assert found["categories"] == {}


def test_an_answer_that_is_an_error_is_not_scored(dataset: Path) -> None:
    def broken(image: np.ndarray, expressions: Sequence[str]) -> list[Grounding]:
        failed = replace(answer("", []), status=Status.ERROR, status_message="it broke")
        return [failed] * len(expressions)

    with pytest.raises(RuntimeError, match="image_id 1, sent_id 0 .*the left cup.*it broke"):
        evaluate(load_dataset(dataset, "val"), broken)


def test_a_predictor_that_leaves_expressions_out_is_found(dataset: Path) -> None:
    with pytest.raises(RuntimeError, match="image_id 1: 4 answers to 5 expressions"):
        evaluate(load_dataset(dataset, "val"), lambda i, e: oracle(i, e[:-1]))


@pytest.mark.parametrize(("wrong", "says"), [(False, "cannot be read"), (True, "9 x 9 pixels")])
def test_an_unusable_picture_is_named(dataset: Path, wrong: bool, says: str) -> None:
    path = picture(dataset, 2)
    if wrong:
        cv2.imwrite(str(path), np.zeros((9, 9, 3), np.uint8))
    else:
        path.write_bytes(b"no picture")
    for size in Size:
        with pytest.raises(DatasetError, match=rf"2\.png: {says}"):
            evaluate(load_dataset(dataset, "val"), oracle, Rules(size))


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
    evaluation = evaluate(load_dataset(dataset, "val"), interrupting(1))
    assert not evaluation.complete
    assert (evaluation.images, len(evaluation.results)) == (1, 5)
    assert report(evaluate(load_dataset(dataset, "val"), interrupting(0)))["images"] == 0


def test_a_report_of_nothing_is_a_report() -> None:
    content = report(Evaluation())
    assert content["overall"]["gres"]["giou"] is None
    assert content["seconds_per_image"] is None
    json.dumps(content, allow_nan=False)


class StandIn:
    """What the command needs of a Grounder, with the answers of a plain function."""

    name = "oracle@0123456789ab"
    device = torch.device("cpu")

    def __init__(self, predict: Predict, speaks: bool = False) -> None:
        words = ("cup",) if speaks else ()
        cfg = SimpleNamespace(
            instance_heads=True, generation_layers=2, generation_words=words, image_size=448
        )
        self.model = SimpleNamespace(cfg=cfg)
        self.thresholds = Thresholds()
        self.asked_with: list[Thresholds] = []
        self._predict = predict

    def set_image(self, image: np.ndarray) -> None:
        self._image = image

    def ground(self, expressions: Sequence[str]) -> Sequence[Grounding]:
        self.asked_with.append(self.thresholds)
        return self._predict(self._image, expressions)

    def describe(self, boxes: Sequence[Sequence[float]], verify: bool = True) -> SimpleNamespace:
        assert not verify
        return SimpleNamespace(text="the left cup" if len(boxes) == 1 else "both cups")


Command = Callable[..., Any]


def invoke(*arguments: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(module.main)
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, arguments)


@pytest.fixture
def command(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str, predict: Predict = oracle, speaks: bool = False) -> Any:
        stand_in = StandIn(predict, speaks)
        monkeypatch.setattr(Grounder, "from_checkpoint", lambda path, **_: stand_in)
        result = invoke("--dataset", str(dataset), *arguments)
        result.asked_with = stand_in.asked_with
        return result

    return run


def test_command_prints_tables_and_writes_json(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out" / "scores.json"
    result = command("--out", str(path.parent))
    assert result.exit_code == 0, result.output
    assert "GRES: masks, percent" in result.output and "GREC: boxes, percent" in result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert ["overall", "10", *["100.0"] * 8] in rows
    assert ["deceptive", "2", "100.0", "-", "-", "100.0", "-", "-", "-", "-"] in rows
    assert ["position", "2", "100.0", "-", "100.0", "100.0", "100.0"] in rows  # boxes
    assert "official" not in result.output
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
        "no_target_score": 0.0,
        "refused": False,
        "iou": 1.0,
        "boxes": 2,
        "boxes_right": True,
    }


def test_command_limits_images_and_sets_thresholds(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    result = command("--limit", "1", "--no-target-threshold", "0.8", "--out", str(tmp_path))
    content = json.loads(path.read_text())
    assert (content["images"], content["limit"]) == (1, 1)
    assert content["thresholds"] == {"target": 0.5, "mask": 0.5, "no_target": 0.8, "boxes": 0.5}
    # The predictor is asked for everything: the thresholds are applied to its answers. What the
    # page shows is asked as a user would.
    assert result.asked_with[0] == Thresholds(target=0.0, no_target=1.0)
    assert result.asked_with[1:] == [Thresholds(no_target=0.8)] * 5


def test_command_in_official_size(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    result = command("--size", "official", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert (
        "official GRES: gIoU 100.0000, cIoU 100.0000, T_acc 1.0000, N_acc 1.0000, "
        "Pr@0.7 100.0000, Pr@0.8 100.0000, Pr@0.9 100.0000" in lines
    )
    # The oracle's boxes have a score of 0.6, which is below the official 0.7.
    assert "official GREC: F1_score 0.4000, T_acc 0.0000, N_acc 1.0000" in lines
    assert "6 masks are run lengths, which the official code refuses" in result.output
    content = json.loads(path.read_text())
    assert (content["size"], content["decision"]) == ("official", "objects")
    assert content["thresholds"]["boxes"] == 0.7
    assert content["official"]["gres"]["T_acc"] == 1.0
    assert content["overall"]["gres"]["giou"] == 100.0

    command("--size", "official", "--box-threshold", "0.6", "--out", str(tmp_path))
    assert json.loads(path.read_text())["official"]["grec"]["F1_score"] == 1.0
    command("--out", str(tmp_path))
    assert json.loads(path.read_text())["size"] == "picture"


def test_official_numbers_that_are_not_there_are_null(dataset: Path) -> None:
    content = official_scores(evaluate([], oracle).results)
    assert content["gres"]["gIoU"] is content["grec"]["F1_score"] is None


def test_the_worst_answers_are_shown_at_the_pictures_own_size_only(
    command: Command, tmp_path: Path
) -> None:
    for size, shown in (("official", False), ("picture", True)):
        assert command("--size", size, "--out", str(tmp_path)).exit_code == 0
        page = (tmp_path / "worst.html").read_text()
        assert ("worst answers" in page) is shown and "GREC: boxes" in page


def sources(page: str) -> list[str]:
    """What the page would load: every src, href and url() in it."""
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(value or "" for name, value in attrs if name in ("src", "href", "srcset"))
            assert tag not in ("script", "link", "iframe")

    reader = Reader()
    reader.feed(page)
    reader.close()
    return found + re.findall(r"url\(([^)]*)\)|@import", page)


def test_out_holds_numbers_tables_and_a_page_that_needs_no_other_file(
    command: Command, tmp_path: Path
) -> None:
    result = command("--out", str(tmp_path), "--worst", "3", predict=always_none, speaks=True)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "worst.html").read_text()
    loaded = sources(page)
    # The curves, three answers beside their truths, and six descriptions.
    assert len(loaded) == 1 + 2 * 3 + 6
    assert all(re.match(r"data:image/(png|jpeg);base64,", source) for source in loaded)
    for source in loaded:
        data = np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR) is not None
    assert page.count("said no target, meant 1 object") + page.count("meant 2 objects") == 3
    assert "single, position" in page or "single, kind" in page
    assert cv2.imread(str(tmp_path / "calibration.png")) is not None

    text = (tmp_path / "scores.md").read_text()
    assert "| no-target, deceptive | 2 | 100.0 | - | - | 100.0 | - | - | - | - |" in text
    assert "| position | 2 |" in text and "## GREG: words, percent" in text
    assert "METEOR: nltk" in text and "no WordNet" in text
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["overall"]["gres"]["n_acc"] == 100.0
    assert content["calibration"]["no_target_prior"] == 0.4
    assert content["calibration"]["ece"] == pytest.approx(0.6)  # says 1 where 0.4 would be right


def test_descriptions_are_scored_and_grounded_again(command: Command, tmp_path: Path) -> None:
    """It says "the left cup" of the plate, too."""
    result = command("--out", str(tmp_path), "--tasks", "greg", speaks=True)
    assert result.exit_code == 0, result.output
    assert "GRES" not in result.output and "GREG: words, percent" in result.output
    content = json.loads((tmp_path / "scores.json").read_text())
    assert "overall" not in content and content["tasks"] == ["greg"]
    found = content["greg"]
    assert [found[kind]["expressions"] for kind in ("overall", "single", "multi")] == [6, 4, 2]
    assert found["single"]["consistency"] == 50.0 and found["multi"]["consistency"] == 100.0
    assert found["multi"]["bleu2"] == pytest.approx(100, abs=1e-3)
    # "the left cup" twice, and twice of "the plate": 3 + 1 of 6 words each.
    assert found["single"]["bleu1"] == pytest.approx(100 * 4 / 6, abs=1e-3)
    assert found["descriptions"][2] == {
        "image_id": 1,
        "ann_ids": [13],
        "text": "the left cup",
        "references": ["the plate"],
        "consistent": False,
    }


def test_a_model_that_cannot_describe_says_so(command: Command, tmp_path: Path) -> None:
    result = command("--out", str(tmp_path))
    assert result.exit_code == 0
    assert "GREG is left out: oracle@0123456789ab has no generation head" in result.output
    assert "greg" not in json.loads((tmp_path / "scores.json").read_text())
    assert "no generation head" not in command("--tasks", "gres").output


def test_what_is_said_of_a_set_is_its_references(dataset: Path) -> None:
    record = load_dataset(dataset, "val")[0]
    more = [
        replace(record.expressions[1], text="The two cups", ann_ids=(12, 11)),
        replace(record.expressions[1], text="both cups!"),
        replace(record.expressions[0], text="..."),
    ]
    sets = target_sets(replace(record, expressions=(*record.expressions, *more)))
    assert sets == {
        (11,): ("the left cup",),
        (11, 12): ("both cups", "The two cups"),
        (13,): ("the plate",),
    }


def test_ctrl_c_while_describing_keeps_what_there_is(dataset: Path) -> None:
    calls = iter(range(2))

    def describe(image: np.ndarray, sets: Sequence[Any]) -> list[str]:
        if next(calls):
            raise KeyboardInterrupt
        return ["the left cup", "", "the plate"]

    found = describe_all(load_dataset(dataset, "val"), describe, oracle, Rules())
    assert (found.complete, found.images) == (False, 1)
    assert [d.sample.found for d in found.results] == [True, False, True]


def test_command_names_missing_pycocotools_at_once(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    result = command()
    assert result.exit_code == 1 and "pip install pycocotools" in result.output


def test_command_stopped_by_ctrl_c_prints_what_it_has(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    result = command("--out", str(tmp_path), predict=interrupting(1))
    assert result.exit_code == 130
    assert "GRES: masks, percent" in result.output and "stopped early" in result.output
    content = json.loads(path.read_text())
    assert (content["complete"], content["images"]) == (False, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--split", "testC"], "no split 'testC'"),
        (["--dataset", "nowhere"], "no such folder"),
        (["--tasks", "gers"], "--tasks takes some of"),
    ],
)
def test_command_says_what_is_wrong(command: Command, arguments: list[str], says: str) -> None:
    result = command(*arguments)
    assert result.exit_code == 1
    assert says in result.output and "Traceback" not in result.output


def test_command_names_an_unusable_picture(command: Command, dataset: Path) -> None:
    picture(dataset, 2).write_bytes(b"no picture")
    result = command()
    assert result.exit_code == 1
    assert "cannot be read as a picture" in " ".join(result.output.split())


@pytest.mark.parametrize("size", ["picture", "official"])
def test_command_with_a_real_model(dataset: Path, tmp_path: Path, size: str) -> None:
    """An untrained one, loaded from its file: every expression gets its answer."""
    torch.manual_seed(0)
    checkpoint, path = tmp_path / "untrained.safetensors", tmp_path / "scores.json"
    words = ("the", "left", "cup", "cups", "both") if size == "picture" else ()
    save_checkpoint(ReLA(RelaConfig.preset("tabletop").replace(generation_words=words)), checkpoint)
    arguments = ("--checkpoint", str(checkpoint), "--engine", "torch", "--out", str(tmp_path))
    arguments += ("--limit", "1", "--worst", "1")
    result = invoke("--dataset", str(dataset), *arguments, "--size", size)
    assert result.exit_code == 0, result.output
    content = json.loads(path.read_text())
    assert content["model"].startswith("tabletop@") and content["device"] == "cpu"
    assert (content["complete"], content["expressions"]) == (True, 5)
    assert (content["size"], content["decision"]) == (size, "objects")
    assert content["seconds_per_image"] > 0
    if words:
        said = {word for d in content["greg"]["descriptions"] for word in d["text"].split()}
        assert content["greg"]["overall"]["expressions"] == 3
        assert content["greg"]["complete"] and said and said <= set(words)
    else:
        assert "no generation head" in content["greg_left_out"]


def test_command_names_a_missing_checkpoint(dataset: Path) -> None:
    result = invoke("--dataset", str(dataset), "--checkpoint", "none.safetensors")
    assert result.exit_code == 1
    assert "none.safetensors" in result.output and "Traceback" not in result.output
