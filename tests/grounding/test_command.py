"""Commands as people say them, and what is left of them to look for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grex_ros.grounding.command import MAX_LENGTH, CommandError, parse_command

# (what is said, action, expression)
PHRASINGS = [
    # Actions
    ("pick up the red cup", "pick up", "the red cup"),
    ("grab the blue bowl", "grab", "the blue bowl"),
    ("take the apple", "take", "the apple"),
    ("get the leftmost can", "get", "the leftmost can"),
    ("fetch the can nearest to the camera", "fetch", "the can nearest to the camera"),
    ("find everything except the cups", "find", "everything except the cups"),
    ("show me the biggest box", "show", "the biggest box"),
    ("give me the spoon on the left", "give", "the spoon on the left"),
    ("hand me the small green bottle", "hand", "the small green bottle"),
    ("hand the small green bottle to me", "hand", "the small green bottle"),
    ("bring me the two yellow mugs", "bring", "the two yellow mugs"),
    ("bring the cup closest to me", "bring", "the cup closest to me"),
    ("pass me the banana and the apple", "pass", "the banana and the apple"),
    ("point at the apple", "point at", "the apple"),
    ("point to the apple behind the bowl", "point to", "the apple behind the bowl"),
    ("look at the second cup from the left", "look at", "the second cup from the left"),
    ("look for a spoon", "look for", "a spoon"),
    ("move the jar to the left", "move", "the jar"),
    ("lift the fork", "lift", "the fork"),
    ("push the red cup left", "push", "the red cup"),
    ("push the left cup", "push", "the left cup"),
    ("put away the books", "put away", "the books"),
    ("remove the knife from the table", "remove", "the knife"),
    ("select all bowls", "select", "all bowls"),
    ("detect oranges", "detect", "oranges"),
    ("segment the white plate", "segment", "the white plate"),
    ("locate the can on the left of the bowl", "locate", "the can on the left of the bowl"),
    ("touch the ball", "touch", "the ball"),
    ("hold the glass", "hold", "the glass"),
    ("clean up the spoons", "clean up", "the spoons"),
    ("get rid of the can", "get rid of", "the can"),
    ("squeeze the lemon", "squeeze", "the lemon"),
    ("pickup all red cups", "pick up", "all red cups"),
    ("go get the jar", "get", "the jar"),
    # Split particles
    ("pick the red cup up", "pick up", "the red cup"),
    ("put the books away", "put away", "the books"),
    ("put the cup down on the table", "put down", "the cup"),
    ("bring me the couch at the very back", "bring", "the couch at the very back"),
    ("give me the cup in the back", "give", "the cup in the back"),
    ("give the cup back", "give back", "the cup"),
    ("turn the cup that is upside down", "turn", "the cup that is upside down"),
    # Questions and wishes
    ("where is the lemon?", "find", "the lemon"),
    ("where are the two blue books?", "find", "the two blue books"),
    ("where's my teapot", "find", "my teapot"),
    ("could you tell me where the red cup is", "find", "the red cup"),
    ("is there a green apple on the table", "find", "a green apple on the table"),
    ("do you see any mugs?", "find", "any mugs"),
    ("how many red cups are there?", "count", "red cups"),
    ("can I have the orange", "give", "the orange"),
    ("i need the fork", "give", "the fork"),
    # Courtesies
    ("please pick up the red cup", "pick up", "the red cup"),
    ("could you please pick up the red cup for me", "pick up", "the red cup"),
    ("hey robot, pick up the red cup", "pick up", "the red cup"),
    ("Hey robot. Pick up the red cup. Thanks!", "pick up", "the red cup"),
    ("robot pick up the robot", "pick up", "the robot"),
    ("I want you to grab the blue bowl, please", "grab", "the blue bowl"),
    ("I'd like you to bring me the mug", "bring", "the mug"),
    ("would you mind passing me the jar?", "pass", "the jar"),
    ("pick up the box in front of the red cup now", "pick up", "the box in front of the red cup"),
    ("pick up all the cups that you can see", "pick up", "all the cups"),
    ("first, pick up the first cup", "pick up", "the first cup"),
    ("pick up the first", "pick up", "the first"),
    # Noise, quotes, capitals
    ("PICK UP THE RED CUP!", "pick up", "the red cup"),
    ('"pick up the red cup".', "pick up", "the red cup"),
    ("pick up the “red cup”", "pick up", "the red cup"),
    ("um, pick up the uh red cup", "pick up", "the red cup"),
    ("[BLANK_AUDIO] pick up the the red cup", "pick up", "the red cup"),
    ("  pick   up\u00a0the red cup ", "pick up", "the red cup"),
    ("pick up\nthe red\tcup\r\n", "pick up", "the red cup"),
    ("get the café au lait bowl", "get", "the café au lait bowl"),
    # A second action is dropped; a second object is not
    ("pick up the red cup and put it in the box", "pick up", "the red cup"),
    ("pick up the red cup, then give it to me", "pick up", "the red cup"),
    ("pick up the red cup. Then the blue one.", "pick up", "the red cup"),
    ("grab the red cup and blue bowl and move them left", "grab", "the red cup and blue bowl"),
    ("pick up the red cup and the blue bowl", "pick up", "the red cup and the blue bowl"),
    ("take the apple, the banana and the fig", "take", "the apple, the banana and the fig"),
    ("I'm thirsty. Bring me the glass.", "bring", "the glass"),
    # A destination is dropped; a place is not
    ("put the red cup in the box", "put", "the red cup"),
    ("put the cup on the left on the plate", "put", "the cup on the left"),
    ("place the can next to the bowl", "place", "the can"),
    ("move the jar to the right of the plate", "move", "the jar to the right of the plate"),
    ("put the cup nearest to the plate in the box", "put", "the cup nearest to the plate"),
    ("take the cup to the kitchen", "take", "the cup"),
    ("take the cup furthest to the right", "take", "the cup furthest to the right"),
    ("give me every ball to the right", "give", "every ball to the right"),
    ("push the object farthest left away", "push away", "the object farthest left"),
    ("pick up the cup in the bowl", "pick up", "the cup in the bowl"),
    ("pick up the mug on the table", "pick up", "the mug on the table"),
    # No action: as it is
    ("all red cups", "", "all red cups"),
    ("Red cup.", "", "red cup"),
    ("the green one please", "", "the green one"),
    ("the book on the left", "", "the book on the left"),
    ("the point guard on the left", "", "the point guard on the left"),
    ("point guard", "", "point guard"),
    ("open book", "", "open book"),
    ("hand on the left", "", "hand on the left"),
    ("can on the left", "", "can on the left"),
    ("place mat on the left", "", "place mat on the left"),
    ("first cup from the left", "", "first cup from the left"),
    ("both the cups", "", "both the cups"),
    ("everything but the bowl", "", "everything but the bowl"),
    ("wearing a hat", "", "wearing a hat"),
    ("2 red cups", "", "2 red cups"),
    ("the one that is neither red nor green", "", "the one that is neither red nor green"),
]


@pytest.mark.parametrize("text, action, expression", PHRASINGS)
def test_phrasings(text: str, action: str, expression: str) -> None:
    command = parse_command(text)
    assert command is not None
    assert (command.action, command.expression) == (action, expression)
    assert command.text == text


INVALID = [
    ("pick up", "no object"),
    ("stop", "no object"),
    ("could you pick up, please", "no object"),
    ("look left", "no object"),
    ("pick it up", "no object"),
    ("give me that", "no object"),
    ("hello robot", "no object"),
    ("[BLANK_AUDIO]", "no object"),
    ("!!!", "no object"),
    ("123", "no object"),
    ("pick up 123", "no object"),
    ("don't pick up the red cup", "forbids"),
    ("Please do not touch the knife", "forbids"),
    ("stop moving the red cup", "forbids"),
    ("pick up the\x07 cup", "control characters"),
    ("pick up the\x00", "control characters"),
    ("pick up the \u202ecup", "control characters"),
    ("拿起红杯子", "English"),
    ("возьми cup", "English"),
    ("pick up the cup " * 32, "512 characters"),
    ("x" * 10_000, "10000 characters"),
]


@pytest.mark.parametrize("text, reason", INVALID, ids=[text[:30] for text, _ in INVALID])
def test_invalid_commands_say_why(text: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason) as error:
        parse_command(text)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("text", ["", " ", "\n\t ", " " * 10_000])
def test_blank_clears(text: str) -> None:
    assert parse_command(text) is None


def test_the_longest_command_allowed() -> None:
    text = "the cup " + "x" * (MAX_LENGTH - 8)
    command = parse_command(text)
    assert command is not None and command.expression == text


NOUN_PHRASES = st.builds(
    lambda determiner, color, kind, place: " ".join(filter(None, (determiner, color, kind, place))),
    st.sampled_from(["the", "all", "both", "two", "every", "the second", "the biggest", "any"]),
    st.sampled_from(["", "red", "gray", "dark blue", "small green"]),
    st.sampled_from(["cup", "books", "tea pot", "light bulb", "hand", "can", "clock face"]),
    st.sampled_from(["", "on the left", "next to the bowl", "behind the two forks", "in front"]),
)


@given(NOUN_PHRASES, st.sampled_from(["pick up", "grab", "find", "point at", "take"]))
def test_an_expression_survives_whatever_is_said_around_it(expression: str, action: str) -> None:
    bare = parse_command(expression)
    assert bare is not None and (bare.action, bare.expression) == ("", expression)
    for text in (f"{action} {expression}", f"Hey robot, could you {action} {expression}, please?"):
        command = parse_command(text)
        assert command is not None and (command.action, command.expression) == (action, expression)


VOCABULARY = """pick up put the a red cup cups please and it them on to left in box where is can you
robot hand point me , . ! ? then don't 2 ' don’t [noise] um"""
SAID = st.lists(st.sampled_from(VOCABULARY.split())).map(" ".join)


@given(st.one_of(st.text(), st.text("abc xyz.,'\"-()[]*"), SAID))
def test_nothing_but_a_command_error_is_raised(text: str) -> None:
    try:
        command = parse_command(text)
    except CommandError:
        return
    if command is None:
        assert not text.strip()
        return
    # Nothing is made up: the words of the expression were said, in this order.
    said = iter("".join(c if c.isalnum() else " " for c in text.lower()).split())
    words = "".join(c if c.isalnum() else " " for c in command.expression).split()
    assert words and all(word in said for word in words)
