"""A command in English -> the action word and the referring expression that is looked for.

The model grounds expressions ("all red cups"), people say commands ("hey robot, could you pick up
all red cups for me, please?"). A handful of tables leads from one to the other: courtesies off both
ends, an action phrase off the front, a second action ("... and put it in the box") and a
destination off the back. What is in doubt stays in the expression. Words are lower-cased.

Known limits: only the first action of a command is kept; a language is told by its script alone, so
French passes as English and is grounded badly.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_LENGTH = 500  # characters; far beyond any spoken command


class CommandError(ValueError):
    """The command cannot be used; the message is a sentence for a person."""


@dataclass(frozen=True)
class Command:
    """What was said (``text``, unchanged), the ``action`` ("" if none) and the ``expression``."""

    text: str
    action: str
    expression: str


# Verbs and the particles that may follow them ("pick up") or close the command ("pick the cup up").
_VERBS: dict[str, tuple[str, ...]] = {
    "pick": ("up", "out"), "grab": (), "grasp": (), "take": ("away", "out", "down"),
    "get": ("rid of",), "give": ("back",), "bring": ("over", "back", "here"), "fetch": (),
    "retrieve": (), "collect": (), "find": (), "locate": (), "detect": (), "segment": (),
    "select": (), "identify": (), "choose": (), "highlight": (), "show": (), "remove": (),
    "move": ("away", "aside"), "lift": ("up",), "put": ("away", "down", "back", "aside"),
    "push": ("away", "aside", "over"), "pull": ("out",), "look": ("at", "for"),
    "search": ("for",), "point": ("at", "to", "out"), "hand": ("over",), "pass": ("over",),
    "hold": ("up", "on to"), "touch": (), "clean": ("up",), "clear": ("away", "up"),
    "throw": ("away", "out"), "set": ("aside", "down"), "place": (), "drop": ("off",),
    "turn": ("over", "on", "off"), "tidy": ("up",), "track": (), "follow": (), "count": (),
    "mark": (), "open": (), "close": (), "rotate": (), "check": (), "see": (), "grip": (),
    "reach": ("for",), "go": ("to",),
}  # fmt: skip
# These are nouns and adjectives too ("point guard", "open book", "hand on the left"), so they are
# verbs only with their particle or before a word that begins an object phrase.
_DOUBTFUL = {
    "lift", "push", "pull", "look", "search", "point", "hand", "pass", "hold", "touch", "clean",
    "clear", "set", "place", "drop", "turn", "track", "count", "mark", "open", "close", "check",
    "grip", "reach", "go", "tidy", "select", "see",
}  # fmt: skip
# Question and wish forms, and the action that they ask for.
_QUESTIONS = (
    (r"where(?:'s| is| are)", "find"),
    (r"(?:what|who)(?:'s| is| are)", "find"),
    (r"(?:is|are) there", "find"),
    (r"do you (?:see|have)", "find"),
    (r"how many", "count"),
    (r"(?:can|could|may) i (?:please )?(?:have|get)", "give"),
    (r"i(?: want| need| would like|'d like)(?: to have)?", "give"),
)
# Where the object is to go is no part of what it is. After these actions the words behind the
# group go; the last such words count, so "put the cup on the left on the plate" keeps "on the
# left".
_DIRECTION = r"(?:left|right|up|down|forwards?|backwards?|back|aside|away|closer|here|there)"
_NOT_NEAR = r"(?<!close)(?<!closest)(?<!near)(?<!nearest)(?<!next)(?<!farthest)(?<!furthest)"
_NOT_THE = r"(?<! the)(?<! far)(?<! very)(?<! way)(?<!farthest)(?<!furthest)(?<!upside)(?<!face)"
_TO = rf"(.+?){_NOT_NEAR},? (?:back |over |closer )?(?:into|onto|towards?|to)"
_DESTINATIONS = tuple(
    (frozenset(actions.split()), re.compile(ending))
    for actions, ending in (
        (
            "put place drop set throw",
            rf"(.*\S){_NOT_NEAR},? (?:back )?(?:in|into|inside|in front of|on|onto|on top of|to|"
            r"next to|beside|under|over|at) (?:the|a|an|my|your|that|this|its) .+",
        ),
        ("move push pull bring take pass hand give show throw", rf"{_TO} (?:me|us|him|her|them)"),
        ("move push pull", rf"{_TO} the (?!left of|right of|side).+"),
        ("bring take throw", rf"{_TO} the (?!left|right|side).+"),
        ("put move push pull turn bring take", rf"(.+?){_NOT_THE} {_DIRECTION}"),
    )
)

_OBJECT_START = (
    r"(?:the|a|an|all|any|both|each|every|everything|anything|some|only|my|your|his|her|our|this|"
    r"that|these|those|it|them|me|us|one|two|three|four|five|\d+|red|orange|yellow|green|blue|"
    r"purple|pink|white|black|gr[ae]y|brown|big|biggest|small|smallest|large|largest|little|left|"
    r"leftmost|right|rightmost|other|objects?)\b"
)
_NO_OBJECT = (
    r"(?:(?:it|them|me|us|you|i|the|a|an|my|your)|(?:this|that|these|those)(?: ones?)?|ones?)"
)


def _gerund(verb: str) -> str:
    doubled = verb[-1] if verb in {"grab", "get", "put", "set", "drop", "grip"} else ""
    return (verb[:-1] if verb.endswith("e") else verb + doubled) + "ing"


def _verb_pattern() -> str:
    """One alternative a verb, with its particle where it has one."""
    choices = []
    for verb, particles in _VERBS.items():
        particle = f"(?: (?:{'|'.join(particles)})\\b)" if particles else "(?!)"
        after = f"(?:{particle}|(?=,?:? {_OBJECT_START}))" if verb in _DOUBTFUL else f"{particle}?"
        choices.append(rf"(?:{verb}|{_gerund(verb)})\b(?: (?:me|us)\b)?{after}")
    return "|".join(choices)


_VERB = _verb_pattern()
_ACTION = re.compile(rf"({_VERB})(?: (?:me|us|for me|for us))?(?:[:,]? |$)")
_BARE_VERB = re.compile("|".join(_VERBS))
_QUESTION = tuple((re.compile(rf"{spoken}(?: |$)"), action) for spoken, action in _QUESTIONS)
# Verbs that no table knows: no expression begins "<word> the ...", but for these words.
_UNKNOWN_VERB = re.compile(
    r"(?!\w*ing\b|(?:all|both|only|half|not|no|near|by|in|on|at|of|to|with|from|under|over|above|"
    r"below|behind|beside|between|beneath|inside|outside|around|against|past|across|off|left|"
    r"right|like|just|and|or|but|except|what|which|who|is|are|has|nearest|closest|either|neither|"
    r"opposite|such|quite|many|everything|anything|the|a|an)\b)"
    r"([a-z]{2,}) (?:me )?(?=(?:the|a|an) )"
)
_WHERE_IT_IS = re.compile(r"(?:(?:tell|show) me )?where (.+) (?:is|are)$")
_SECOND_ACTION = re.compile(
    r"(?:,? (?:and|then|and then|before|after)|,|,? please)(?: please)? "
    rf"(?:(?:{_VERB}) |[a-z]+ (?:it|them)\b).*$"
)
_FORBIDS = re.compile(
    r"(?:you )?(?:do not|don't|dont|never|must not|mustn't|should not|shouldn't|"
    r"stop(?= \w+ing\b))\b"
)
_CONTROL_WORDS = re.compile(
    r"(?:stop|halt|wait|pause|cancel|abort|continue|resume|start|go|help|yes|no|ok|okay|"
    r"never ?mind|come(?: here)?|hello|hi|hey|robot|thanks|thank you|please|again|quit|exit|"
    r"reset)(?: (?:stop|now|robot|it|that))*"
)

# "first", "robot" and the like are courtesies only before a comma or a verb, not in "first cup".
_COURTESY_BEFORE = re.compile(
    r"(?:please|kindly|hey|hi|hello|okay|ok|alright|well|so|oh|excuse me|if|"
    r"(?:could|can|would|will) you(?: mind| be able to| be so kind as to)?|"
    r"i would appreciate it if you could|"
    r"i(?: want| need| would like|'d like)(?: you)? to(?! have)|you (?:should|must|need to|"
    r"have to|can)|your (?:task|job) is to|do me a favou?r and|help me(?: to)?|let's|let us|"
    r"try (?:to|and)|go(?: ahead)? and|go(?= (?:get|find|grab|fetch|pick|bring))|"
    r"tell me(?= where| how| if)|"
    r"(?:robot|grex|now|then|next|first|just|quickly|carefully|gently|slowly|also|and)"
    rf"(?:(?=,)|(?= (?:{_VERB}|please))))(?:[,.:!]* |$)"
)
_COURTESY_AFTER = re.compile(
    r"(?:, robot|(?:^|,? )(?:please|thanks|thank you(?: very much| so much)?|for (?:me|us)|"
    r"now|right now|right away|immediately|as soon as possible|if you (?:can|could|may|would|"
    r"please|don't mind)|(?:will|would|could|can) you|okay|ok|(?:that )?(?:do |"
    r"can )?you (?:can )?see|(?:is|are) there))$"
)
_MANNER_AFTER = re.compile(
    r"(?<!\bthe),? (?:quickly|slowly|carefully|gently|again|first|next|"
    r"with your (?:\w+ )?(?:hand|arm|gripper)|"
    r"(?:from|off|off of) (?:the|my|your|this) (?:table|tabletop|desk|counter|floor|ground)|"
    r"(?:because|so that|so (?=i|you|we)) .+)$"
)
_NOISE = re.compile(
    r"\[[^\]]*\]|\*[^*]*\*|\([^)]*(?:music|noise|audio|silence|laugh|cough|applause)[^)]*\)|"
    r"\b(?:u+m+|u+h+|uhm|erm?|hm+|mhm)\b,?",
)
_QUOTES = str.maketrans(
    dict.fromkeys("‘’`", "'")
    | dict.fromkeys('“”„«»"', " ")
    | dict.fromkeys("–—", ", ")
    | {"…": ". "}
)
_EDGES = " .,;:!?-'"


def parse_command(text: str) -> Command | None:
    """Take a command apart; None for blank text (which clears the command).

    CommandError where there is nothing to look for: no object named, an action forbidden, another
    script than Latin, control characters, more than 500 characters.
    """
    if not text.strip():
        return None
    if len(text) > MAX_LENGTH:
        raise CommandError(
            f"The command has {len(text)} characters; at most {MAX_LENGTH} are accepted."
        )
    if any(_is_control(character) for character in text):
        raise CommandError("The command contains control characters.")
    if any(_is_foreign(character) for character in text):
        raise CommandError("Only English commands are understood.")

    words = " ".join(_NOISE.sub(" ", text.lower().translate(_QUOTES)).split())
    words = re.sub(rf"\bpick-?up (?={_OBJECT_START})", "pick up ", words)
    words = re.sub(r"\b(the|a|an|to|of|and)(?: \1\b)+", r"\1", words)
    words = re.sub(r" +([,.;:!?])", r"\1", words)
    sentences = [_strip_courtesy(part.strip(_EDGES)) for part in re.split(r"(?<=[.!?;]) ", words)]
    sentences = [sentence for sentence in sentences if not _CONTROL_WORDS.fullmatch(sentence)]
    best = ("", "")
    for sentence in filter(None, sentences):
        if _FORBIDS.match(sentence):
            raise CommandError("The command forbids an action; say what to do instead.")
        action, expression = _split(sentence)
        if action and expression:
            return Command(text, action, expression)
        if expression and not best[1]:
            best = (action, expression)
    if not best[1]:
        raise CommandError("The command names no object to look for.")
    return Command(text, *best)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in "\t\r\n"


def _is_foreign(character: str) -> bool:
    return character.isalpha() and "LATIN" not in unicodedata.name(character, "")


def _strip_courtesy(sentence: str) -> str:
    while match := _COURTESY_BEFORE.match(sentence):
        sentence = sentence[match.end() :].strip(_EDGES)
    while match := _COURTESY_AFTER.search(sentence):
        sentence = sentence[: match.start()].strip(_EDGES)
    return sentence


def _split(sentence: str) -> tuple[str, str]:
    """The action and the expression of one sentence; either may be empty."""
    action, expression = _strip_action(sentence)
    expression = _strip_courtesy(_SECOND_ACTION.sub("", expression).strip(_EDGES))
    if action:
        expression = _MANNER_AFTER.sub("", expression)
        action, expression = _strip_destination(*_join_particle(action, expression))
    expression = expression.strip(_EDGES)
    if action and re.fullmatch(_DIRECTION, expression):
        expression = ""
    if re.fullmatch(_NO_OBJECT, expression) or not re.search(r"[a-z]", expression):
        expression = ""
    return action, expression


def _strip_action(sentence: str) -> tuple[str, str]:
    if match := _WHERE_IT_IS.match(sentence):
        return "find", match[1]
    for question, action in _QUESTION:
        if match := question.match(sentence):
            return action, sentence[match.end() :]
    if match := _ACTION.match(sentence):
        spoken = re.sub(r" (?:me|us)\b", "", match[1])
        first, _, particle = spoken.partition(" ")
        verb = next(verb for verb in _VERBS if first in {verb, _gerund(verb)})
        return f"{verb} {particle}".strip(), sentence[match.end() :]
    if match := _UNKNOWN_VERB.match(sentence):
        return match[1], sentence[match.end() :]
    return ("", "") if _BARE_VERB.fullmatch(sentence) else ("", sentence)


def _strip_destination(action: str, expression: str) -> tuple[str, str]:
    """``put``, ``the cup down on the table`` -> ``put down``, ``the cup``."""
    for actions, ending in _DESTINATIONS:
        if action.partition(" ")[0] in actions and (match := ending.fullmatch(expression)):
            action, expression = _join_particle(action, match[1])
    return action, expression


def _join_particle(action: str, expression: str) -> tuple[str, str]:
    """``pick``, ``the red cup up`` -> ``pick up``, ``the red cup``; "upside down" stays whole."""
    for particle in _VERBS.get(action, ()):
        if re.search(rf"{_NOT_THE} {particle}$", expression):
            return f"{action} {particle}", expression.removesuffix(f" {particle}")
    return action, expression
