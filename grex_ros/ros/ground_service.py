"""The service ~/ground: one command about one image, answered once, beside the command in force."""

from __future__ import annotations

from collections.abc import Callable

from std_msgs.msg import Header

from grex_ros.grounding.objects import Grounding, Status
from grex_ros.msg import Grounding as GroundingMessage
from grex_ros.ros.answering import Answerer, ReceivedImage
from grex_ros.ros.commands import CommandInForce
from grex_ros.ros.image_calls import ImageCalls
from grex_ros.ros.messages import Answer, ReceivedCommand, grounding_message
from grex_ros.ros.parameters import Settings
from grex_ros.srv import Ground


class GroundService:
    """Serves ~/ground.

    Args:
        calls: finds images and answers.
        commands: gives the calls' commands their ids.
        answered: is told of every answer of the model, in the worker's thread.
    """

    def __init__(
        self, calls: ImageCalls, commands: CommandInForce, answered: Callable[[Answer], None]
    ) -> None:
        self._calls = calls
        self._commands = commands
        self._answered = answered
        calls.serve(Ground, "~/ground", self._on_ground)

    async def _on_ground(
        self, request: Ground.Request, response: Ground.Response
    ) -> Ground.Response:
        command = self._commands.read(request.command)

        def work(answerer: Answerer, image: ReceivedImage, settings: Settings) -> GroundingMessage:
            answer = answerer.answer(image, command, settings)
            message = grounding_message(answer)
            self._answered(answer)
            return message

        def refuse(status: Status, sentence: str) -> GroundingMessage:
            return _without_image(command, request.image.header, status, sentence)

        response.grounding = await self._calls.answer(request.image, work, refuse)
        return response


def _without_image(
    command: ReceivedCommand, header: Header, status: Status, sentence: str
) -> GroundingMessage:
    expression = command.meaning.expression if command.meaning else ""
    grounding = Grounding(expression, status, sentence, 0.0, (), (0, 0), 0.0)
    return grounding_message(Answer(header, command, grounding, 0.0, 0.0, ""))
