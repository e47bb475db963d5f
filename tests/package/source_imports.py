"""What the source files import, read from their syntax trees: nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def source_files(folder: str) -> list[Path]:
    """The Python files below a folder of the checkout."""
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """``grex_ros/model/rela.py`` -> ``grex_ros.model.rela``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, at its top or anywhere else."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield module
            # `from grex_ros import model` names a module, too
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str:
    """The part of the house that a module belongs to: ``model``, ``ros``, ``training``, ..."""
    names = module.split(".")
    if names[0] == "grex_ros":
        return names[1] if len(names) > 1 else "grex_ros"
    return names[0]
