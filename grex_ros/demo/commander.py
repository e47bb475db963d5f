"""The node `commander`: says commands, waits for each answer and holds it against the truth.

    ros2 run grex_ros grex_commander --ros-args -p out:=out/demo

Listens to the answers and to the demo's camera, composes its commands from the truth about what is
in view, prints one line an answer, and writes `answers.jsonl` and one overlay a command.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rich.console import Console
from rich.markup import escape
from sensor_msgs.msg import Image
from std_msgs.msg import String

from grex_ros.demo.answers import Answer, to_grounding
from grex_ros.demo.camera import TRUTH_QOS
from grex_ros.demo.truth import Truth, from_json, is_correct
from grex_ros.grounding.objects import Status
from grex_ros.grounding.overlay import draw_overlay, status_text
from grex_ros.msg import Grounding as GroundingMessage
from grex_ros.ros.conversions import to_rgb
from grex_ros.scenes.expressions import Expression, demo_commands
from grex_ros.scenes.programs import evaluate

Stamp = tuple[int, int]
T = TypeVar("T")
KEPT = 80  # pictures and truths that wait for an answer
GROUNDED = (Status.TARGETS, Status.NO_TARGET)


class GaveUp(RuntimeError):
    """Something did not come in time; the message says what."""


class Commander(Node):
    """Collects pictures, truths and answers by their stamps; `run` is the conversation."""

    def __init__(self) -> None:
        super().__init__("commander")
        self._seed = int(self._parameter("seed", 0, "Chooses the words."))
        self._out = Path(self._parameter("out", "out/demo", "Folder for answers and overlays."))
        self._timeout = float(
            self._parameter("timeout", 120.0, "Seconds to wait for the node, and for each answer.")
        )
        self._images: OrderedDict[Stamp, Image] = OrderedDict()
        self._truths: OrderedDict[Stamp, Truth] = OrderedDict()
        self._answers: OrderedDict[Stamp, GroundingMessage] = OrderedDict()
        self._trouble = ""
        self._say = self.create_publisher(String, "command", 10)
        self.create_subscription(Image, "camera/image_raw", self._on_image, qos_profile_sensor_data)
        self.create_subscription(String, "camera/ground_truth", self._on_truth, TRUTH_QOS)
        self.create_subscription(GroundingMessage, "grex/grounding", self._on_answer, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _parameter(self, name: str, default: T, about: str) -> T:
        described = ParameterDescriptor(description=about, read_only=True)
        value: T = self.declare_parameter(name, default, described).value
        return value

    def run(self, console: Console) -> bool:
        """Say every command; True if each got its answer. Raises GaveUp."""
        truth = self._wait(self._newest_truth, "picture came from the camera")
        seen = ", ".join(" ".join(filter(None, (it.color, it.kind))) for it in truth.view)
        source = "rendered" if truth.source == "rendered" else f"from the bag {truth.source}"
        console.print(f"scene {truth.seed}, {source}: {seen}", soft_wrap=True)
        self._wait(
            lambda: self._answers or None, "answer came from the node", self._trouble_of_node
        )
        rng = np.random.default_rng(self._seed)
        self._out.mkdir(parents=True, exist_ok=True)
        answers: list[Answer] = []
        commands = demo_commands(truth.view, rng)
        with (self._out / "answers.jsonl").open("w") as file:
            for number, (command, expression) in enumerate(commands, start=1):
                answer, image = self._ask(number, command, expression)
                answers.append(answer)
                file.write(json.dumps(answer.to_record()) + "\n")
                file.flush()
                _print(console, answer)
                overlay = draw_overlay(to_rgb(image), answer.grounding, command)
                path = self._out / f"{number}.png"
                cv2.imwrite(str(path), cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))
        answered = [answer for answer in answers if answer.grounding.status in GROUNDED]
        correct = sum(answer.correct for answer in answers)
        latency = statistics.median(answer.grounding.latency for answer in answers)
        console.print(
            f"{len(answered)} of {len(answers)} answered, {correct} correct,"
            f" median latency {1000 * latency:.0f} ms; {escape(str(self._out))}/answers.jsonl",
            soft_wrap=True,
        )
        return len(answered) == len(answers)

    def _ask(self, number: int, command: str, expression: Expression) -> tuple[Answer, Image]:
        """Say it until there is an answer whose picture and truth are known; an answer that says
        why nothing was looked for counts only when no other comes.
        """
        self._answers.clear()
        begin = time.monotonic()
        self._say.publish(String(data=command))
        refused: list[GroundingMessage] = []

        def answer() -> GroundingMessage | None:
            for stamp, message in self._answers.items():
                known = stamp in self._truths and stamp in self._images
                if message.command == command and known:
                    if Status(message.status) in GROUNDED:
                        return message
                    refused[:] = [message]
            return None

        try:
            message = self._wait(answer, f'answer came to "{command}"')
        except GaveUp:
            if not refused:
                raise
            message = refused[0]
        stamp = _stamp(message)
        truth, image = self._truths[stamp], self._images[stamp]
        grounding = to_grounding(message, (image.height, image.width))
        targets = sorted(evaluate(expression.program, truth.view))
        return Answer(
            number=number,
            command=command,
            expression=expression,
            message=message,
            grounding=grounding,
            truth=truth,
            targets=tuple(targets),
            correct=is_correct(grounding, truth, targets),
            response_time=time.monotonic() - begin,
        ), image

    def _wait(
        self,
        result: Callable[[], T | None],
        what: str,
        trouble: Callable[[], str] = lambda: "",
    ) -> T:
        """Spin until there is a result. GaveUp after the time-out, or at once on trouble."""
        end = time.monotonic() + self._timeout
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.2)
            found = result()
            if found is not None:
                return found
            if reason := trouble():
                raise GaveUp(reason)
        raise GaveUp(f"no {what} within {self._timeout:.0f} s")

    def _newest_truth(self) -> Truth | None:
        return next(reversed(self._truths.values()), None)

    def _trouble_of_node(self) -> str:
        return self._trouble

    def _on_image(self, message: Image) -> None:
        _keep(self._images, _stamp(message), message)

    def _on_truth(self, message: String) -> None:
        stamp, truth = from_json(message.data)
        _keep(self._truths, stamp, truth)

    def _on_answer(self, message: GroundingMessage) -> None:
        _keep(self._answers, _stamp(message), message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith("grex") and status.level == DiagnosticStatus.ERROR:
                self._trouble = f"the node reports: {status.message}"


def _keep(messages: OrderedDict[Stamp, Any], stamp: Stamp, message: Any) -> None:
    messages[stamp] = message
    while len(messages) > KEPT:
        messages.popitem(last=False)


def _stamp(message: Any) -> Stamp:
    return message.header.stamp.sec, message.header.stamp.nanosec


def _print(console: Console, answer: Answer) -> None:
    found = answer.grounding
    verdict = "[green]correct[/]" if answer.correct else "[red]wrong[/]"
    if not answer.correct:
        number = len(answer.targets)
        verdict += f" (meant: {f'{number} objects' if number != 1 else '1 object'})"
    scores = " ".join(f"{item.score:.2f}" for item in found.objects)
    said = f"{status_text(found)}  {scores}" if scores else status_text(found)
    console.print(
        f"{answer.number}  {escape(answer.command):<58} {escape(said):<28}"
        f" {1000 * found.latency:5.0f} ms  {verdict}",
        soft_wrap=True,
        highlight=False,
    )


def main(args: list[str] | None = None) -> None:
    """Exit with 0 if every command got its answer, with 1 and a line if not."""
    rclpy.init(args=args)
    node = Commander()
    console = Console()
    code = 1
    try:
        code = 0 if node.run(console) else 1
    except GaveUp as reason:
        console.print(f"[red]gave up:[/] {escape(str(reason))}", soft_wrap=True)
    except (KeyboardInterrupt, ExternalShutdownException):
        code = 130
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(code)


if __name__ == "__main__":
    main()
