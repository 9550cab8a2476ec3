#!/usr/bin/env bash
# This project itself: the package by reference to these sources, and the command `recsys`.
set -euo pipefail
uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --reinstall --editable .

# A lookup host installs `.[serving]` by resolving it. Asked for once, the metadata of what the lock names
# stays in uv's cache, and that installation works without a network too.
resolve_serving() {
  uv pip compile "$@" setup.py --extra serving --quiet --output-file /dev/null --python-version 3.11 \
    --constraint deploy/setup/requirements.lock --build-constraint deploy/setup/requirements.lock
}
resolve_serving --offline 2>/dev/null || resolve_serving

# benchmarks/NAME.py runs as a file and as a module; it is no part of the package.
echo "$PWD" > "$(.venv/bin/python -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth"
