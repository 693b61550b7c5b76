# Two commands for newcomers: `make demo` and `make test`. Each makes its own virtual environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup demo test test-device test-systemd test-cross test-pythons test-tensorflow test-deploy fuzz soak results lint format clean

help:
	@echo "make demo         enrol, export, verify, run and bench on sample photos"
	@echo "make test         set everything up and run the tests"
	@echo "make test-device  the device part alone, in an environment without the rest"
	@echo "make test-systemd the device's unit under a systemd of its own; root"
	@echo "make test-pythons the same bytes from every Python on the PATH, 3.11 or newer (PYTHONS='python3.13')"
	@echo "make test-deploy  every fault of a deploy, over SSH to network namespaces; root, a long while"
	@echo "make fuzz         coverage-guided fuzzing of every parser of strangers' bytes (SECONDS=600; for the night)"
	@echo "make test-cross   the C code on aarch64 and Cortex-M, emulated (CROSS=--json)"
	@echo "make soak         up to eight hours at a door in one, then 1,000 camera faults (for the night)"
	@echo "make test-tensorflow  TensorFlow's converter writes the same network"
	@echo "make results      measure the shipped weights again (DATA=folder), write docs/results.md and the tables"
	@echo "make setup        the environment for development in $(VENV)"
	@echo "make lint format clean"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.workstation: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing what enrolment needs into $(VENV) ..."
	$(PIP) -e '.[enroll,models]'
	@touch $@

$(VENV)/.development: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the development environment into $(VENV) (torch is large) ..."
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.workstation

setup: $(VENV)/.development

demo/photos: | $(BIN)/python
	$(BIN)/python scripts/fetch_photos.py $@

demo: $(VENV)/.workstation demo/photos
	$(BIN)/python scripts/demo.py demo

test: $(VENV)/.development demo/photos
	$(BIN)/python -m pytest

# A second environment with tflite-runtime, OpenCV and numpy 1 only: what a small device has.
test-device: $(VENV)/.development
	sh scripts/test_device.sh $(PYTHON) $(BIN)/python

# Debian: apt install systemd systemd-container. As root; a container boots, nothing outside it changes.
test-systemd: demo/soak/day.avi
	$(BIN)/python -m benchmarks.scenes demo/soak/visit.avi demo/photos/obama3.jpg
	sh scripts/test_systemd.sh demo/soak/obama.hvb demo/soak/visit.avi $(abspath $(BIN)/python)

# Debian: apt install openssh-server iproute2 fdisk dosfstools mtools e2fsprogs adb gcc. Each step of a deploy is cut off;
# twenty devices at once; cards and phones; and all packages of a device, from PyPI. Ends after two hours at the latest.
test-deploy: $(VENV)/.development
	HYPERVERIFY_ALL_FAULTS=1 timeout --signal=INT 2h $(BIN)/python -m pytest -s -m '' tests/link tests/fuzz

# What was found lies in build/fuzz, and so does what the next run begins with.
fuzz: $(VENV)/.development
	$(PIP) -e '.[fuzz]'
	$(BIN)/python tests/fuzz/fuzz.py $(or $(SECONDS),600) build/fuzz $(TARGETS)

# The C code on aarch64 and Cortex-M in emulation. Needs the Debian packages that docs/export.md names.
# Every format twice here and once by each further Python; what they import comes from constraints.txt.
test-pythons: $(VENV)/.workstation
	$(BIN)/python scripts/test_pythons.py .venv-pythons $(PYTHONS)

test-cross: $(VENV)/.workstation
	$(BIN)/python scripts/test_cross.py $(CROSS)

# TensorFlow's converter as a reference, in an environment of its own.
test-tensorflow: $(VENV)/.development
	[ -x .venv-tensorflow/bin/python ] || $(PYTHON) -m venv .venv-tensorflow
	.venv-tensorflow/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tensorflow]'
	HYPERVERIFY_TENSORFLOW=$(CURDIR)/.venv-tensorflow/bin/python $(BIN)/python -m pytest tests/export/test_references.py

# Memory, open files and watchdog of a device's process, and cameras that fail. HOURS (of video), SECONDS (by the
# clock) and FAULTS make it shorter; FPS, 5 frames a second of video, makes it longer. WITH=.venv-device/bin/python, which
# test-device makes, is a device's environment: memory depends on what is installed.
soak: demo/soak/day.avi
	$(or $(WITH),$(BIN)/python) -m benchmarks.soak demo/soak/obama.hvb demo/soak/day.avi demo/soak/soak.json \
		--hours $(or $(HOURS),8) --seconds $(or $(SECONDS),3600) --faults $(or $(FAULTS),1000)

demo/soak/day.avi: $(VENV)/.development | demo/photos
	mkdir -p demo/soak
	$(BIN)/toolkit enroll obama demo/photos/obama.jpg demo/photos/obama2.jpg --out demo/soak --replace
	$(BIN)/python -m benchmarks.scenes demo/soak/day.avi demo/photos/obama3.jpg demo/photos/biden.jpg \
		--fps $(or $(FPS),5) --shrink 2 --empty 12

# DATA holds lfw/view1.parquet, lfw/pairsDevTest.txt, lfw/view2.parquet, lfw/pairs.txt, faces/*.parquet (those named utk-* tell age,
# sex and ethnicity) and photos/; without it only the documents are written again.
results: $(VENV)/.development
	$(BIN)/python scripts/results.py $(if $(DATA),--data "$(DATA)")

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-device .venv-pythons .venv-tensorflow demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
