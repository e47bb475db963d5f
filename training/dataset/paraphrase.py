"""Expressions in rarer words: what a model has heard said in one way only, it hardly knows.

The wording of generated scenes (``grex_ros.scenes.wording``) and what people wrote about
photographs is a small part of what can be said. Here single words and phrases of a text are
exchanged for others of the same meaning, whatever dataset it comes from. The phrases that measure
how a model takes to new words (:mod:`.unseen_phrases`) are not among them.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from grex_ros.scenes.vocabulary import NOUNS, plural, with_article

EXCHANGED = 0.5  # of the words and phrases that have another

# What stands before the colon is said as one of what stands behind it. Of what begins alike, the
# longest is taken; with nothing behind the colon, it stays.
_LEFT = """
leftmost, left-most, furthest left, far left: extreme left, most left, most leftward
on the left: over on the left-hand part, at left, sitting on the left, found at the left
on the left side, on the left-hand side: within the left area, placed on the left, over at the left
in the left half, to the left, at the left: in the left zone, somewhere on the left, left of center
left of, to the left of, on the left of, on the left side of: leftward of, more to the left than,
    further left than, on the left-hand side of
from the left: from the left end, from the left-hand side
on the far left, on the very left, furthest to the left, farthest to the left, farthest left:
    at the extreme left, as far left as it gets
on the left side of the table:
"""
_UP = """
at the top, in the upper half, in the top half: up top, in the upper area, up in the picture
topmost, highest, uppermost: upmost, top-level
above, over, higher than: up from, further up than
at the very top: all the way up
closest to the top of the picture:
"""
_OPPOSITE = {
    "top": "bottom", "upper": "lower", "topmost": "bottommost", "highest": "lowest",
    "uppermost": "lowermost", "upmost": "undermost", "above": "below", "over": "under",
    "higher": "lower", "up": "down", "top-level": "bottom-level",
}  # fmt: skip
_WORDS = """
can you, find me, give me a mask of:
can of, cans of, piece of, pieces of, bottle of, jar of, box of, loaf of, pan of:
front: near, frontal
closest to the camera, nearest to the camera, nearest the camera, closest to me, nearest to us:
    in the foreground, at the near end, close up, closest to the lens, nearest the lens
farthest, furthest, most distant: most remote, most faraway
furthest away, farthest away, furthest back, at the very back, farthest from the camera:
    in the background, at the far end, most remote from here, deepest in the picture
middle, center, central: midmost, mid
in the middle, in the center: at the midpoint, just in the middle, halfway across, at the centre
in front of, just in front of: before, ahead of, at the front of
behind, at the back of, in back of: beyond, past, in the back of, hidden behind
next to, beside, near, close to, by: by the side of, nearby, in the vicinity of, not far from,
    close by, side by side with, near to, hard by
closest to, nearest to: at the smallest distance from, most close to, the nearest one to
largest, biggest: greatest, most massive, hugest, most enormous
smallest, tiniest, littlest: most tiny, minutest, most little
larger, bigger: greater, more massive
smaller: lesser, tinier
large, big, huge: massive, enormous, great big, hefty, jumbo
small, little, tiny: wee, compact, teeny, undersized, diminutive
medium-sized, medium, mid-sized: middle-sized, average-sized, moderately big
except, except for, other than, apart from, aside from, with the exception of, but not:
    omitting, leaving out, skipping, ignoring, outside of, not including
as well as, plus: and also, and likewise, in addition to, accompanied by
all of the, every one of the: each and every one of the, every last one of the, any and all of the
all the: the entire set of, the full set of
every, each: each and every, every last
everything, anything: every last thing, each object, every entity
both of the, both the: the couple of, the pair of
object, thing, item: entity, element
objects, things, items: entities, elements
that is not, which is not: that isn't, which isn't, not being
that are not, which are not: that aren't, which aren't, not being
that is, which is: that's, being
that are, which are: being
first, 1st: number one
second, 2nd: number two
third, 3rd: number three
on the table: on the tabletop, on this desk, on the counter
in the picture, in the image, in view: in the photo, in this shot, in the frame, on screen
red: ruby, reddish, cherry red, bright red
blue: bluish, cobalt blue, deep blue
green: greenish, grass green, jade green
yellow: yellowish, sunny yellow, golden yellow
purple, violet: purplish, lilac, plum purple
pink: pinkish, rosy, rose
black: blackish, pitch black, coal black
white: whitish, ivory, milk white
gray, grey: grayish, silvery, slate gray, ash grey
brown: brownish, chocolate brown, coffee brown
pick up, lift: scoop up, snatch, lift up
give me, hand me, pass me, bring me: deliver, let me have
find, look for, locate: search for, discover, track down
show me, point at, point to, highlight, mark: indicate, outline, annotate
i need, i want, i would like: i require, we could use
please: kindly
scissors: shears
cutlery: flatware, silverware
container: receptacle, vessel
containers: receptacles, vessels
animal: creature, beast
animals: creatures, beasts
"""
# Kind: names that training else never hears.
_NOUNS = """
banana: plantain; block: brick, toy brick; book: volume, tome; bottle: flask;
bowl: basin; camera: photo camera; cap: ball cap; comb: hair comb; cutting board: cutting plank;
drill: electric drill, cordless drill; flashlight: hand lamp; fork: table fork;
game controller: controller; glass: tumbler; hammer: mallet; jar: preserving jar;
knife: blade; lamp: reading lamp; mug: beaker; pan: skillet; paddle: table tennis paddle;
pen: ballpoint, biro; pitcher: ewer, carafe; plate: dinner plate, dish; salt shaker: salt cellar;
scale: weighing scale; screwdriver: turnscrew; spoon: tablespoon, teaspoon;
tape: sticky tape, adhesive tape; teapot: kettle, tea kettle;
telephone: handset, desk phone; toaster: bread toaster; tray: platter; vase: flower vase, urn;
watch: timepiece; person: individual; bicycle: pushbike; car: auto, motorcar; airplane: airliner;
bus: coach; boat: watercraft; cat: feline; dog: hound, canine; horse: steed, pony; cow: bovine;
backpack: knapsack; handbag: pocketbook; suitcase: travel case; couch: settee;
tv: television screen; laptop: notebook computer; cell phone: smartphone; refrigerator: icebox;
potted plant: pot plant; sink: washbasin; toilet: lavatory; cake: gateau; umbrella: parasol
"""


def _table() -> dict[str, tuple[str, ...]]:
    """Every word and phrase with what may stand for it."""
    names = Counter(name for kind in NOUNS.values() for pair in kind for name in {*pair})
    table: dict[str, tuple[str, ...]] = {name: () for name in names}  # "hot dog" is no dog
    for entry in " ".join(_NOUNS.split()).split("; "):
        kind, _, others = entry.partition(": ")
        several = tuple(others.split(", "))
        for one, many in NOUNS[kind]:
            for name, ways in ((one, several), (many, tuple(map(plural, several)))):
                if names[name] == 1:  # else it may mean something else
                    table[name] = ways
    down = re.sub(r"[\w-]+", lambda word: _OPPOSITE.get(word[0], word[0]), _UP)
    said = _LEFT + _LEFT.replace("left", "right") + _UP + down + _WORDS
    for line in filter(None, re.sub(r"\n +", " ", said).splitlines()):
        these, _, others = line.partition(":")
        ways = tuple(way for way in others.strip().split(", ") if way)
        table |= dict.fromkeys(these.split(", "), ways)
    return table


WAYS = _table()
_SAID = re.compile(rf"\b({'|'.join(map(re.escape, sorted(WAYS, key=len, reverse=True)))})\b")


def paraphrased(text: str, rng: np.random.Generator) -> str:
    """``text``, in lower case as in all datasets, with some of its words and phrases exchanged."""

    def other(said: re.Match[str]) -> str:
        ways = WAYS[said[0]]
        if not ways or rng.random() >= EXCHANGED:
            return said[0]
        return ways[int(rng.integers(len(ways)))]

    new = _SAID.sub(other, text)
    if new == text:
        return text
    return re.sub(r"\ban? (\w+)", lambda said: with_article(said[1]), new)
