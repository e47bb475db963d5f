"""The one model that holds all meshes and textures of the scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.meshes import Mesh
from grex_ros.scenes.objects import shapes
from grex_ros.scenes.prints import SIZE
from grex_ros.scenes.variants import is_variant
from grex_ros.scenes.wraps import wrap

ROOM_TEXTURES = {"table": 512, "floor": 256, "wall": 256}  # edge in pixels
PRINT_SLOTS = 20  # textures that objects of one scene may carry
_SHADOW_REACH = 0.9  # metres around the table's middle that the shadow map covers


def build_model(
    mujoco: Any, shadow_size: int, samples: int, wide: bool
) -> tuple[Any, dict[str, list[int]]]:
    """A MjModel and its mesh ids by shape name.

    Textures and materials alike: first those of the room, then, if `wide`, the slots for prints.
    Only then are there props, the variants of shapes, and places for a print on them.
    """
    spec = mujoco.MjSpec()
    slots = {f"print{k}": SIZE for k in range(PRINT_SLOTS if wide else 0)}
    for name, size in (ROOM_TEXTURES | slots).items():
        texture = spec.add_texture(
            name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=size, height=size, nchannel=3
        )
        texture.data = bytes(size * size * 3)
        material = spec.add_material(name=name)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    ids: dict[str, list[int]] = {"slab": [0]}
    slab = _slab()
    meshes: list[Mesh] = [slab]
    places: list[NDArray[np.float32] | None] = [
        (slab.vertices[:, :2] / 2 + 0.5).astype(np.float32)[slab.faces]
    ]
    for shape in shapes().values():
        if not wide and (is_variant(shape.name) or not shape.kind):
            continue
        ids[shape.name] = list(range(len(meshes), len(meshes) + len(shape.parts)))
        meshes += [part.mesh for part in shape.parts]
        places += [wrap(shape, part) if wide else None for part in shape.parts]
    for i, mesh in enumerate(meshes):
        asset = spec.add_mesh(name=f"mesh{i}", inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
        asset.uservert = mesh.vertices.astype(np.float32).ravel()
        asset.usernormal = mesh.normals.astype(np.float32).ravel()
        asset.userface = asset.userfacenormal = mesh.faces.ravel()
        place = places[i]
        if place is not None:
            asset.usertexcoord = place.ravel()
            asset.userfacetexcoord = np.arange(3 * len(place), dtype=np.int32)
    visual = spec.visual
    visual.quality.shadowsize, visual.quality.offsamples = shadow_size, samples
    visual.global_.offwidth, visual.global_.offheight = 640, 480
    visual.map.shadowclip = _SHADOW_REACH
    spec.stat.extent, spec.stat.center = 1.0, (0.0, 0.0, 0.0)
    model = spec.compile()
    # the compiler moves meshes to their principal axes: put ours back
    for i, mesh in enumerate(meshes):
        start, count = model.mesh_vertadr[i], model.mesh_vertnum[i]
        model.mesh_vert[start : start + count] = mesh.vertices
        start, count = model.mesh_normaladr[i], model.mesh_normalnum[i]
        model.mesh_normal[start : start + count] = mesh.normals
    return model, ids


def _slab(steps: int = 24) -> Mesh:
    """The box [-1, 1] x [-1, 1] x [-1, 0] with a fine top: light is computed at vertices."""
    line = np.linspace(-1, 1, steps + 1)
    x, y = (a.ravel() for a in np.meshgrid(line, line, indexing="ij"))
    top = np.stack([x, y, 0 * x], 1)
    index = np.arange((steps + 1) ** 2).reshape(steps + 1, steps + 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)]
    vertices, normals = [top], [np.tile([0.0, 0.0, 1.0], (len(top), 1))]
    for turn in range(4):
        s, t = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])[[turn, (turn + 1) % 4]]
        corners = np.array([[*(s - t), -1], [*(s + t), -1], [*(s + t), 0], [*(s - t), 0]])
        start = sum(len(v) for v in vertices)
        vertices.append(corners.astype(float))
        normals.append(np.tile([*s.astype(float), 0.0], (4, 1)))
        faces.append(np.array([[0, 1, 2], [0, 2, 3]]) + start)
    return Mesh(np.concatenate(vertices), np.concatenate(normals),
                np.concatenate(faces).astype(np.int32))  # fmt: skip
