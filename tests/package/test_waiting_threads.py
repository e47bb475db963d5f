"""How long threads spin while they wait: what this package asks for reaches OpenMP."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("environment", "imports", "spins"),
    [
        ({}, "grex_ros, torch", "5000"),
        ({"GOMP_SPINCOUNT": "77"}, "grex_ros, torch", "77"),
        ({"OMP_WAIT_POLICY": "passive"}, "grex_ros, torch", "0"),
        ({}, "torch", "300000"),  # the library's own
    ],
)
def test_openmp_hears_of_it(environment: dict[str, str], imports: str, spins: str) -> None:
    kept = {n: v for n, v in os.environ.items() if n not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told = subprocess.run(
        [sys.executable, "-c", f"import {imports}"],
        env={**kept, **environment, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stderr
    assert f"GOMP_SPINCOUNT = '{spins}'" in told
