"""What the services have in common: a call about one image, its own or the camera's, answered once.

The executor never waits here: a call is a coroutine that goes on when the worker, a camera frame or
a timer resolves its future.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.task import Future
from sensor_msgs.msg import Image

from grex_ros.grounding.objects import Status
from grex_ros.ros import parameters, qos
from grex_ros.ros.answering import Answerer, ReceivedImage, is_fresh
from grex_ros.ros.parameters import Settings
from grex_ros.ros.worker import MAX_JOBS, Worker

T = TypeVar("T")


class ImageCalls:
    """Finds the image of each call and has the worker answer it. Outside `open` .. `close` every
    call is refused with ERROR and the node's state.

    Args:
        node: a node with a ``state`` property, the lifecycle state's name.
        newest: the newest image of the camera, or None.
    """

    def __init__(self, node: Any, newest: Callable[[], ReceivedImage | None]) -> None:
        self._node = node
        self._newest = newest
        self._worker: Worker[ReceivedImage] | None = None
        self._answerer: Answerer | None = None
        self._topic = ""
        self._waiting: list[Future[ReceivedImage | None]] = []
        self._group = (
            ReentrantCallbackGroup()
        )  # a call that waits keeps no other callback from running
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)

    def serve(self, kind: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """Create a service whose callback is a coroutine."""
        self._node.create_service(
            kind, name, callback, qos_profile=qos.calls(), callback_group=self._group
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

    async def answer(
        self,
        image: Image,
        work: Callable[[Answerer, ReceivedImage, Settings], T],
        refuse: Callable[[Status, str], T],
    ) -> T:
        """What ``work`` makes of the call's image in the worker's thread, or ``refuse`` of a status
        and a sentence where it does not come to that. It does not raise: the caller waits.
        """
        try:
            return await self._answer(image, work, refuse)
        except Exception as error:
            sentence = f"The call failed: {type(error).__name__}: {error}"
            self._node.get_logger().error(sentence)
            return refuse(Status.ERROR, sentence)

    async def _answer(
        self,
        sent: Image,
        work: Callable[[Answerer, ReceivedImage, Settings], T],
        refuse: Callable[[Status, str], T],
    ) -> T:
        settings = parameters.read(self._node)
        image: ReceivedImage | None = None
        if sent.height:
            image = ReceivedImage(sent, self._now())
        elif self._worker is not None:
            image = await self._fresh_image(settings)
        worker, answerer = self._worker, self._answerer
        if worker is None or answerer is None:
            return refuse(Status.ERROR, self._not_active())
        if image is None:
            sentence = f"No image has come on {self._topic} within {settings.service_timeout:g} s."
            return refuse(Status.STALE_IMAGE, sentence)

        future: Future[T] = Future()

        def job() -> None:
            try:
                if worker.running:
                    done = work(answerer, image, settings)
                else:
                    done = refuse(Status.ERROR, self._not_active())
            except Exception as error:
                done = refuse(Status.ERROR, f"The call failed: {error}")
            self._resolve(future, done)

        if not worker.submit(job):
            sentence = f"{MAX_JOBS} calls wait already; ask again when one is answered."
            return refuse(Status.ERROR, sentence)
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
