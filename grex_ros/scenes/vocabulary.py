"""The words for what lies on a table, and which of them people use for more than one thing."""

from __future__ import annotations

from grex_ros.scenes.nouns import NOUNS as NOUNS
from grex_ros.scenes.nouns import plural as plural

# Group -> its kinds.
GROUPS: dict[str, frozenset[str]] = {
    "fruit": frozenset({"apple", "banana", "lemon", "orange", "pear"}),
    "cutlery": frozenset({"fork", "knife", "spoon"}),
    "container": frozenset(
        {"bottle", "bowl", "box", "can", "carton", "cup", "glass", "jar", "mug", "pitcher"}
    ),
    "tool": frozenset({"drill", "hammer", "screwdriver"}),
    "animal": frozenset(
        {"bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"}
    ),
    "vehicle": frozenset({"car", "motorcycle", "bus", "train", "truck", "boat", "airplane"}),
}

# Kinds of which people do not agree whether they belong to the group.
UNCLEAR_IN_GROUP: dict[str, frozenset[str]] = {
    "animal": frozenset({"teddy bear", "person"}),
    "vehicle": frozenset({"bicycle", "skateboard"}),
    "container": frozenset({"pan", "plate", "salt shaker", "teapot", "tray", "vase"}),
    "tool": frozenset(
        {
            "camera", "comb", "cutting board", "flashlight", "fork", "knife", "paddle", "pan",
            "pen", "scale", "scissors", "spoon", "stapler", "tape",
        }
    ),
}  # fmt: skip

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
    "tool": (("tool", "tools", False),),
    "animal": (("animal", "animals", False),),
    "vehicle": (("vehicle", "vehicles", False),),
}

THING_NOUNS = (("object", "objects"), ("thing", "things"), ("item", "items"))

# Kind -> kinds that many people call by the same name: "the cup" may well mean a mug.
WIDER_KINDS: dict[str, frozenset[str]] = {
    "cup": frozenset({"mug", "glass"}),
    "box": frozenset({"carton"}),
    "hat": frozenset({"cap"}),
    "plate": frozenset({"tray"}),
    "car": frozenset({"truck"}),
    "chair": frozenset({"couch"}),
    "ball": frozenset({"orange"}),
    "bed": frozenset({"couch"}),
    "bicycle": frozenset({"motorcycle"}),
    "vase": frozenset({"potted plant"}),
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
    {"pen", "knife", "screwdriver"},
    {"pan", "paddle"},
    {"hat", "cap"},
    {"box", "carton"},
    {"pitcher", "jar", "vase"},
    {"pitcher", "mug", "teapot"},
    {"plate", "tray", "cutting board"},
    {"telephone", "game controller"},
    {"salt shaker", "jar", "bottle"},
    {"lamp", "flashlight"},
    {"pitcher", "mug", "vase", "teapot"},
    {"box", "carton"},
    {"tray", "plate", "cutting board"},
    {"book", "cutting board"},
    {"salt shaker", "bottle"},
    {"hat", "cap"},
    {"screwdriver", "pen"},
    {"comb", "fork"},
    # in photographs
    {"car", "truck", "bus"},
    {"bus", "train"},
    {"bicycle", "motorcycle"},
    {"chair", "couch", "bench", "bed"},
    {"backpack", "handbag", "suitcase"},
    {"cup", "wine glass", "bowl", "glass"},
    {"bottle", "wine glass", "cup", "vase"},
    {"potted plant", "vase"},
    {"tv", "laptop", "microwave"},
    {"oven", "microwave", "toaster", "refrigerator"},
    {"cell phone", "remote", "mouse", "telephone"},
    {"laptop", "keyboard"},
    {"sports ball", "orange", "apple", "frisbee", "ball"},
    {"cow", "sheep", "horse", "dog", "goat"},
    {"cat", "dog", "bear", "teddy bear"},
    {"zebra", "horse", "giraffe"},
    {"bird", "kite", "airplane"},
    {"kite", "umbrella"},
    {"skis", "snowboard", "skateboard", "surfboard"},
    {"surfboard", "boat"},
    {"fork", "knife", "spoon", "scissors"},
    {"sandwich", "hot dog", "pizza", "cake", "donut"},
    {"banana", "apple", "orange", "carrot", "broccoli"},
    {"baseball bat", "tennis racket"},
    {"sink", "toilet", "bowl"},
    {"fire hydrant", "parking meter"},
    {"stop sign", "traffic light", "parking meter"},
    {"dining table", "bench"},
    {"clock", "parking meter"},
    {"toothbrush", "hair drier", "remote"},
    {"book", "laptop", "cell phone"},
    {"dining table", "chair"},
    {"person", "teddy bear"},
    {"mouse", "rat"},
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
)


# Of these, things that nobody overlooks in a photograph and no annotator would leave out.
ABSURD_IN_PHOTOGRAPHS = tuple(
    "camel, cannon, crocodile, dinosaur, dolphin, dragon, excavator, ghost, harmonica, "
    "hippo, igloo, jellyfish, kangaroo, lobster, magician, microscope, octopus, panda, peacock, "
    "penguin, pirate, pyramid, raccoon, rhino, rocket, saxophone, scarecrow, shark, snowman, "
    "spaceship, submarine, telescope, tiger, trampoline, trumpet, turtle, typewriter, unicorn, "
    "volcano, walrus, whale, windmill, witch, wolf".split(", ")
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
    " ".join(noun.split())
    for noun in """
    airplane, ambulance, anchor, armchair, axe, backpack, bathtub, bear, bed, bee, bench,
    bicycle, bird, boat, boot, bridge, broom, bus, butterfly, cactus, camel, cannon, car, cat,
    chainsaw, chair, cloud, coat, computer, couch, cow, crane, crocodile, crown, curtain, deer,
    dinosaur, dog, dolphin, door, dragon, drum, duck, eagle, elephant, envelope, escalator,
    excavator, fire hydrant, fish, flag, flower, fountain, fox, fridge, frog, ghost, giraffe,
    goat, guitar, hamster, handbag, harmonica, helicopter, hippo, horse, house, igloo, jacket,
    jellyfish, kangaroo, kettlebell, key, keyboard, kite, ladder, laptop, lawn mower,
    lighthouse, lion, lobster, magician, mailbox, man, marshmallow, microscope, microwave,
    monkey, moon, motorcycle, mountain, mouse, octopus, owl, paintbrush, palm tree, panda,
    parachute, parrot, peacock, penguin, person, piano, pig, pillow, pineapple, pirate, pizza,
    police officer, printer, pumpkin, pyramid, rabbit, raccoon, radio, rake, rhino, robot,
    rocket, rollercoaster, rose, rowboat, sandwich, satellite, saxophone, scarecrow, scarf,
    scooter, seal, shark, sheep, ship, shoe, shovel, skateboard, skyscraper, sled, snail, snake,
    snowman, sock, sofa, spaceship, spider, squirrel, statue, stop sign, submarine, suitcase,
    surfboard, swan, sweater, sword, tank, teddy bear, telescope, tent, tie, tiger, toilet,
    tractor, traffic light, train, trampoline, tree, truck, trumpet, turtle, typewriter,
    umbrella, unicorn, vacuum cleaner, van, violin, volcano, waffle     iron, wallet, walrus,
    washing machine, watermelon, whale, wheelbarrow, wheelchair, windmill, witch, wolf, woman,
    worm, wrench, yacht, zebra
    """.split(",")
)


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an"."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("unicorn", "one"))
    return ("an " if vowel else "a ") + phrase
