"""The service ~/ground: one command about one image, answered once, beside the command in force.

The executor never waits here: a call is a coroutine that goes on when the worker, a camera frame or
a timer resolves its future.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.task import Future
from std_msgs.msg import Header

from grex_ros.grounding.objects import Grounding, Status
from grex_ros.msg import Grounding as GroundingMessage
from grex_ros.ros import parameters, qos
from grex_ros.ros.answering import Answerer, ReceivedImage, is_fresh
from grex_ros.ros.commands import CommandInForce
from grex_ros.ros.messages import Answer, ReceivedCommand, grounding_message
from grex_ros.ros.parameters import Settings
from grex_ros.ros.worker import MAX_JOBS, Worker
from grex_ros.srv import Ground


class GroundService:
    """Serves ~/ground. Outside `open` .. `close` every call is answered with ERROR and the node's
    state.

    Args:
        node: a node with a ``state`` property, the lifecycle state's name.
        commands: gives the calls' commands their ids.
        newest: the newest image of the camera, or None.
        answered: is told of every answer of the model, in the worker's thread.
    """

    def __init__(
        self,
        node: Any,
        commands: CommandInForce,
        newest: Callable[[], ReceivedImage | None],
        answered: Callable[[Answer], None],
    ) -> None:
        self._node = node
        self._commands = commands
        self._newest = newest
        self._answered = answered
        self._worker: Worker[ReceivedImage] | None = None
        self._answerer: Answerer | None = None
        self._topic = ""
        self._waiting: list[Future[ReceivedImage | None]] = []
        self._group = (
            ReentrantCallbackGroup()
        )  # a call that waits keeps no other callback from running
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._service = node.create_service(
            Ground,
            "~/ground",
            self._on_ground,
            qos_profile=qos.calls(),
            callback_group=self._group,
        )

    def open(self, worker: Worker[ReceivedImage], answerer: Answerer, topic: str) -> None:
        """Begin to answer with this worker and answerer; ``topic`` is where camera images come
        from.
        """
        self._worker, self._answerer, self._topic = worker, answerer, topic

    def close(self) -> None:
        """Answer no more; calls that wait for an image are told at once."""
        self._worker, self._answerer = None, None
        self._release_waiting(None)

    def image_came(self, image: ReceivedImage) -> None:
        """Let the calls that wait for an image have this one."""
        if self._waiting:
            self._release_waiting(image)

    async def _on_ground(
        self, request: Ground.Request, response: Ground.Response
    ) -> Ground.Response:
        command = self._commands.read(request.command)
        try:
            response.grounding = await self._ground(command, request)
        except Exception as error:  # the caller waits for an answer
            sentence = f"The call failed: {type(error).__name__}: {error}"
            self._node.get_logger().error(sentence)
            response.grounding = _without_image(
                command, request.image.header, Status.ERROR, sentence
            )
        return response

    async def _ground(self, command: ReceivedCommand, request: Ground.Request) -> GroundingMessage:
        header = request.image.header
        settings = parameters.read(self._node)
        image: ReceivedImage | None = None
        if request.image.height:
            image = ReceivedImage(request.image, self._now())
        elif self._worker is not None:
            image = await self._fresh_image(settings)
        worker, answerer = self._worker, self._answerer
        if worker is None or answerer is None:
            return _without_image(command, header, Status.ERROR, self._not_active())
        if image is None:
            sentence = f"No image has come on {self._topic} within {settings.service_timeout:g} s."
            return _without_image(command, header, Status.STALE_IMAGE, sentence)

        future: Future[GroundingMessage] = Future()

        def job() -> None:
            try:
                if worker.running:
                    answer = answerer.answer(image, command, settings)
                    message = grounding_message(answer)
                    self._answered(answer)
                else:
                    message = _without_image(command, header, Status.ERROR, self._not_active())
            except Exception as error:
                message = _without_image(command, header, Status.ERROR, f"The call failed: {error}")
            self._resolve(future, message)

        if not worker.submit(job):
            sentence = f"{MAX_JOBS} calls wait already; ask again when one is answered."
            return _without_image(command, header, Status.ERROR, sentence)
        answered = await future
        assert answered is not None
        return answered

    async def _fresh_image(self, settings: Settings) -> ReceivedImage | None:
        """The newest image if it is fresh, else the next one; after service_timeout the newest, if
        any.
        """
        newest = self._newest()
        if newest is not None and is_fresh(newest, self._now(), settings.max_image_age):
            return newest
        future: Future[ReceivedImage | None] = Future()
        self._waiting.append(future)
        timer = self._node.create_timer(
            settings.service_timeout,
            lambda: self._resolve(future, None),
            callback_group=self._group,
            clock=self._clock,
        )
        try:
            return await future or self._newest()
        finally:
            self._node.destroy_timer(timer)
            if future in self._waiting:
                self._waiting.remove(future)

    def _release_waiting(self, image: ReceivedImage | None) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            self._resolve(future, image)

    def _resolve(self, future: Future[Any], value: Any) -> None:
        """Resolve a future from any thread and have the executor look at it."""
        if not future.done():
            future.set_result(value)
        executor = self._node.executor
        if executor is not None:
            executor.wake()

    def _not_active(self) -> str:
        if self._node.state == "finalized":
            return "The node is finalized: start it anew."
        name = self._node.get_fully_qualified_name()
        step = "configure, then activate" if self._node.state == "unconfigured" else "activate"
        return f"The node is {self._node.state}: ros2 lifecycle set {name} {step}."

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


def _without_image(
    command: ReceivedCommand, header: Header, status: Status, sentence: str
) -> GroundingMessage:
    expression = command.meaning.expression if command.meaning else ""
    grounding = Grounding(expression, status, sentence, 0.0, (), (0, 0), 0.0)
    return grounding_message(Answer(header, command, grounding, 0.0, 0.0, ""))
