#!/usr/bin/env bash
# Horovod's wheel: built once for this Python, torch, platform and patch, then reused.
# HOROVOD_GPU_OPERATIONS=NCCL builds the wheel for a cluster (docs/setup.md).
set -euo pipefail

folder=$(deploy/setup/horovod-wheel-folder.sh)
if ! compgen -G "$folder/horovod-*.whl" >/dev/null; then
  build=$CACHE/build
  rm -rf "$build"
  mkdir -p "$build" "$folder"

  # pip asks the sdist's own setup.py for its name, which needs the setuptools in .venv.
  deploy/setup/lock-without-horovod.sh --only >"$build/horovod.txt"
  "$CACHE/uv/bin/pip" --python .venv/bin/python download --quiet --disable-pip-version-check \
    --no-deps --no-binary :all: --no-build-isolation --require-hashes \
    -r "$build/horovod.txt" -d "$build"
  tar -xzf "$build"/horovod-*.tar.gz -C "$build"
  sources=$(echo "$build"/horovod-*/)
  patch --quiet -p1 -d "$sources" <deploy/setup/horovod-0.28.1.patch

  export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
  export HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1
  # Horovod's default is 8 compilers at once, 0.6 GB each.
  export MAKEFLAGS="${MAKEFLAGS_FOR_HOROVOD:--j$(nproc)}"
  uv build --quiet --wheel --no-build-isolation --python .venv/bin/python -o "$build/wheel" "$sources"
  mv "$build"/wheel/horovod-*.whl "$folder/"
  rm -rf "$build"
fi

uv pip install --quiet --python .venv/bin/python --no-deps --reinstall "$(echo "$folder"/horovod-*.whl)"
# A wheel that was built for another torch installs, and fails here.
.venv/bin/python -I -c 'import horovod.torch as hvd; print("gloo", bool(hvd.gloo_built()), "nccl", bool(hvd.nccl_built()))'
