"""The node `grex`: topics, parameters and lifecycle wired to a worker. What is understood lives in
`grounding`.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos_overriding_options import InvalidQosOverridesError
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from grex_ros.ros import parameters, qos
from grex_ros.ros.answering import Answerer, GrounderLike, ReceivedImage, free_memory, is_fresh
from grex_ros.ros.commands import CommandInForce
from grex_ros.ros.conversions import ImageMessage
from grex_ros.ros.describe_service import DescribeService
from grex_ros.ros.diagnostics import Diagnostics, diagnostic_array
from grex_ros.ros.ground_service import GroundService
from grex_ros.ros.image_calls import ImageCalls
from grex_ros.ros.parameters import Settings
from grex_ros.ros.publishers import AnswerPublishers
from grex_ros.ros.worker import Worker

STOP_TIMEOUT = 10.0
"""Seconds that a deactivation waits for the frame in work."""
WARM_UP_SHAPE = (480, 640, 3)

GrounderFactory = Callable[[Settings], GrounderLike]


def load_grounder(settings: Settings) -> GrounderLike:
    """The model that the parameters name. Raises what `Grounder.from_checkpoint` raises."""
    import torch  # heavy, and not needed before a model is

    from grex_ros.grounding.grounder import Grounder

    if settings.threads:
        torch.set_num_threads(settings.threads)
    grounder = Grounder.from_checkpoint(
        settings.checkpoint or None,
        device=settings.device,
        precision=settings.precision,
        engine=settings.engine,
        image_size=settings.image_size,
    )
    grounder.warm_up()
    return grounder


class GrexNode(LifecycleNode):
    """Images and commands in, answers out. See README.md for its topics and parameters.

    Unconfigured: holds no model; takes commands, answers the service with what is missing.
    Inactive: model loaded and warm. Active: every frame is answered (`mode` latched) or every
    command once (`mode` once).

    Args:
        grounder_factory: makes the model at every configure.
        options: keyword arguments of rclpy's Node (namespace, parameter_overrides, ...).
    """

    def __init__(
        self, *, grounder_factory: GrounderFactory = load_grounder, **options: Any
    ) -> None:
        super().__init__("grex", **options)
        self._load_grounder = grounder_factory
        self._commands = CommandInForce()
        self._diagnostics = Diagnostics(
            "grex: grounding", hardware_id=self.get_fully_qualified_name()
        )
        self._answerer: Answerer | None = None
        self._answer_publishers: AnswerPublishers | None = None
        self._model_name = ""
        self._images: Subscription[Any] | None = None
        self._worker: Worker[ReceivedImage] | None = None
        self._newest: ReceivedImage | None = None
        self._calls = ImageCalls(self, lambda: self._newest)
        self._ground_service = GroundService(
            self._calls, self._commands, self._diagnostics.answered
        )
        self._describe_service = DescribeService(self._calls)
        parameters.declare(self, lambda: self.state == "unconfigured")

        topic = self.resolve_topic_name("command")
        self._command_subscription = self.create_subscription(
            String,
            "command",
            self._on_command,
            qos.commands(),
            event_callbacks=qos.subscription_events(topic, self._warn),
            qos_overriding_options=qos.overrides(),
        )
        self._current_command = self.create_publisher(String, "~/current_command", qos.latched())
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Goes on where simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics_timer = self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        if parameters.read(self).autostart:
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady)

    @property
    def state(self) -> str:
        """The lifecycle state: unconfigured, inactive, active, finalized or a transition's name."""
        return str(self._state_machine.current_state[1])

    # Lifecycle. rclpy swallows what these raise, so _transition catches and logs it.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and try it once. Fails, with the reason in the log, and stays
        unconfigured.
        """
        return self._transition("configure", self._configure, self._release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to take images."""
        return self._transition("activate", lambda: self._activate(state), self._stop)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop taking images; the model and the command in force stay."""
        return self._transition("deactivate", lambda: self._deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and forget the command."""
        return self._transition("clean up", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        return self._transition("shut down", self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node is unconfigured afterwards."""
        return self._transition("recover", self._release)

    def destroy_node(self) -> None:
        """Stop the worker and take the node away."""
        self._stop()
        super().destroy_node()

    def _transition(
        self, name: str, step: Callable[[], None], undo: Callable[[], None] = lambda: None
    ) -> TransitionCallbackReturn:
        try:
            step()
        except Exception as error:
            sentence = f"Could not {name}: {error or type(error).__name__}"
            if self.context.ok():  # else it only stumbled over the end of the process
                self.get_logger().error(sentence)
            self._diagnostics.failed(sentence)
            undo()
            # To fail is to stay in the state before; a half-done way down goes through on_error
            # instead.
            down = name not in ("configure", "activate")
            return TransitionCallbackReturn.ERROR if down else TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        elif self.context.ok():
            name = self.get_fully_qualified_name()
            self.get_logger().error(
                "The node waits unconfigured. When the cause is gone: ros2 lifecycle set"
                f" {name} configure, then activate."
            )

    def _configure(self) -> None:
        settings = parameters.read(self)
        begin = time.monotonic()
        grounder = self._load_grounder(settings)
        # What fails at the first image fails here.
        grounder.set_image(np.zeros(WARM_UP_SHAPE, np.uint8))
        grounder.ground(["the object"])
        self._model_name = grounder.name
        self._answerer = Answerer(grounder, self._now, self._model_failed)
        self._answer_publishers = AnswerPublishers(self, self._warn)
        self._diagnostics.recovered()
        engine = ": ".join(filter(None, (grounder.engine_name, grounder.engine_note)))
        seconds = time.monotonic() - begin
        self.get_logger().info(
            f"Model {grounder.name} is ready after {seconds:.1f} s, engine {engine}."
        )

    def _activate(self, state: LifecycleState) -> None:
        if self._answerer is None:
            raise RuntimeError("there is no model")
        super().on_activate(state)
        self._worker = Worker(self._answer, self._worker_failed, self._min_period)
        self._worker.start()
        compressed = parameters.read(self).image_transport == "compressed"
        # Resolved first, so that remapping `image` is enough for both.
        topic = self.resolve_topic_name("image") + ("/compressed" if compressed else "")
        self._images = self.create_subscription(
            CompressedImage if compressed else Image,
            topic,
            self._on_image,
            qos.images(),
            event_callbacks=qos.subscription_events(topic, self._warn),
            qos_overriding_options=qos.overrides(),
        )
        self._calls.open(self._worker, self._answerer, topic)
        self._diagnostics.recovered()
        self.get_logger().info(
            f"Active: images from {topic}, commands from {self.resolve_topic_name('command')}."
        )

    def _deactivate(self, state: LifecycleState) -> None:
        self._stop()
        super().on_deactivate(state)

    def _stop(self) -> None:
        """Take no more images; finish the frame in work."""
        self._calls.close()
        if self._images is not None:
            self.destroy_subscription(self._images)
        worker, self._images, self._worker, self._newest = self._worker, None, None, None
        if worker is not None and not worker.stop(STOP_TIMEOUT):
            self.get_logger().error(
                f"The frame in work did not end within {STOP_TIMEOUT:.0f} s; it is left behind."
            )

    def _release(self) -> None:
        self._stop()
        if self._answer_publishers is not None:
            self._answer_publishers.destroy()
        self._answer_publishers, self._answerer, self._model_name = None, None, ""
        if self._commands.current is not None:
            self._commands.clear()
            self._current_command.publish(String())
        free_memory()

    # The executor's side: store and go.

    def _on_image(self, message: ImageMessage) -> None:
        image = ReceivedImage(message, self._now())
        self._newest = image
        self._diagnostics.image_came()
        self._calls.image_came(image)
        if self._worker is not None and (
            self._commands.open or parameters.read(self).mode == "latched"
        ):
            self._worker.offer(image)

    def _on_command(self, message: String) -> None:
        command = self._commands.receive(message.data)
        self._current_command.publish(
            String(data=message.data if command.meaning or command.error else "")
        )
        shown = repr(message.data[:80])
        if command.error:
            self.get_logger().warning(f"Command {command.id} {shown} is refused: {command.error}")
        else:
            self.get_logger().info(f"Command {command.id}: {shown}")
        # In latched mode the next frame brings the answer; in once mode a fresh frame need not be
        # waited for.
        settings = parameters.read(self)
        if settings.mode == "once" and self._worker is not None and self._newest is not None:
            if is_fresh(self._newest, self._now(), settings.max_image_age):
                self._worker.offer(self._newest)

    def _publish_diagnostics(self) -> None:
        worker, command = self._worker, self._commands.current
        status = self._diagnostics.status(
            self.state,
            dropped=worker.dropped if worker else 0,
            command=command.text[:200] if command else "",
            model=self._model_name,
            note=self._answerer.clock_note if self._answerer else "",
        )
        self._diagnostics_publisher.publish(
            diagnostic_array(status, self.get_clock().now().to_msg())
        )

    # The worker's side.

    def _answer(self, image: ReceivedImage) -> None:
        settings, command = parameters.read(self), self._commands.current
        answerer, publishers = self._answerer, self._answer_publishers
        if (
            answerer is None
            or publishers is None
            or (settings.mode == "once" and not self._commands.open)
        ):
            return
        answer = answerer.answer(image, command, settings)
        self._commands.answered(answer)
        self._diagnostics.answered(answer)
        publishers.publish(answer, image, settings.target_threshold)
        self._diagnostics.recovered()
        if answerer.clock_note:
            self.get_logger().warning(answerer.clock_note, throttle_duration_sec=60.0)

    def _min_period(self) -> float:
        rate = parameters.read(self).max_rate
        return 1.0 / rate if rate else 0.0

    def _model_failed(self, sentence: str) -> None:
        self.get_logger().error(sentence, throttle_duration_sec=5.0)

    def _worker_failed(self, error: Exception) -> None:
        if self.context.ok():  # at shutdown publishers vanish under the worker
            sentence = f"An answer could not be published: {type(error).__name__}: {error}"
            self.get_logger().error(sentence, throttle_duration_sec=5.0)
            self._diagnostics.failed(sentence)

    def _warn(self, sentence: str) -> None:
        self.get_logger().warning(sentence)

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def spin(node: LifecycleNode) -> None:
    """Serve a node until its context is shut down; what a callback raises is logged, no more."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    while node.context.ok():
        try:
            executor.spin()
        except ExternalShutdownException:
            return
        except Exception as error:
            if node.context.ok():
                node.get_logger().error(f"A callback failed: {type(error).__name__}: {error}")


def main(args: list[str] | None = None) -> None:
    """Run the node until it is interrupted. Exits with 1 and one line if a parameter given at start
    is refused.
    """
    rclpy.init(args=args)
    node: GrexNode | None = None
    try:
        node = GrexNode()
        spin(node)
    except KeyboardInterrupt:
        pass
    except (ParameterException, InvalidQosOverridesError, RuntimeError) as error:
        if rclpy.ok():  # else the interrupt came before the node was made
            rclpy.logging.get_logger("grex").fatal(f"Cannot start: {error}")
            sys.exit(1)
    finally:
        # The terminal and `ros2 launch` send one each; the second must not break the way down.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
