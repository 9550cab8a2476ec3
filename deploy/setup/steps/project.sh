#!/usr/bin/env bash
# This project itself: the package by reference to these sources, and the command `recsys`.
set -euo pipefail
uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --reinstall --editable .
