"""Pictures of scenes with exact labels and depth, by MuJoCo's classic renderer.

One model holds every mesh. A frame only lists what to draw, so no scene is compiled: 3x3 geom
matrices carry the scale and the three textures are painted anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grex_ros.scenes.gl import RenderingUnavailable, import_mujoco, open_context
from grex_ros.scenes.objects import shapes
from grex_ros.scenes.placement import project_box
from grex_ros.scenes.prints import Print, paint_print
from grex_ros.scenes.shading import shade
from grex_ros.scenes.stage import PRINT_SLOTS, ROOM_TEXTURES, build_model
from grex_ros.scenes.surfaces import Surface, paint_surface
from grex_ros.scenes.world import Camera, Frame, Scene, SceneObject

__all__ = ["Frame", "RenderingUnavailable", "SceneRenderer"]

_NEAR, _FAR = 0.05, 12.0  # metres
_BACKGROUND = 2**24 - 2  # segment id of table, floor and wall


class SceneRenderer:
    """Draws scenes. Holds a GL context: close it, or use it in a `with` statement.

    All calls must come from one thread at a time. Raises RenderingUnavailable where there is no
    OpenGL. `shadow_size` is the edge of the shadow map, `samples` the samples a pixel. With `wide`
    it can draw scenes of the wide look too, and takes some seconds longer to open.
    """

    def __init__(self, shadow_size: int = 1024, samples: int = 4, *, wide: bool = False) -> None:
        try:
            mujoco = import_mujoco()
        except ImportError as error:
            raise RenderingUnavailable(f"MuJoCo cannot be imported: {error}") from error
        self._mujoco = mujoco
        self._gl: Any = open_context(640, 480)
        try:
            self._model, self._meshes = build_model(mujoco, shadow_size, samples, wide)
            self._scene = mujoco.MjvScene(self._model, maxgeom=2000)
            self._context = self._open_buffer()
            # ids need no smooth edges: a buffer with one sample a pixel is twice as fast
            self._model.vis.quality.offsamples = 0
            self._id_context = self._open_buffer()
        except Exception as error:
            self._gl.free()
            self._gl = None
            raise RenderingUnavailable(f"MuJoCo cannot draw here: {error}") from error
        self._size = (640, 480)
        self._wide = wide
        self._painted: dict[str, Surface] = {}
        self._printed: list[Print | None] = [None] * PRINT_SLOTS
        self._slots: dict[Print, int] = {}

    def _open_buffer(self) -> Any:
        mujoco = self._mujoco
        context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        return context

    def render(self, scene: Scene, width: int = 640, height: int = 480) -> Frame:
        """One picture of `width` x `height` pixels.

        RuntimeError after close(), ValueError for a wide scene where `wide` was not asked for.
        """
        if self._gl is None:
            raise RuntimeError("the renderer is closed")
        if scene.surroundings is not None and not self._wide:
            raise ValueError("a scene of the wide look needs SceneRenderer(wide=True)")
        mujoco = self._mujoco
        self._gl.make_current()
        if (width, height) != self._size:  # an exact fit: the whole buffer is resolved each time
            self._size = (width, height)
            mujoco.mjr_resizeOffscreen(width, height, self._context)
            mujoco.mjr_resizeOffscreen(width, height, self._id_context)
        self._paint(scene)
        self._set_camera(scene.camera, width / height)
        self._set_lights(scene)
        drawn = self._scene
        drawn.ngeom = 0
        self._add_room(scene)
        for i, thing in enumerate(scene.objects):
            self._add_object(thing, i)
        for thing in scene.clutter:
            self._add_object(thing, _BACKGROUND)
        rect = mujoco.MjrRect(0, 0, width, height)
        rgb = np.empty((height, width, 3), np.uint8)
        self._flag(segment=False, shadow=any(light.shadow for light in scene.lights))
        self._draw(rect, self._context, rgb, None)

        self._flag(segment=True, shadow=False)
        buffer = np.empty((height, width), np.float32)
        labels = self._segments(rect, buffer)
        areas = self._full_areas(scene, rect, labels)
        rgb, labels = np.ascontiguousarray(rgb[::-1]), np.ascontiguousarray(labels[::-1])
        depth = np.ascontiguousarray(_metres(buffer)[::-1])
        K = scene.camera.intrinsics(width, height)
        return Frame(
            rgb=shade(rgb, depth, labels, K, scene),
            depth=depth,
            labels=labels,
            K=K,
            camera_pose=scene.camera.matrix(),
            full_areas=areas,
        )

    def close(self) -> None:
        """Free the GL context. May be called twice."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._id_context.free()
            self._gl.free()
            self._gl = None

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _paint(self, scene: Scene) -> None:
        """Upload the textures that differ from the last scene's."""
        for i, (name, size) in enumerate(ROOM_TEXTURES.items()):
            surface: Surface = getattr(scene.room, name)
            if self._painted.get(name) != surface:
                self._upload(i, paint_surface(surface, size))
                self._painted[name] = surface
        self._slots = {}
        for thing in (*scene.objects, *scene.clutter):
            slot = len(self._slots)
            if thing.print is None or thing.print in self._slots or slot == PRINT_SLOTS:
                continue
            if self._printed[slot] != thing.print:
                self._upload(len(ROOM_TEXTURES) + slot, paint_print(thing.print))
                self._printed[slot] = thing.print
            self._slots[thing.print] = slot

    def _upload(self, texture: int, pixels: NDArray[np.uint8]) -> None:
        start = self._model.tex_adr[texture]
        self._model.tex_data[start : start + pixels.size] = pixels.ravel()
        self._mujoco.mjr_uploadTexture(self._model, self._context, texture)

    def _set_camera(self, camera: Camera, aspect: float) -> None:
        pose = camera.matrix()
        half = _NEAR * np.tan(np.radians(camera.fov) / 2)
        for eye in self._scene.camera:
            eye.pos = pose[:3, 3]
            eye.forward, eye.up = pose[:3, 2], -pose[:3, 1]
            eye.frustum_center, eye.frustum_width = 0.0, half * aspect
            eye.frustum_bottom, eye.frustum_top = -half, half
            eye.frustum_near, eye.frustum_far = _NEAR, _FAR
            eye.orthographic = 0

    def _set_lights(self, scene: Scene) -> None:
        self._scene.nlight = len(scene.lights)
        for light, lamp in zip(scene.lights, self._scene.lights, strict=False):
            lamp.type = self._mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
            lamp.dir = light.direction
            lamp.pos = -3.0 * np.array(light.direction)
            lamp.attenuation = (1.0, 0.0, 0.0)
            lamp.cutoff, lamp.exponent = 90.0, 0.0
            lamp.diffuse, lamp.ambient = light.diffuse, light.ambient
            lamp.specular = (light.specular,) * 3
            lamp.headlight, lamp.texid = 0, -1
            lamp.castshadow = int(light.shadow)

    def _add_room(self, scene: Scene) -> None:
        room = scene.room
        x, y = room.table_size
        upright = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
        white = (1.0, 1.0, 1.0, 1.0)
        places = [
            ("table", np.diag([x / 2, y / 2, 0.04]), (0.0, 0.0, 0.0)),
            ("floor", np.diag([6.0, 6.0, 0.1]), (0.0, 0.0, -0.74)),
            ("wall", upright @ np.diag([6.0, 3.0, 0.1]), (0.0, room.wall_distance, 1.5)),
        ]
        around = scene.surroundings
        if around is not None and around.name:
            places = places[:1]  # the photographed room is behind
        for i, (_, matrix, position) in enumerate(places):
            geom = self._add_geom(self._meshes["slab"][0], position, matrix, white, _BACKGROUND)
            geom.matid, geom.texcoord = i, 1
            geom.specular, geom.shininess = 0.1, 0.1
            geom.castshadow = 0

    def _add_object(self, thing: SceneObject, segment: int) -> None:
        matrix = np.array(thing.rotation) * np.array(thing.scale)
        parts = shapes()[thing.shape].parts
        slot = None if thing.print is None else self._slots.get(thing.print)
        for mesh, part, paint in zip(self._meshes[thing.shape], parts, thing.paints, strict=True):
            printed = slot is not None and part.paint == "main"
            color = (1.0, 1.0, 1.0, paint[3]) if printed else paint  # the print holds the colour
            geom = self._add_geom(mesh, thing.position, matrix, color, segment)
            geom.specular, geom.shininess = part.shine, 0.3 + 0.5 * part.shine
            if slot is not None and printed:
                geom.matid, geom.texcoord = len(ROOM_TEXTURES) + slot, 1

    def _add_geom(
        self,
        mesh: int,
        position: Sequence[float],
        matrix: NDArray[np.float64],
        paint: Sequence[float],
        segment: int,
    ) -> Any:
        drawn, mujoco = self._scene, self._mujoco
        geom = drawn.geoms[drawn.ngeom]
        kind = mujoco.mjtGeom.mjGEOM_MESH
        mujoco.mjv_initGeom(
            geom, kind, np.ones(3), np.array(position, float), matrix.ravel(),
            np.array(paint, np.float32),
        )  # fmt: skip
        geom.dataid, geom.segid, geom.matid = 2 * mesh, segment, -1
        geom.category = mujoco.mjtCatBit.mjCAT_DYNAMIC
        geom.objtype, geom.objid = mujoco.mjtObj.mjOBJ_GEOM, drawn.ngeom
        geom.transparent = int(paint[3] < 1)
        if geom.transparent:
            offset = np.array(position) - np.array(drawn.camera[0].pos)
            geom.camdist = float(np.linalg.norm(offset))
        drawn.ngeom += 1
        return geom

    def _flag(self, segment: bool, shadow: bool) -> None:
        flags, names = self._scene.flags, self._mujoco.mjtRndFlag
        flags[:] = 0
        flags[names.mjRND_SHADOW] = shadow
        flags[names.mjRND_SEGMENT] = flags[names.mjRND_IDCOLOR] = segment

    def _draw(
        self,
        rect: Any,
        context: Any,
        colors: NDArray[np.uint8],
        depth: NDArray[np.float32] | None,
    ) -> None:
        """Draw what is listed and read it back, bottom row first."""
        mujoco = self._mujoco
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        mujoco.mjr_render(rect, self._scene, context)
        mujoco.mjr_readPixels(colors, depth, rect, context)

    def _segments(self, rect: Any, depth: NDArray[np.float32] | None) -> NDArray[np.int32]:
        """Draw the ids, bottom row first: 0 = no object, i + 1 = object i."""
        ids = np.empty((rect.height, rect.width, 3), np.uint8)
        self._draw(rect, self._id_context, ids, depth)
        labels = ids[..., 0].astype(np.int32) | ids[..., 1].astype(np.int32) << 8
        labels[ids[..., 2] > 0] = 0
        return labels

    def _full_areas(self, scene: Scene, rect: Any, labels: NDArray[np.int32]) -> NDArray[np.int64]:
        """Pixels of each object alone. Only objects whose boxes meet are drawn again, as many in
        one pass as do not overlap."""
        n = len(scene.objects)
        areas = np.bincount(labels.ravel(), minlength=n + 1)[1 : n + 1].astype(np.int64)
        things = [*scene.objects, *(t for t in scene.clutter if t.size)]
        aspect = rect.width / rect.height
        boxes = [_box_in_picture(thing, scene.camera, aspect) for thing in things]
        meets = np.array([[_overlap(a, b) for b in boxes] for a in boxes])
        meets = meets.reshape(len(things), len(things))
        np.fill_diagonal(meets, False)
        waiting = [i for i in range(n) if meets[i].any()]
        while waiting:
            layer: list[int] = []
            for i in waiting:
                if not meets[i, layer].any():
                    layer.append(i)
            waiting = [i for i in waiting if i not in layer]
            self._scene.ngeom = 0
            for i in layer:
                self._add_object(scene.objects[i], i)
            found = np.bincount(self._segments(rect, None).ravel(), minlength=n + 1)
            areas[layer] = found[1:][layer]
        if scene.surroundings is not None:  # objects of the wide look may be cut by the edge
            areas = np.array(
                [round(a * _times_cut(b, aspect)) for a, b in zip(areas, boxes[:n], strict=True)]
            ).astype(np.int64)
        return areas


def _box_in_picture(thing: SceneObject, camera: Camera, aspect: float) -> NDArray[np.float64]:
    points = shapes()[thing.shape].vertices * np.array(thing.scale)
    points = points @ np.array(thing.rotation).T + np.array(thing.position)
    return project_box(points, camera, aspect) + [-0.004, -0.004, 0.004, 0.004]


def _times_cut(box: NDArray[np.float64], aspect: float) -> float:
    """How many times larger a box is than what of it lies in the picture."""
    inside = np.minimum(box[2:], [1.0, 1 / aspect]) - np.maximum(box[:2], 0.0)
    return float(np.prod(box[2:] - box[:2]) / np.prod(np.maximum(inside, 1e-3)))


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.all(np.minimum(a[2:], b[2:]) > np.maximum(a[:2], b[:2])))


def _metres(buffer: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reversed depth buffer (1 = near, 0 = far) to metres; nan where nothing was drawn."""
    with np.errstate(divide="ignore"):
        depth = _NEAR * _FAR / (_NEAR + buffer.astype(np.float64) * (_FAR - _NEAR))
    depth[buffer <= 0] = np.nan
    return depth.astype(np.float32)
