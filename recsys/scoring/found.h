// The candidates of a user: which scores of the float32 pass can be among the best M.
#pragma once

#include <cmath>
#include <functional>
#include <vector>

#include "job.h"
#include "lanes.h"

namespace {

// How many scores reach the bound; beyond the last one lies a vector of room that does not.
INLINE int64_t count(const float* scores, int64_t size, float bound) {
  int64_t reached = 0;
  for (int64_t j = 0; j < size; j += LANES) reached += __builtin_popcount(at_least(load(scores + j), all(bound)));
  return reached;
}

// A bound that at least m of the scores reach, and few more do. Between the two ends their number falls about as
// an exponential does.
float mth(const float* scores, int64_t size, int64_t m) {
  Floats most = all(HIDDEN), least = all(FLT_MAX);
  for (int64_t j = 0; j < size; j += LANES) {
    const Floats values = load(scores + j);
    most = values > most ? values : most;
    least = (values < least) & (values >= LOWEST) ? values : least;
  }
  float low = least[0], high = most[0];
  for (int i = 1; i < LANES; i++) {
    high = std::max(high, most[i]);
    low = std::min(low, least[i]);
  }
  int64_t reached = count(scores, size, low), beyond = 1;
  for (int step = 0; step < 16 && reached > m + m / 32; step++) {
    const float ratio = static_cast<float>(reached);
    float part = 0.5f;
    if (step % 3 < 2) part = std::log(ratio / (m + m / 64)) / std::log(ratio / beyond);
    const float middle = low + (high - low) * part;
    if (!(low < middle && middle < high)) break;
    const int64_t now = count(scores, size, middle);
    if (now >= m) {
      low = middle;
      reached = now;
    } else {
      high = middle;
      beyond = std::max<int64_t>(now, 1);
    }
  }
  if (reached <= m + m / 8) return low;
  std::vector<float> copy(scores, scores + size);
  std::nth_element(copy.begin(), copy.begin() + (m - 1), copy.end(), std::greater<float>());
  return copy[m - 1];
}

// The candidates of a user: every item so far whose score is at least the threshold, in the items' order.
struct Found {
  Buffer<float> scores;
  Buffer<int32_t> nums;
  int64_t size, limit;
  float bound;      // what a candidate must reach
  float threshold;  // what the next one must reach

  void reserve(int64_t wanted) {
    scores.reserve(wanted, size);
    nums.reserve(wanted, size);
  }

  void start(int64_t m) {
    size = 0;
    limit = 2 * m;
    reserve(limit + BLOCK + LANES);
    bound = threshold = LOWEST;
  }

  // A tile's row. Few pass after the first tiles, so whole groups are asked at once whether any does.
  INLINE void scan(const float* row, int64_t first) {
    const Floats least = all(threshold);
    for (int64_t j = 0; j < BLOCK; j += 64) {
      uint64_t passing = 0;
#pragma GCC unroll 16
      for (int i = 0; i < 64; i += LANES) passing |= uint64_t{at_least(load(row + j + i), least)} << i;
      for (; passing; passing &= passing - 1) {
        const int64_t i = j + __builtin_ctzll(passing);
        scores[size] = row[i];
        nums[size++] = static_cast<int32_t>(first + i);
      }
    }
  }

  void raise(float mth_score, double margin) {
    const double least = static_cast<double>(mth_score) - margin;
    if (!(least > bound)) return;
    bound = static_cast<float>(least);
    if (bound > least) bound = std::nextafter(bound, LOWEST);
    threshold = std::max(threshold, bound);
  }

  // The first tile's row: its m-th best, before anything is kept.
  void begin(const float* row, int64_t m, double margin) {
    if (m <= BLOCK && count(row, BLOCK, LOWEST) >= m) raise(mth(row, BLOCK, m), margin);
  }

  // Where no score is below 0 and m items are kept, a later one of score 0 comes after them all.
  void want_more_than_nothing(int64_t m) {
    if (size >= m) threshold = std::max(threshold, FLT_MIN);
  }

  // Drop what cannot be among the best m: scores may be off by half the margin.
  void tighten(int64_t m, double margin) {
    if (size < m) return;
    std::fill_n(scores.get() + size, LANES, HIDDEN);
    raise(mth(scores.get(), size, m), margin);
    int64_t kept = 0;
    for (int64_t j = 0; j < size; j++) {
      const float score = scores[j];
      scores[kept] = score;
      nums[kept] = nums[j];
      kept += score >= bound;
    }
    size = kept;
    limit = 2 * size;  // many ties: look again when they are half as many more
    reserve(limit + BLOCK + LANES);
  }
};

}  // namespace
