"""What is wrong with a dataset: the first refusal stops a load, a validation collects them all."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

from .records import DatasetError

EXAMPLES = 3  # of each sort are kept


class Level(str, enum.Enum):
    """How much a finding weighs."""

    REFUSED = "refused"  # loading, or reading the sample, ends in a DatasetError
    LEFT_OUT = "left out"  # loading goes on without it, as the official loader does
    WARNING = "warning"  # loaded as it is, and most likely wrong
    HANDLED = "handled"  # a known peculiarity of published files that loading copes with


@dataclass
class Finding:
    """One sort of trouble: how often it was met, and the first few of it (file and id)."""

    level: Level
    what: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Findings:
    """Collects findings by sort; unless told to ``collect``, a refusal is raised instead."""

    def __init__(self, *, collect: bool = False) -> None:
        self._collect = collect
        self._of: dict[tuple[Level, str], Finding] = {}

    def refuse(self, what: str, path: Path, detail: str) -> None:
        """Raises DatasetError(path: detail) when loading; the caller leaves the thing out."""
        if not self._collect:
            raise DatasetError(f"{path}: {detail}")
        self.add(Level.REFUSED, what, f"{path.name}: {detail}")

    def add(self, level: Level, what: str, example: str) -> None:
        """Counts one of the sort ``what``."""
        finding = self._of.setdefault((level, what), Finding(level, what))
        finding.count += 1
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def left_out(self, what: str, example: str) -> None:
        """Counts something that is skipped."""
        self.add(Level.LEFT_OUT, what, example)

    def sorted(self) -> list[Finding]:
        """All findings: the gravest level first, within it by name."""
        levels = list(Level)
        return sorted(self._of.values(), key=lambda f: (levels.index(f.level), f.what))

    def count(self, level: Level) -> int:
        """How many there are of a level, over all sorts."""
        return sum(finding.count for finding in self._of.values() if finding.level is level)

    def summary(self, level: Level) -> str:
        """The counts of one level in a line: "3 crowds, 1 empty sentences"."""
        return ", ".join(f"{f.count} {f.what}" for f in self.sorted() if f.level is level)
