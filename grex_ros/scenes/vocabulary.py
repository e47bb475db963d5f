"""The words for what lies on a table, and which of them people use for more than one thing."""

from __future__ import annotations

# Kind -> its names as (singular, plural); the first is the usual one. Only names that are true of
# every object of the kind and of no other kind.
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "apple": (("apple", "apples"),),
    "ball": (("ball", "balls"),),
    "banana": (("banana", "bananas"),),
    "block": (
        ("block", "blocks"),
        ("cube", "cubes"),
    ),
    "book": (("book", "books"),),
    "bottle": (("bottle", "bottles"),),
    "bowl": (("bowl", "bowls"),),
    "box": (
        ("box", "boxes"),
        ("package", "packages"),
    ),
    "camera": (("camera", "cameras"),),
    "can": (
        ("can", "cans"),
        ("tin", "tins"),
        ("tin can", "tin cans"),
    ),
    "cap": (
        ("cap", "caps"),
        ("baseball cap", "baseball caps"),
    ),
    "carrot": (("carrot", "carrots"),),
    "carton": (
        ("carton", "cartons"),
        ("milk carton", "milk cartons"),
    ),
    "comb": (("comb", "combs"),),
    "cup": (("cup", "cups"),),
    "cutting board": (
        ("cutting board", "cutting boards"),
        ("chopping board", "chopping boards"),
    ),
    "drill": (
        ("drill", "drills"),
        ("power drill", "power drills"),
    ),
    "flashlight": (
        ("flashlight", "flashlights"),
        ("torch", "torches"),
    ),
    "fork": (("fork", "forks"),),
    "game controller": (
        ("game controller", "game controllers"),
        ("gamepad", "gamepads"),
    ),
    "glass": (
        ("glass", "glasses"),
        ("drinking glass", "drinking glasses"),
    ),
    "glove": (("glove", "gloves"),),
    "hammer": (("hammer", "hammers"),),
    "hat": (("hat", "hats"),),
    "jar": (("jar", "jars"),),
    "knife": (("knife", "knives"),),
    "lamp": (
        ("lamp", "lamps"),
        ("desk lamp", "desk lamps"),
    ),
    "lemon": (("lemon", "lemons"),),
    "loaf": (
        ("loaf of bread", "loaves of bread"),
        ("loaf", "loaves"),
    ),
    "mug": (("mug", "mugs"),),
    "orange": (("orange", "oranges"),),
    "paddle": (
        ("paddle", "paddles"),
        ("ping pong paddle", "ping pong paddles"),
        ("table tennis bat", "table tennis bats"),
    ),
    "pan": (
        ("pan", "pans"),
        ("frying pan", "frying pans"),
    ),
    "pear": (("pear", "pears"),),
    "pen": (("pen", "pens"),),
    "pitcher": (
        ("pitcher", "pitchers"),
        ("jug", "jugs"),
    ),
    "plate": (("plate", "plates"),),
    "salt shaker": (
        ("salt shaker", "salt shakers"),
        ("shaker", "shakers"),
    ),
    "scale": (
        ("scale", "scales"),
        ("kitchen scale", "kitchen scales"),
    ),
    "scissors": (("pair of scissors", "pairs of scissors"),),
    "screwdriver": (("screwdriver", "screwdrivers"),),
    "spoon": (("spoon", "spoons"),),
    "stapler": (("stapler", "staplers"),),
    "tape": (
        ("roll of tape", "rolls of tape"),
        ("tape roll", "tape rolls"),
    ),
    "teapot": (("teapot", "teapots"),),
    "telephone": (
        ("telephone", "telephones"),
        ("phone", "phones"),
    ),
    "toaster": (("toaster", "toasters"),),
    "tray": (("tray", "trays"),),
    "vase": (("vase", "vases"),),
    "watch": (
        ("watch", "watches"),
        ("wristwatch", "wristwatches"),
    ),
}

# Group -> its kinds.
GROUPS: dict[str, frozenset[str]] = {
    "fruit": frozenset({"apple", "banana", "lemon", "orange", "pear"}),
    "cutlery": frozenset({"fork", "knife", "spoon"}),
    "container": frozenset(
        {"bottle", "bowl", "box", "can", "carton", "cup", "glass", "jar", "mug", "pitcher"}
    ),
    "tool": frozenset({"drill", "hammer", "screwdriver"}),
}

# Kinds of which people do not agree whether they belong to the group.
UNCLEAR_IN_GROUP: dict[str, frozenset[str]] = {
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
}

THING_NOUNS = (("object", "objects"), ("thing", "things"), ("item", "items"))

# Kind -> kinds that many people call by the same name: "the cup" may well mean a mug.
WIDER_KINDS: dict[str, frozenset[str]] = {
    "cup": frozenset({"mug", "glass"}),
    "box": frozenset({"carton"}),
    "hat": frozenset({"cap"}),
    "plate": frozenset({"tray"}),
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
