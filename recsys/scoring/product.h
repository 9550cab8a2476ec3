// Users times items: a tile in float32, and single pairs in float64.
#pragma once

#include "job.h"
#include "lanes.h"

namespace {

#if defined(__AVX512F__)
constexpr int ROWS = 14;  // 28 sums, 2 items, 1 user in 32 registers
#else
constexpr int ROWS = 6;  // 12 sums, 2 items, 1 user in 16 registers
#endif
constexpr int64_t WIDE = 2 * LANES;      // items that a product takes at a time
constexpr int64_t STRIDE = BLOCK + WIDE;  // of a tile's rows: a power of two would have them share few cache lines

// Eight partial sums: plain.py adds in the same order.
INLINE double dot(const double* user, const float* item, int64_t dim) {
  Doubles part = {};
  int64_t d = 0;
  for (; d + 8 <= dim; d += 8)
    part += *reinterpret_cast<const LooseDoubles*>(user + d) *
            __builtin_convertvector(*reinterpret_cast<const LooseEight*>(item + d), Doubles);
  for (int i = 0; d < dim; d++, i++) part[i] += user[d] * static_cast<double>(item[d]);
  return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

// Item vectors first .. first + BLOCK, by groups of WIDE items: their first numbers, then their second ones.
void pack_items(const Job& job, int64_t first, float* to) {
  for (int64_t group = 0; group < BLOCK; group += WIDE, to += job.dim * WIDE) {
    const int64_t there = std::clamp<int64_t>(job.known - first - group, 0, WIDE);
    const float* from = job.item_vectors + (first + group) * job.dim;
    if (there < WIDE) std::fill_n(to, job.dim * WIDE, 0.0f);
    for (int64_t j = 0; j < there; j++)
      for (int64_t d = 0; d < job.dim; d++) to[d * WIDE + j] = from[j * job.dim + d];
  }
}

// tile = base + users times items, for ROWS users and WIDE items.
INLINE void multiply(const float* users, const float* items, int64_t dim, const float* const* base, int64_t first,
                     float* tile) {
  Floats sums[ROWS][2];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
    sums[r][0] = load(base[r] + first);
    sums[r][1] = load(base[r] + first + LANES);
  }
  for (int64_t d = 0; d < dim; d++, users += ROWS, items += WIDE) {
    const Floats left = load(items), right = load(items + LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      const Floats user = all(users[r]);
      sums[r][0] = times_plus(user, left, sums[r][0]);
      sums[r][1] = times_plus(user, right, sums[r][1]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++) {
    store(tile + r * STRIDE, sums[r][0]);
    store(tile + r * STRIDE + LANES, sums[r][1]);
  }
}

}  // namespace
