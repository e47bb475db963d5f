"""The real node, and a peer that shows it images and says commands; each has its own executor."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from grex_ros.msg import Grounding as GroundingMessage
from grex_ros.srv import Ground
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from grex_ros.ros.conversions import to_image
from grex_ros.ros.node import GrexNode, GrounderFactory
from tests.ros.color_grounder import color_grounder

TIMEOUT = 15.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_numbers = itertools.count()


class Inbox:
    """Messages of one topic in the order in which they came."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[Any] = []
        self._read = 0

    def put(self, message: Any) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def next(self, timeout: float = TIMEOUT) -> Any:
        """The next unread message; fails the test if none comes."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self._messages) > self._read, timeout)
            if not came:
                faulthandler.dump_traceback()  # who waits for whom
            assert came, f"no message within {timeout} s"
            self._read += 1
            return self._messages[self._read - 1]

    def until(self, wanted: Callable[[Any], bool], timeout: float = TIMEOUT) -> Any:
        """The next unread message that is wanted; those before it are passed over."""
        end = time.monotonic() + timeout
        while True:
            message = self.next(max(0.0, end - time.monotonic()))
            if wanted(message):
                return message

    def latest(self) -> Any:
        """The newest message, read or not."""
        with self._changed:
            return self._messages[-1]

    def unread(self) -> int:
        with self._changed:
            return len(self._messages) - self._read

    def silent(self, seconds: float) -> bool:
        """Whether nothing unread is there and nothing comes for some seconds."""
        with self._changed:
            return not self._changed.wait_for(lambda: len(self._messages) > self._read, seconds)


def wait_until(condition: Callable[[], bool], what: str, timeout: float = TIMEOUT) -> None:
    """Poll; fails the test if the condition does not come true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {timeout} s"
        time.sleep(0.01)


@contextlib.contextmanager
def stderr_in(folder: Path) -> Iterator[Callable[[], str]]:
    """Reads what has been written to stderr, while others go on writing. (``capfd`` reads its file
    and then empties it: what is written in between is lost.)"""
    path = folder / "stderr.txt"
    before = os.dup(2)
    try:
        with path.open("w", buffering=1) as file, contextlib.redirect_stderr(file):
            os.dup2(file.fileno(), 2)
            yield path.read_text
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.write(2, path.read_bytes())  # for the report of a failed test


class Peer:
    """Camera, person and planner in one node."""

    def __init__(self, context: Context, namespace: str) -> None:
        self.namespace = namespace
        self.node = Node("peer", context=context, namespace=namespace, enable_rosout=False)
        self.spinning = Spinning(self.node, context)
        reliable = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        self._images = self.node.create_publisher(Image, "image", reliable)
        self._compressed = self.node.create_publisher(CompressedImage, "image/compressed", reliable)
        self._commands = self.node.create_publisher(String, "command", reliable)
        self.client = self.node.create_client(
            Ground, "grex/ground", qos_profile=QoSProfile(depth=100)
        )
        self.answers = self.listen(GroundingMessage, "grex/grounding")
        self._frames = itertools.count(1)

    def listen(self, kind: type, topic: str, qos: QoSProfile | None = None) -> Inbox:
        """Subscribe to a topic; await `heard` before relying on the first message."""
        inbox = Inbox()
        self.node.create_subscription(kind, topic, inbox.put, qos or QoSProfile(depth=100))
        return inbox

    def header(self) -> Header:
        """Now, with a frame name that no other header of this peer has."""
        stamp = self.node.get_clock().now().to_msg()
        return Header(stamp=stamp, frame_id=f"camera_{next(self._frames)}")

    def show(self, picture: npt.NDArray[np.uint8], header: Header | None = None) -> Header:
        """Publish an image; returns the header it went out with."""
        return self.send(to_image(picture, header or self.header()))

    def send(self, image: Image | CompressedImage) -> Header:
        """Publish an image message as it is."""
        compressed = isinstance(image, CompressedImage)
        (self._compressed if compressed else self._images).publish(image)
        return image.header

    def say(self, text: str) -> None:
        self._commands.publish(String(data=text))

    def ask(self, text: str, image: Image | None = None) -> Any:
        """Call ~/ground; returns a future."""
        return self.client.call_async(Ground.Request(command=text, image=image or Image()))

    def await_images_heard(self, compressed: bool = False) -> None:
        publisher = self._compressed if compressed else self._images
        wait_until(lambda: publisher.get_subscription_count() > 0, "a subscription to the images")

    def await_commands_heard(self) -> None:
        heard = self._commands.get_subscription_count
        wait_until(lambda: heard() > 0, "a subscription to the commands")


def result(future: Any, timeout: float = TIMEOUT) -> Any:
    """The result of a call, in a thread that does not spin."""
    wait_until(future.done, "the answer of a call", timeout)
    return future.result()


class Spinning:
    """A node's executor in a thread."""

    def __init__(self, node: Any, context: Context) -> None:
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._node = node
        self._stopping = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        # Not spin() and shutdown(): rclpy may destroy what should wake the thread before it does.
        with contextlib.suppress(ExternalShutdownException):
            while not self._stopping:
                self._executor.spin_once(5.0)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stopping = True
        self._executor.create_task(lambda: None)  # makes spin_once return
        self._thread.join(20.0)
        assert not self._thread.is_alive(), "the executor hangs"
        self._executor.shutdown()
        self._node.destroy_node()


class Graph:
    """A GrexNode in a namespace of its own, and a Peer beside it."""

    def __init__(
        self,
        context: Context,
        factory: GrounderFactory = color_grounder,
        await_active: bool = True,
        remap: tuple[str, ...] = (),
        **parameters: Any,
    ) -> None:
        self.namespace = f"/graph_{next(_numbers)}"
        parameters = {"max_image_age": 10.0, **parameters}  # machines that run tests are busy
        rules = [argument for rule in remap for argument in ("-r", rule)]
        self.node = GrexNode(
            grounder_factory=factory,
            context=context,
            namespace=self.namespace,
            parameter_overrides=[Parameter(key, value=value) for key, value in parameters.items()],
            cli_args=["--ros-args", *rules] if rules else None,
        )
        self.spinning = Spinning(self.node, context)
        self.peer = Peer(context, self.namespace)
        if await_active:
            self.await_active()

    @property
    def answers(self) -> Inbox:
        return self.peer.answers

    def await_active(self) -> None:
        """Active, and both sides know each other."""
        wait_until(lambda: self.node.state == "active", "activation")
        compressed = self.node.get_parameter("image_transport").value == "compressed"
        self.peer.await_images_heard(compressed)
        self.peer.await_commands_heard()
        self.await_heard("grounding")
        wait_until(self.peer.client.service_is_ready, "the service")

    def await_heard(self, topic: str) -> None:
        """The node's publisher of ~/topic has a subscription."""
        name = f"{self.namespace}/grex/{topic}"

        def heard() -> bool:
            found = [item for item in self.node.publishers if item.topic_name == name]
            return bool(found) and found[0].get_subscription_count() > 0

        wait_until(heard, f"a subscription to {name}")

    def say(self, text: str) -> None:
        """Put a command in force and wait until it is."""
        before = self.command_id()
        self.peer.say(text)
        wait_until(lambda: self.command_id() != before, "the command's arrival")

    def command_id(self) -> str:
        command = self.node._commands.current
        return command.id if command else ""

    def change(self, transition: str) -> Any:
        """Trigger a transition in the executor's thread, where a lifecycle manager's calls run."""
        trigger = getattr(self.node, f"trigger_{transition}")
        return result(self.node.executor.create_task(trigger), 90.0)  # the first loads torch

    def set(self, **parameters: Any) -> list[Any]:
        """Set parameters; returns rclpy's results."""
        return self.node.set_parameters([Parameter(key, value=v) for key, v in parameters.items()])

    def close(self) -> None:
        self.peer.spinning.stop()
        self.spinning.stop()
