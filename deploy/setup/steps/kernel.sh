#!/usr/bin/env bash
# The compiled row operations of the embedding tables, the compiled stage 1, the content hash of lists and their encoding
# for the lookup, beside their sources. Without them training runs in torch, scoring and hashing in numpy, encoding in
# Arrow. For the level of this machine: a library that another machine cannot run is refused there, and said so.
set -euo pipefail

has() { grep -qw "$1" /proc/cpuinfo; }
level=()
if has avx2 && has fma && has bmi2; then level=(-march=x86-64-v3); fi
# No contraction: a product and a sum that are rounded once give other bits on other machines.
compile() {
  local folder=$1 source=$2 library=$3
  shift 3
  g++ -std=c++17 -O3 "$@" -ffp-contract=off -fno-math-errno -fPIC -shared -Wall -Wextra \
    "$folder/$source" -o "$folder/$library.new"
  mv "$folder/$library.new" "$folder/$library"
  .venv/bin/python -I -c 'import ctypes, sys; print(sys.argv[1], "version", ctypes.CDLL(sys.argv[1]).version())' \
    "$PWD/$folder/$library"
}
compile recsys row_hashes.cpp librowhashes.so
compile recsys/release encode.cpp libencode.so
compile recsys/embeddings rows.cpp librows.so "${level[@]}" -fopenmp
# AVX-512 doubles what a matrix product does; it brings nothing to the rows, which wait for memory.
if has avx512f && has avx512vl && has avx512bw && has avx512dq && has avx512cd; then level=(-march=x86-64-v4); fi
compile recsys/scoring select.cpp libselect.so "${level[@]}" -pthread -Wno-psabi
