# What a checkout needs to run without a ROS installation: everything goes into .venv. On a robot use colcon instead.
#   PYTHON=python3.12      the interpreter to build .venv with (3.10 to 3.13)
#   PIP_FLAGS="..."        more flags for pip install
#   ARGS="--seed 3"        more arguments for `grex demo` or, with `make test`, for pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help demo test lint venv clean

VENV := .venv
STAMPS := $(VENV)/stamps
VENV_PYTHON := $(VENV)/bin/python
say = @printf 'grex_ros: %s\n'

# A sourced ROS installation would be mixed with the wheels, and another environment's wheels with ours.
ifdef AMENT_PREFIX_PATH
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH RMW_IMPLEMENTATION
endif
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# Without it most camera images are lost between processes: see the file.
export FASTDDS_DEFAULT_PROFILES_FILE := $(CURDIR)/config/fastdds.xml

requirements := requirements/base.txt requirements/dev.txt requirements/ros.txt
interfaces := tools/build_interfaces.py cmake/ros_wheels.cmake
# Folders too: a file that is added or removed must be linked or unlinked.
package := package.xml CMakeLists.txt grex_ros/__init__.py \
	$(wildcard msg srv scripts config launch msg/*.msg srv/*.srv scripts/grex* launch/*.py config/*)

help:
	@echo 'make demo    a camera, the node and seven commands; answers in out/demo'
	@echo 'make test    lint and all tests'
	@echo 'make lint    ruff and mypy'
	@echo 'make venv    build .venv (demo and test do it by themselves)'
	@echo 'make clean   remove .venv, out and caches'

demo: venv
	@$(VENV)/bin/grex demo $(ARGS)

test: lint
	$(say) 'tests'
	@$(VENV_PYTHON) -m pytest tests $(ARGS)

lint: venv
	$(say) 'ruff and mypy'
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy

venv: $(STAMPS)/grex_ros $(STAMPS)/gl

$(STAMPS)/venv:
	$(say) 'making $(VENV)'
	@sh tools/create_venv.sh $(VENV) $(PYTHON)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/requirements: $(STAMPS)/venv $(requirements)
	$(say) 'installing ROS 2, PyTorch and the rest from wheels (about two minutes)'
	@$(VENV_PYTHON) -m pip install -qq --no-compile --disable-pip-version-check --no-input $(PIP_FLAGS) \
		$(addprefix -r ,$(requirements))
	@touch $@

$(STAMPS)/vision_msgs: $(STAMPS)/requirements $(interfaces) interfaces/vision_msgs/msg $(wildcard interfaces/vision_msgs/msg/*)
	$(say) 'generating vision_msgs (about a minute)'
	@$(VENV_PYTHON) tools/build_interfaces.py vision_msgs interfaces/vision_msgs std_msgs geometry_msgs
	@touch $@

$(STAMPS)/grex_ros: $(STAMPS)/vision_msgs $(interfaces) $(package)
	$(say) 'building our messages (about a minute)'
	@$(VENV_PYTHON) tools/build_interfaces.py .
	@touch $@

# Only the demo's camera and the scenes of training need it, so that going without is no error here.
$(STAMPS)/gl: $(STAMPS)/requirements tools/fetch_gl.py
	$(say) 'looking for a renderer'
	@if $(VENV_PYTHON) tools/fetch_gl.py; then touch $@; fi

clean:
	rm -rf $(VENV) out build install log .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find grex_ros training tests tools launch -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
