"""Where the demo finds what comes with the package."""

from __future__ import annotations

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]


def shipped(path: str) -> Path:
    """A file or folder of the checkout or of the installed package; FileNotFoundError if absent."""
    places = [_CHECKOUT / path]
    try:
        from ament_index_python.packages import (  # type: ignore[import-not-found,unused-ignore]
            get_package_share_directory,
        )

        places.append(Path(get_package_share_directory("grex_ros")) / path)
    except (ImportError, LookupError, OSError):  # no ROS, not installed, or no AMENT_PREFIX_PATH
        pass
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"{path} is in none of {', '.join(map(str, places))}")


def demo_bag() -> Path:
    """The recorded camera."""
    return shipped("data/demo_bag")
