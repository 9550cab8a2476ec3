// What recsys/scoring/select.py hands over, and how the work on it is cut.
//
// Shape suffixes:
//   B users   N catalogue (items and padding)   D embedding width
#pragma once

#include <cstdint>

extern "C" {

// A sparse matrix, its rows one after the other; and what its values weigh.
struct Sparse {
  const int64_t* offsets;
  const int32_t* nums;
  const double* values;
  double weight;
};

// The history of each user; and what each event adds to its own item, null where nothing does.
struct Events {
  const int64_t* offsets;
  const int32_t* nums;
  const double *values, *repeats;
};

// Two matrices times their weights, added up: the float32 pass reads each of its rows in one go.
struct Entry {
  int32_t num;
  float value;
};

struct Together {
  const int64_t* offsets;
  const Entry* entries;
};

struct Numbers {
  const int64_t* offsets;
  const int32_t* nums;
};

// recsys/scoring/select.py has the same fields.
struct Job {
  int64_t num_users, width, known, dim, m;
  const float* scaled_BD;   // users, by what makes their product with an item model * z, but for a constant
  const double* user_BD;
  const double *mean_B, *inverse_spread_B;
  const float* item_vectors;  // known rows; the other items have none
  const float* const* base_B;  // popularity in float32, minus infinity where hidden; N and padding
  const double* const* share_B;  // popularity before its weight
  const double *popular_weight_B, *margin_B;  // twice what a score in float32 may be off
  double model, decimals;  // 10^decimals; 0 does not round
  Events history;
  Sparse similarity, transitions;
  Together together;
  Numbers seen, hidden;
  Numbers candidates;  // of another first pass, in the items' order; null: they are looked for here
  int32_t* nums;
  float* scores;
  int8_t* sources;
  int64_t* lengths;
  int64_t threads;
};
}

namespace {

constexpr int64_t BLOCK = 512;           // items of a tile: with their vectors, packed, they stay in the L2 cache
constexpr int64_t PAGE = 64;             // items of a page: a bit each
constexpr double ITEM_ITEM_SCALE = 50.0;

}  // namespace
