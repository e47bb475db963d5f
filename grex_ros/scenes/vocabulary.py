"""The words for what lies on a table, and which of them people use for more than one thing."""

from __future__ import annotations

# Kind -> its names as (singular, plural); the first is the usual one. Only names that are true of
# every object of the kind and of no other kind.
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "apple": (("apple", "apples"),),
    "ball": (("ball", "balls"),),
    "banana": (("banana", "bananas"),),
    "block": (("block", "blocks"), ("cube", "cubes")),
    "book": (("book", "books"),),
    "bottle": (("bottle", "bottles"),),
    "bowl": (("bowl", "bowls"),),
    "box": (("box", "boxes"), ("package", "packages")),
    "can": (("can", "cans"), ("tin", "tins"), ("tin can", "tin cans")),
    "carrot": (("carrot", "carrots"),),
    "cup": (("cup", "cups"),),
    "fork": (("fork", "forks"),),
    "glass": (("glass", "glasses"), ("drinking glass", "drinking glasses")),
    "jar": (("jar", "jars"),),
    "knife": (("knife", "knives"),),
    "lemon": (("lemon", "lemons"),),
    "mug": (("mug", "mugs"),),
    "orange": (("orange", "oranges"),),
    "pan": (("pan", "pans"), ("frying pan", "frying pans")),
    "pear": (("pear", "pears"),),
    "pen": (("pen", "pens"),),
    "plate": (("plate", "plates"),),
    "spoon": (("spoon", "spoons"),),
    "teapot": (("teapot", "teapots"),),
    "vase": (("vase", "vases"),),
}

# Group -> its kinds.
GROUPS: dict[str, frozenset[str]] = {
    "fruit": frozenset({"apple", "banana", "lemon", "orange", "pear"}),
    "cutlery": frozenset({"fork", "knife", "spoon"}),
    "container": frozenset({"bottle", "bowl", "box", "can", "cup", "glass", "jar", "mug"}),
}

# Kinds of which people do not agree whether they belong to the group.
UNCLEAR_IN_GROUP: dict[str, frozenset[str]] = {
    "container": frozenset({"pan", "plate", "teapot", "vase"}),
}

# Names of a group as (singular, plural, whether the plural is a mass noun: "is", no number).
GROUP_NOUNS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "fruit": (
        ("fruit", "fruit", True),
        ("fruit", "fruits", False),
        ("piece of fruit", "pieces of fruit", False),
    ),
    "cutlery": (
        ("piece of cutlery", "cutlery", True),
        ("piece of cutlery", "pieces of cutlery", False),
    ),
    "container": (("container", "containers", False),),
}

THING_NOUNS = (("object", "objects"), ("thing", "things"), ("item", "items"))

# Kind -> kinds that many people call by the same name: "the cup" may well mean a mug.
WIDER_KINDS: dict[str, frozenset[str]] = {
    "cup": frozenset({"mug"}),
}

# Kinds too alike for the one to be surely absent while the other is there.
_ALIKE_KINDS = (
    {"cup", "mug", "glass"},
    {"box", "block", "book"},
    {"jar", "can", "glass"},
    {"bottle", "jar", "vase"},
    {"bowl", "pan"},
    {"plate", "pan"},
    {"bowl", "cup"},
    {"ball", "orange", "apple"},
    {"lemon", "orange", "pear"},
    {"pen", "knife"},
)
_ALIKE_COLORS = (
    {"red", "orange", "brown"},
    {"red", "pink"},
    {"pink", "purple"},
    {"purple", "blue"},
    {"orange", "yellow"},
    {"white", "gray"},
    {"gray", "black"},
    {"white", "yellow"},
    {"black", "brown"},
    {"green", "blue"},
)


def alike(a: str, b: str) -> bool:
    """Whether two kinds, or two colours, are the same or easily taken for each other."""
    return a == b or any({a, b} <= group for group in (*_ALIKE_KINDS, *_ALIKE_COLORS))


NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ORDINALS = (
    ("first", "1st"),
    ("second", "2nd"),
    ("third", "3rd"),
    ("fourth", "4th"),
    ("fifth", "5th"),
)

# Ordinary nouns, singular, of things that the generator never puts on a table.
ABSENT_NOUNS = tuple(
    noun.strip()
    for noun in """
    airplane, alarm clock, ambulance, anchor, armchair, axe, backpack, bathtub, bear, bed, bee,
    bench, bicycle, bird, boat, boot, bridge, broom, bus, butterfly, cactus, camel, car, cat,
    chainsaw, chair, clock, coat, computer, couch, cow, crocodile, crown, curtain, deer,
    dinosaur, dog, dolphin, door, dragon, drum, duck, eagle, elephant, envelope, excavator, fire
    hydrant, fish, flag, flashlight, flower, fox, fridge, frog, ghost, giraffe, glove, goat,
    guitar, hammer, handbag, harmonica, hat, helicopter, helmet, horse, house, igloo, jacket,
    kangaroo, kettlebell, key, keyboard, kite, ladder, lamp, laptop, lawn mower, lion, lobster,
    mailbox, man, microscope, microwave, monkey, moon, motorcycle, mountain, mouse, octopus,
    owl, paintbrush, palm tree, panda, parachute, parrot, penguin, person, phone, piano, pig,
    pillow, pineapple, pirate, pizza, police officer, printer, pumpkin, rabbit, raccoon, radio,
    rake, remote control, robot, rocket, rose, sandwich, saxophone, scarf, scooter, screwdriver,
    sheep, ship, shoe, shovel, skateboard, sled, snail, snake, snowman, sock, sofa, spider,
    spaceship, squirrel, stapler, statue, stop sign, suitcase, surfboard, swan, sweater, sword,
    tank, teddy bear, telephone, telescope, tennis racket, tent, tiger, tie, toaster, toilet,
    toothbrush, tractor, traffic light, train, trampoline, tree, truck, trumpet, turtle,
    typewriter, umbrella, unicorn, vacuum cleaner, van, violin, waffle iron, wallet, washing
    machine, watch, watermelon, whale, wheelbarrow, wheelchair, witch, wolf, woman, worm,
    wrench, yacht, zebra
    """.split(",")
)


def plural(noun: str) -> str:
    """The plural of one of ``ABSENT_NOUNS``."""
    head, space, last = noun.rpartition(" ")
    irregular = {
        "man": "men", "woman": "women", "person": "people", "mouse": "mice", "sheep": "sheep",
        "fish": "fish", "deer": "deer", "snowman": "snowmen", "wolf": "wolves", "scarf": "scarves",
    }  # fmt: skip
    if last in irregular:
        return head + space + irregular[last]
    if last.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if last.endswith("y") and last[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an"."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("unicorn", "one"))
    return ("an " if vowel else "a ") + phrase
