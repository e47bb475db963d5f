"""A file does one thing and can be read in one sitting."""

from __future__ import annotations

from tests.package.source_imports import ROOT, source_files

LIMIT = 400
# Longer files, and why splitting them would not help a reader.
LONGER = {
    "grex_ros/scenes/wording.py": "one grammar, from a program to a sentence",
}


def test_files_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in source_files("grex_ros")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LIMIT
    }
    assert set(long) <= set(LONGER), "split it, or say here why not"
    assert all(lines <= LIMIT * 1.25 for lines in long.values()), long


def test_the_package_module_only_extends_its_path() -> None:
    """The generated package of the same name may win over ours: nothing may depend on it. How long
    torch's threads spin is no more than a wish."""
    lines = (ROOT / "grex_ros" / "__init__.py").read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if line and not line.startswith("#")]
    path, wish = code[:3], code[3:]
    assert path[:2] == ["import os", "import pkgutil"]
    assert path[2] == "__path__ = pkgutil.extend_path(__path__, __name__)"
    assert len(wish) == 2 and all("os.environ" in line for line in wish)
