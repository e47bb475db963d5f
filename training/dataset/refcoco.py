"""Reads the references of RefCOCO, RefCOCO+ and RefCOCOg: pickles written by Python 2.

    ROOT/refcoco/refs(unc).p          also refs(google).p
    ROOT/refcoco+/refs(unc).p
    ROOT/refcocog/refs(umd).p         also refs(google).p
    ROOT/<each>/instances.json        COCO: images, annotations, categories

A pickle is a program. The unpickler here runs only what builds lists, dicts, tuples, numbers and
text; a file that asks for any class or function is refused before it gets it.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

from .coco import of_kind
from .records import DatasetError


class _PlainUnpickler(pickle.Unpickler):
    """Builds containers, numbers and text; no class and no function has a name here."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(
            f"asks for {module_name}.{global_name}; only lists, dicts, numbers and text are read"
        )


def read_refs(path: Path) -> list[Any]:
    """The references of a ``refs(...).p``, each a dict with a bare int as ``ann_id``.

    Text of Python 2 is taken as UTF-8, of which ASCII is a part; a byte that is neither becomes
    U+FFFD. Raises DatasetError if the file is missing, is no pickle, holds no list, or asks for a
    class or a function.
    """
    try:
        with path.open("rb") as file:
            content = _PlainUnpickler(file, encoding="utf-8", errors="replace").load()
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such file") from error
    except Exception as error:  # broken pickles raise errors of any sort
        raise DatasetError(f"{path}: cannot be read as a plain pickle ({error})") from error
    refs: list[Any] = of_kind(content, list, path)
    return refs
