import os
import pkgutil

# The generated message modules live in another folder of the same package name.
__path__ = pkgutil.extend_path(__path__, __name__)

# While torch's threads wait for each other they spin, by default for milliseconds: on cores that
# the camera and the planner of a robot keep busy, an answer then takes seconds. This is a fraction
# of a millisecond, up to a fifth slower where nothing else runs. OpenMP reads it when torch is
# imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
