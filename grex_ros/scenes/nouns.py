"""The names of things: those on a table, and the eighty classes of COCO's photographs."""

from __future__ import annotations

_IRREGULAR = {
    "man": "men", "woman": "women", "person": "people", "mouse": "mice", "sheep": "sheep",
    "fish": "fish", "deer": "deer", "snowman": "snowmen", "wolf": "wolves", "scarf": "scarves",
    "knife": "knives", "loaf": "loaves", "skis": "skis", "scissors": "scissors",
    "broccoli": "broccoli", "aircraft": "aircraft", "cloves": "cloves",
    "leaf": "leaves", "tomato": "tomatoes", "potato": "potatoes", "calipers": "calipers",
    "peppercorns": "peppercorns",
}  # fmt: skip
# What is poured, cut or heaped has no plural of its own; by its last word, or all of them.
_MASS = frozenset(
    "black pepper, bread, butter, cayenne pepper, cereal, cheese, chicken, chocolate, cinnamon, "
    "coffee, corn, couscous, fennel, flour, garlic, ginger, honey, jam, juice, lettuce, "
    "mayonnaise, meat, milk, mustard, noodles, oats, oil, parsley, pasta, powder, quinoa, rice, "
    "rosemary, salt, sauce, spinach, sugar, syrup, tea, thyme, turmeric, water, yogurt".split(", ")
)


def plural(noun: str) -> str:
    """The plural of a noun: of its last word, or of the one before "of"."""
    if " of " in noun:
        head, tail = noun.split(" of ", 1)
        return f"{plural(head)} of {tail}"
    head, space, last = noun.rpartition(" ")
    if last in _MASS or noun in _MASS:
        return noun
    if last in _IRREGULAR:
        return head + space + _IRREGULAR[last]
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if last.endswith("y") and last[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


# Kind: its names in the singular, the first of them the usual one. Only names that are true of
# every object of the kind and of no other kind in the same picture.
_TABLE = """
apple, ball, banana, block: cube: building block, book, bottle, bowl, box: package, camera,
can: tin: tin can, cap: baseball cap, carrot, carton: milk carton, comb, cup,
cutting board: chopping board, drill: power drill, flashlight: torch, fork,
game controller: gamepad: joypad, glass: drinking glass, glove, hammer, hat, jar, knife,
lamp: desk lamp: table lamp, lemon, loaf of bread=loaf: loaf, mug: coffee mug, orange,
paddle: ping pong paddle: table tennis bat, pan: frying pan, pear, pen, pitcher: jug, plate,
salt shaker: shaker, scale: kitchen scale, pair of scissors=scissors, screwdriver, spoon, stapler,
roll of tape=tape: tape roll, teapot: tea pot, telephone: phone, toaster, tray: serving tray, vase,
watch: wristwatch
"""
_COCO = """
person: human: human being, bicycle: bike, car: automobile,
motorcycle: motorbike, airplane: plane: aircraft, bus, train,
truck: lorry, boat, traffic light: stoplight: traffic signal, fire hydrant: hydrant, stop sign,
parking meter, bench, bird, cat: kitty, dog: doggy, horse, sheep, cow, elephant, bear, zebra,
giraffe, backpack: rucksack, umbrella, handbag: purse, tie: necktie, suitcase, frisbee,
pair of skis=skis, snowboard, sports ball: ball, kite, baseball bat: bat, baseball glove: mitt,
skateboard, surfboard, tennis racket: racket, bottle, wine glass: stemmed glass, cup, fork, knife,
spoon, bowl, banana, apple, sandwich, orange, piece of broccoli=broccoli: broccoli, carrot,
hot dog, pizza, donut: doughnut, cake, chair, couch: sofa, potted plant: houseplant, bed,
dining table: table, toilet, tv: television: tv set, laptop: laptop computer,
mouse: computer mouse, remote: remote control, keyboard: computer keyboard,
cell phone: mobile phone: phone, microwave: microwave oven, oven: stove, toaster, sink,
refrigerator: fridge, book, clock, vase, pair of scissors=scissors, teddy bear: stuffed bear,
hair drier: hair dryer, toothbrush
"""


def _names(text: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Kind -> its names as (singular, plural); "usual name=kind" where they are not the same."""
    table = {}
    for entry in " ".join(text.split()).split(", "):
        usual, *others = (name.strip() for name in entry.split(":"))
        usual, _, kind = usual.partition("=")
        table[kind or usual] = tuple((name, plural(name)) for name in (usual, *others))
    return table


COCO_KINDS = tuple(_names(_COCO))
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {**_names(_TABLE), **_names(_COCO)}
