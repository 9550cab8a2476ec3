#!/usr/bin/env bash
# The compiled row operations of the embedding tables, beside their source. Without them training runs in torch.
# AVX2 where this machine has it: a library that another machine cannot run is refused there, and said so.
set -euo pipefail

folder=recsys/embeddings
level=()
if grep -qw avx2 /proc/cpuinfo; then level=(-march=x86-64-v3); fi
# No contraction: a product and a sum that are rounded once give other bits on other machines.
g++ -std=c++17 -O3 "${level[@]}" -ffp-contract=off -fno-math-errno -fopenmp -fPIC -shared -Wall -Wextra \
  "$folder/rows.cpp" -o "$folder/librows.so.new"
mv "$folder/librows.so.new" "$folder/librows.so"
.venv/bin/python -I -c 'import ctypes, sys; print("version", ctypes.CDLL(sys.argv[1]).version())' "$PWD/$folder/librows.so"
