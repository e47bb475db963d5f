"""Convert household models of Debian's sweethome3d-furniture to grex_ros/scenes/assets.

    apt-get download sweethome3d-furniture && dpkg -x sweethome3d-furniture_*.deb unpacked
    python tools/convert_meshes.py unpacked

Writes household.npz and ATTRIBUTION.md. Only models whose own licence text is CC0 or CC-BY are on
the list below.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grex_ros.scenes.household import ASSETS, PAINTED, Model, write_models  # noqa: E402

LIBRARIES = {
    "BlendSwap-CC-0": ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "BlendSwap-CC-BY": ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/"),
    "KatorLegaz": ("CC BY 3.0 US", "https://creativecommons.org/licenses/by/3.0/us/"),
    "Scopia": ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/"),
}
CREATORS = {
    "Kator Legaz": "Andrew Kator & Jennifer Legaz",
    "Scopia": "Scopia Visual Interfaces Systems, s.l. and Emmanuel Puybaret / eTeks",
}


@dataclass(frozen=True)
class Choice:
    """library and OBJ name, our kind, colour ("free": repaint the materials in `main`), the
    longest edge in metres (0 = the catalogue's), and the rotation to put it on the table."""

    library: str
    model: str
    kind: str
    color: str = ""
    longest: float = 0.0
    main: tuple[str, ...] = ()
    turn: str = ""  # e.g. "x90": after y up has become z up


_CC0, _CC_BY, _KATOR, _SCOPIA = LIBRARIES
CHOICES: tuple[Choice, ...] = (
    Choice(_KATOR, "coffee-mug", "mug", PAINTED, 0.12),
    Choice(_CC_BY, "coffee_cup", "cup", PAINTED, 0.115),
    Choice(_CC_BY, "glass", "glass", PAINTED, 0.16),
    Choice(_KATOR, "12-oz-glass", "glass", PAINTED, 0.1),
    Choice(_KATOR, "highball-glass", "glass", PAINTED, 0.12),
    Choice(_KATOR, "bread-plate", "plate", PAINTED, 0.18),
    Choice(_KATOR, "dinner-plate", "plate", PAINTED, 0.21),
    Choice(_SCOPIA, "bowl", "bowl", PAINTED, 0.145),
    Choice(_SCOPIA, "jar", "vase", PAINTED, 0.16),
    Choice(_SCOPIA, "pottery", "jar", PAINTED, 0.11),
    Choice(_CC0, "cosmeticsPot", "jar", PAINTED, 0.085),
    Choice(_CC0, "mamadeira", "bottle", PAINTED, 0.15, ("glass",)),
    Choice(_SCOPIA, "com_bath2_jabon_pijo", "bottle", PAINTED, 0.14, ("botellas_blancas",)),
    Choice(_SCOPIA, "medicoscopia_bottle", "bottle", PAINTED, 0.11, ("1",)),
    Choice(_SCOPIA, "medicoscopia_bottle2", "bottle", PAINTED, 0.14, ("1", "tap_blue")),
    Choice(_SCOPIA, "medicoscopia_box", "box", PAINTED, 0.12),
    Choice(_CC_BY, "spoon", "spoon", PAINTED, 0.18),
    Choice(_CC_BY, "kitchenKnife", "knife", PAINTED, 0.21, ("Chopping-Kife-handle",)),
    Choice(_SCOPIA, "old_jar", "pitcher", PAINTED, 0.15),
    Choice(_CC0, "tetrapak", "carton", PAINTED, 0.16, ("pak",)),
    Choice(_CC0, "cissors_swap", "scissors", PAINTED, 0.15, ("Material",)),
    Choice(_SCOPIA, "marteau", "hammer", PAINTED, 0.22, ("textured",)),
    Choice(_SCOPIA, "tournevis", "screwdriver", PAINTED, 0.18, ("handle",)),
    Choice(_SCOPIA, "perceuse-electrique", "drill", PAINTED, 0.17, ("textured",)),
    Choice(_KATOR, "stapler", "stapler", PAINTED, 0.12, ("PLASTIC_black",)),
    Choice(_KATOR, "flashlight", "flashlight", PAINTED, 0.15, ("PLASTIC_orange",)),
    Choice(_SCOPIA, "rouleau-de-ruban-adhesif", "tape", PAINTED, 0.1, ("firstcolor",)),
    Choice(_SCOPIA, "com_bath2_peineta", "comb", PAINTED, 0.1),
    Choice(_SCOPIA, "toaster", "toaster", PAINTED, 0.17, ("orangeBody",)),
    Choice(_CC_BY, "kitchenScale", "scale", PAINTED, 0.17, ("Material.022", "Material.007")),
    Choice(_CC_BY, "saltShaker", "salt shaker", PAINTED, 0.085, ("White",)),
    Choice(_CC_BY, "choppingBoard", "cutting board", PAINTED, 0.21),
    Choice(_SCOPIA, "sushi_tray", "tray", PAINTED, 0.2),
    Choice(_CC0, "bread", "loaf", PAINTED, 0.15),
    Choice(_CC0, "desklamp", "lamp", PAINTED, 0.17, ("Material.002",)),
    Choice(_CC_BY, "tableTennisBat", "paddle", PAINTED, 0.19, ("Material.001", "Material.002")),
    Choice(_SCOPIA, "reflex_camera", "camera", PAINTED, 0.12, ("camera",)),
    Choice(_SCOPIA, "phone", "telephone", PAINTED, 0.15, ("negro", "negrorefle", "grisplas")),
    Choice(_SCOPIA, "ps4-joystick", "game controller", PAINTED, 0.14),
    Choice(_SCOPIA, "montre-with-pose", "watch", PAINTED, 0.1, ("belt",)),
    Choice(_SCOPIA, "casquette", "cap", PAINTED, 0.16, ("firstcolor", "visor", "button")),
    Choice(_SCOPIA, "chapeau", "hat", PAINTED, 0.19, ("firstcolor",)),
    Choice(_SCOPIA, "gant-textured", "glove", PAINTED, 0.16),
)


@dataclass
class _Group:
    """The triangles of one material."""

    rgb: np.ndarray
    alpha: float
    corners: list[tuple[int, int]]  # vertex, normal (or -1), three a triangle


def read_catalogue(archive: zipfile.ZipFile) -> dict[str, dict[str, str]]:
    """The entries of a furniture library by the name of their OBJ file."""
    text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    entries: dict[str, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*?)\s*$", text, re.MULTILINE):
        entries.setdefault(number, {})[key] = value
    return {Path(e["model"]).stem: e for e in entries.values() if "model" in e}


def convert(archive: zipfile.ZipFile, entry: dict[str, str], choice: Choice) -> Model:
    """Read one model: metres, z up, resting on z = 0, one part a colour."""
    path = entry["model"].lstrip("/")
    lines = archive.read(path).decode("latin-1").splitlines()
    materials = _read_materials(archive, path, lines)
    vertices, normals, groups = _read_triangles(lines, materials)
    to_z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    inner = np.array([float(x) for x in entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split()])
    inner = inner.reshape(3, 3)
    vertices, normals = vertices @ inner.T @ to_z_up.T, normals @ inner.T @ to_z_up.T
    extent = np.array([float(entry[k]) for k in ("width", "depth", "height")]) / 100
    used = np.unique([v for g in groups.values() for v, _ in g.corners])
    low, high = vertices[used].min(0), vertices[used].max(0)
    stretch = extent / np.maximum(high - low, 1e-9)
    stretch[(high - low) < 1e-6] = 1.0
    vertices, normals = (vertices - (low + high) / 2) * stretch, normals / stretch
    if choice.longest:
        vertices = vertices * (choice.longest / extent.max())
    if choice.turn:
        matrix = _turn(choice.turn)
        vertices, normals = vertices @ matrix.T, normals @ matrix.T
    vertices[:, 2] -= vertices[used, 2].min()
    parts = []
    for name, group in groups.items():
        points, directions, faces = _weld(vertices, normals, group.corners)
        main = choice.color == PAINTED and (not choice.main or name in choice.main)
        # what carries the colour must show it, even if it is glass
        alpha = max(group.alpha, 0.62) if main else group.alpha
        parts.append((points, directions, faces, None if main else group.rgb, alpha))
    name = f"{choice.library}_{choice.model}".lower().replace("-", "_")
    return Model(name, choice.kind, choice.color, parts)


def _read_materials(
    archive: zipfile.ZipFile, path: str, lines: list[str]
) -> dict[str, tuple[np.ndarray, float]]:
    """Average colour (0..1) and opacity of every material."""
    folder = path.rsplit("/", 1)[0]
    found: dict[str, tuple[np.ndarray, float]] = {}
    for library in [line.split(None, 1)[1].strip() for line in lines if line.startswith("mtllib")]:
        name, rgb, alpha = "", np.full(3, 0.8), 1.0
        for line in archive.read(f"{folder}/{library}").decode("latin-1").splitlines():
            key, _, value = line.strip().partition(" ")
            if key == "newmtl":
                name, rgb, alpha = value.strip(), np.full(3, 0.8), 1.0
            elif key == "Kd":
                rgb = np.array([float(x) for x in value.split()[:3]])
            elif key == "d":
                alpha = float(value.split()[-1])
            elif key == "map_Kd":
                picture = archive.read(f"{folder}/{Path(value.strip()).name}")
                image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
                if image is None:
                    raise ValueError(f"{folder}/{value.strip()} is not a picture")
                rgb = image.reshape(-1, 3).mean(0)[::-1] / 255
            found[name] = (rgb, alpha)
    return found


def _read_triangles(
    lines: list[str], materials: dict[str, tuple[np.ndarray, float]]
) -> tuple[np.ndarray, np.ndarray, dict[str, _Group]]:
    vertices: list[list[float]] = []
    normals: list[list[float]] = []
    groups: dict[str, _Group] = {}
    current = ""
    for line in lines:
        key, _, value = line.strip().partition(" ")
        if key == "v":
            vertices.append([float(x) for x in value.split()[:3]])
        elif key == "vn":
            normals.append([float(x) for x in value.split()[:3]])
        elif key == "usemtl":
            current = value.strip()
        elif key == "f":
            corners = []
            for corner in value.split():
                numbers = (corner.split("/") + ["", ""])[:3]
                vertex = int(numbers[0])
                normal = int(numbers[2]) if numbers[2] else 0
                corners.append(
                    (
                        vertex - 1 if vertex > 0 else len(vertices) + vertex,
                        normal - 1 if normal > 0 else (len(normals) + normal if normal else -1),
                    )
                )
            rgb, alpha = materials.get(current, (np.full(3, 0.8), 1.0))
            group = groups.setdefault(current, _Group(rgb, alpha, []))
            for i in range(1, len(corners) - 1):
                group.corners += [corners[0], corners[i], corners[i + 1]]
    return np.array(vertices), np.array(normals).reshape(-1, 3), groups


def _weld(
    vertices: np.ndarray, normals: np.ndarray, corners: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vertex for every pair of position and normal; triangles turned to face their normals."""
    pairs = np.array(corners)
    points = vertices[pairs[:, 0]].reshape(-1, 3, 3)
    flat = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    size = np.linalg.norm(flat, axis=1)
    keep = size > 1e-10
    points, flat, pairs = points[keep], flat[keep] / size[keep, None], pairs.reshape(-1, 3, 2)[keep]
    table = np.concatenate([normals, np.zeros((1, 3))])  # corners without a normal have -1
    given = table[pairs[..., 1]]
    missing = np.linalg.norm(given, axis=-1) < 1e-6
    given[missing] = np.repeat(flat[:, None], 3, 1)[missing]
    given /= np.linalg.norm(given, axis=-1, keepdims=True)
    backward = (given.sum(1) * flat).sum(1) < 0
    points[backward] = points[backward][:, ::-1]
    given[backward] = given[backward][:, ::-1]
    rows = np.concatenate([points.reshape(-1, 3) * 1e4, given.reshape(-1, 3) * 20], 1).round()
    _, first, index = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return points.reshape(-1, 3)[first], given.reshape(-1, 3)[first], index.reshape(-1, 3)


def _turn(words: str) -> np.ndarray:
    matrix = np.eye(3)
    for word in words.split():
        angle = np.radians(float(word[1:]))
        i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[word[0]]
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def attribution(rows: list[tuple[Choice, dict[str, str], str, str]]) -> str:
    """The text of ATTRIBUTION.md."""
    text = io.StringIO()
    text.write(
        "# Household models\n\n"
        "The models in `household.npz` come from the 3D model libraries of Sweet Home 3D\n"
        "(<https://www.sweethome3d.com/importModels.jsp>), version 1.8, as packaged in Debian's\n"
        "`sweethome3d-furniture` 1.8-1. Blend Swap models were published at\n"
        "<https://www.blendswap.com> and converted to OBJ by Emmanuel Puybaret / eTeks.\n\n"
        "Changes made to every model: converted from OBJ, scaled (catalogue size, or a size that\n"
        "suits a table), put upright, textures replaced by their average colour, coordinates and\n"
        "normals rounded. Models marked *repainted* get new colours when a scene is drawn. The\n"
        "authors do not endorse this project.\n\n"
        "| model | title | author | licence | kind | further changes |\n"
        "|---|---|---|---|---|---|\n"
    )
    for choice, entry, licence, url in rows:
        creator = CREATORS.get(entry.get("creator", ""), entry.get("creator", "unknown"))
        change = "repainted" if choice.color == PAINTED else ""
        text.write(
            f"| {choice.library}/{choice.model} | {entry['name']} | {creator} "
            f"| [{licence}]({url}) | {choice.kind} | {change} |\n"
        )
    return text.getvalue()


def main() -> None:
    """Convert all choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unpacked", type=Path, help="folder that dpkg -x filled")
    folder = parser.parse_args().unpacked / "usr/share/sweethome3d/furniture"
    models, rows = [], []
    for library, (licence, url) in LIBRARIES.items():
        with zipfile.ZipFile(folder / f"{library}.sh3f") as archive:
            catalogue = read_catalogue(archive)
            for choice in (c for c in CHOICES if c.library == library):
                entry = catalogue[choice.model]
                models.append(convert(archive, entry, choice))
                rows.append((choice, entry, licence, url))
    write_models(ASSETS / "household.npz", models)
    (ASSETS / "ATTRIBUTION.md").write_text(attribution(rows))
    for model in models:
        print(model.name, model.kind, sum(len(p[2]) for p in model.parts), "triangles")


if __name__ == "__main__":
    main()
