// What a user's history adds to the scores: for all items in float32, and again in float64 for the few that pass.
//
// The additions of a user are a row of a sparse product (Gustavson, "Two fast algorithms for sparse matrices", 1978).
// They are kept as a bit per item and the values of the set bits: a third of the memory of numbers and sums, which is
// what this pass costs. The sums in float64 are not kept: to look through the rows again for the few costs less.
#pragma once

#include <cmath>
#include <vector>

#include "job.h"
#include "lanes.h"

namespace {

constexpr int64_t ROWS_AHEAD = 5, NUMS_AHEAD = 10;  // of the matrices, to prefetch: also those of the next user

// A user's history with each item once: people buy again what they have bought, and every row is long.
class History {
 public:
  void begin(const Job& of) {
    job = &of;
    std::fill_n(place_N.reserve(of.width), of.width, -1);
  }

  void read(int64_t b) {
    size = 0;
    if (!job->history.offsets) return;
    const int64_t first = job->history.offsets[b];
    next = job->history.offsets[b + 1];
    nums.reserve(next - first);
    weights.reserve(next - first);
    repeats.reserve(next - first);
    for (int64_t j = first; j < next; j++) {
      int32_t& place = place_N[job->history.nums[j]];
      if (place < 0) {
        place = static_cast<int32_t>(size++);
        nums[place] = job->history.nums[j];
        weights[place] = repeats[place] = 0;
      }
      weights[place] += job->history.values[j];
      if (job->history.repeats) repeats[place] += job->history.repeats[j];
    }
    for (int64_t h = 0; h < size; h++) place_N[nums[h]] = -1;
  }

  // The item that comes so many later, to prefetch its row: the next user's, where this one has no more.
  int64_t later(int64_t h) const {
    if (h < size) return nums[h];
    const int64_t j = next + h - size;
    return j < job->history.offsets[job->num_users] ? job->history.nums[j] : nums[size - 1];
  }

  int64_t size;
  Buffer<int32_t> nums;
  Buffer<double> weights, repeats;

 private:
  const Job* job;
  int64_t next;
  Buffer<int32_t> place_N;
};

// What is added to a user's scores of a page of items: the next of his additions, in the order of the bits.
struct Page {
  int64_t place;
  uint64_t items;
};

// A user's additions that are still to be made.
struct Additions {
  const Page *page, *end;
  const float* next;

  // Adds those of a tile to its row.
  void add_to(float* row, int64_t first) {
    for (; page < end && page->place < (first + BLOCK) / PAGE; page++) {
      float* scores = row + (page->place * PAGE - first);
#pragma GCC unroll 16
      for (int64_t i = 0; i < PAGE; i += LANES) next = spread(scores + i, next, page->items >> i & EVERY);
    }
  }

  // A tile's worth, on its way while the product is worked out.
  void fetch() const {
    for (int64_t p = 0; p < BLOCK / PAGE; p += 4) __builtin_prefetch(page + p, 0, 2);
    for (int64_t j = 0; j < BLOCK / 4; j += 16) __builtin_prefetch(next + j, 0, 2);
  }
};

// The sparse additions of the users of a chunk in float32; minus infinity for hidden items.
class Edits {
 public:
  void begin(const Job& of) {
    job = &of;
    pages = (of.width + PAGE - 1) / PAGE;
    std::fill_n(sums_N.reserve(pages * PAGE), pages * PAGE, 0.0f);
    std::fill_n(touched.reserve(pages), pages, 0);
  }

  void clear() {
    size = used = 0;
    starts.assign(1, {0, 0});
  }

  // Takes a user in; returns what his scores may be off for it.
  double append(int64_t b, const History& history) {
    int64_t terms = additions(history);
    // To note the pages costs as much as to look at all of them, where there are many additions.
    if (terms < 4 * pages) {
      multiply<true>(history);
    } else {
      std::fill_n(touched.get(), pages, 1);
      multiply<false>(history);
    }
    if (job->history.repeats) {
      for (int64_t h = 0; h < history.size; h++) add(history.nums[h], static_cast<float>(history.repeats[h]));
      terms += history.size;
    }
    hide(b, job->seen);
    hide(b, job->hidden);
    const double largest = collect();
    starts.push_back({used, size});
    // Each sum is off by a share of itself, and so its logarithm by no more than that share.
    return largest > 0 ? (2 * terms + 8) * 0x1p-24 + std::log1p(ITEM_ITEM_SCALE * largest) * 0x1p-19 : 0.0;
  }

  // Until the next append.
  Additions of(int64_t u) const {
    return {used_pages.get() + starts[u].page, used_pages.get() + starts[u + 1].page, adds.get() + starts[u].add};
  }

  int64_t size = 0;

 private:
  struct Place {
    int64_t page, add;
  };

  INLINE void add(int64_t num, float value) {
    sums_N[num] += value;
    touched[num / PAGE] = 1;
  }

  int64_t additions(const History& history) const {
    if (!job->together.offsets) return 0;
    int64_t sum = 0;
    for (int64_t h = 0; h < history.size; h++) {
      const int64_t* row = job->together.offsets + history.nums[h];
      sum += row[1] - row[0];
    }
    return sum;
  }

  template <bool NOTED>
  void multiply(const History& history) {
    if (!job->together.offsets) return;
    const int64_t* __restrict offsets = job->together.offsets;
    const Entry* __restrict entries = job->together.entries;
    float* __restrict sums = sums_N.get();
    [[maybe_unused]] uint8_t* __restrict marks = touched.get();
    for (int64_t h = 0; h < history.size; h++) {
      const int64_t row = history.nums[h], last = offsets[row + 1];
      // A line of a later row for each line of this one: all at once they would wait for each other.
      const Entry* ahead = entries + offsets[history.later(h + ROWS_AHEAD)];
      const float weight = static_cast<float>(history.weights[h]);
      int64_t k = offsets[row];
      for (; k + 8 <= last; k += 8, ahead += 8) {
        __builtin_prefetch(ahead);
#pragma GCC unroll 8
        for (int64_t i = k; i < k + 8; i++) {
          const uint32_t num = entries[i].num;
          sums[num] += weight * entries[i].value;
          if (NOTED) marks[num / PAGE] = 1;
        }
      }
      for (; k < last; k++) add(entries[k].num, weight * entries[k].value);
    }
  }

  void hide(int64_t b, const Numbers& numbers) {
    if (!numbers.offsets) return;
    for (int64_t j = numbers.offsets[b]; j < numbers.offsets[b + 1]; j++)
      if (numbers.nums[j] < job->width) add(numbers.nums[j], HIDDEN);
  }

  // What is not 0 goes to the lists, in the items' order; returns the largest sum.
  double collect() {
    Floats largest = {};
    used_pages.reserve(used + pages, used);
    const int64_t start = size;
    float* to = adds.reserve(size + pages * PAGE + LANES, size) + size;
    for (int64_t page = 0; page < pages; page++) {
      if (!touched[page]) continue;
      touched[page] = 0;
      float* sums = sums_N.get() + page * PAGE;
      uint64_t items = 0;
#pragma GCC unroll 16
      for (int64_t i = 0; i < PAGE; i += LANES) {
        const Floats values = load(sums + i);
        largest = values > largest ? values : largest;
        const uint32_t there = not_zero(values);
        items |= uint64_t{there} << i;
        to = squeeze(to, values, there);
        store(sums + i, Floats{});
      }
      used_pages[used] = {page, items};
      used += items != 0;
    }
    size = to - adds.get();
    for (int64_t j = start; j < size; j += LANES) {
      const Floats x = load(adds.get() + j) * static_cast<float>(ITEM_ITEM_SCALE);
      store(adds.get() + j, x < 0.0f ? x : log1p(x));
    }
    float most = 0;
    for (int i = 0; i < LANES; i++) most = std::max(most, largest[i]);
    return most;
  }

  const Job* job;
  int64_t pages, used = 0;
  std::vector<Place> starts;
  Buffer<Page> used_pages;
  Buffer<float> adds;
  Buffer<float> sums_N;
  Buffer<uint8_t> touched;
};

// A user's item-item sums again, in float64 and for a few items alone.
class Sums {
 public:
  void begin(const Job& of) {
    job = &of;
    std::fill_n(sums_N.reserve(of.width), of.width, 0.0);
    std::fill_n(wanted_N.reserve(of.width), of.width, 0);
  }

  // Until cleared, of(num) is the sum of each of the items.
  void add_up(const History& history, const int32_t* nums, int64_t size) {
    std::fill_n(filter, 32, 0);
    for (int64_t c = 0; c < size; c++) {
      wanted_N[nums[c]] = 1;
      filter[nums[c] % 32] |= static_cast<int32_t>(uint32_t{1} << (nums[c] / 32 % 32));
    }
    found[0] = found[1] = 0;
    for (int64_t h = 0; h < history.size; h++) {
      const int64_t later = history.later(h + NUMS_AHEAD);
      find(job->similarity, history.nums[h], history.weights[h], later, 0);
      find(job->transitions, history.nums[h], history.weights[h], later, 1);
    }
    for (int matrix = 0; matrix < 2; matrix++)
      for (int64_t i = 0; i < found[matrix]; i++) {
        const Hit& hit = hits[matrix][i];
        sums_N[hit.num] += hit.weight * *hit.value;
      }
    if (job->history.repeats)
      for (int64_t h = 0; h < history.size; h++)
        if (wanted_N[history.nums[h]]) sums_N[history.nums[h]] += history.repeats[h];
  }

  void clear(const int32_t* nums, int64_t size) {
    for (int64_t c = 0; c < size; c++) {
      wanted_N[nums[c]] = 0;
      sums_N[nums[c]] = 0;
    }
  }

  double of(int64_t num) const { return sums_N[num]; }

 private:
  // The terms of the sums, whose values are on their way when the last one has been found.
  void find(const Sparse& matrix, int64_t row, double weight, int64_t later, int which) {
    if (!(matrix.weight > 0)) return;
    const int64_t first = matrix.offsets[row], size = matrix.offsets[row + 1] - first;
    const int32_t* nums = matrix.nums + first;
    int32_t* places = maybe.reserve(size + LANES);
    const int64_t several = sift(nums, size, matrix.nums + matrix.offsets[later], places);
    int64_t& so_far = found[which];
    Hit* to = hits[which].reserve(so_far + several, so_far);
    for (int64_t i = 0; i < several; i++) {
      const int32_t place = places[i];
      to[so_far] = {matrix.values + first + place, matrix.weight * weight, nums[place]};
      __builtin_prefetch(matrix.values + first + place);
      so_far += wanted_N[nums[place]];
    }
  }

  // The places of all numbers that are wanted, and of few others.
  INLINE int64_t sift(const int32_t* nums, int64_t size, const int32_t* ahead, int32_t* places) const {
    int64_t several = 0;
#if defined(__AVX512F__)
    const Ints low = load(filter), high = load(filter + LANES), one = 1 - Ints{};
    Ints place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int64_t k = 0; k < size; k += LANES, place += LANES) {
      __builtin_prefetch(ahead + k);
      const uint32_t there = size - k < LANES ? (1u << (size - k)) - 1 : 0xffff;
      const Ints num = (Ints)_mm512_maskz_loadu_epi32(there, nums + k);
      const Ints word = (Ints)_mm512_permutex2var_epi32((__m512i)low, (__m512i)num, (__m512i)high);
      const uint32_t passing = _mm512_mask_test_epi32_mask(there, (__m512i)word, (__m512i)(one << (num >> 5 & 31)));
      _mm512_storeu_si512(places + several, _mm512_maskz_compress_epi32(passing, (__m512i)place));
      several += __builtin_popcount(passing);
    }
#else
    const uint8_t* __restrict wanted = wanted_N.get();
    for (int64_t k = 0; k < size; k++) {
      if (k % 16 == 0) __builtin_prefetch(ahead + k);
      places[several] = static_cast<int32_t>(k);
      several += wanted[static_cast<uint32_t>(nums[k])];
    }
#endif
    return several;
  }

  struct Hit {
    const double* value;
    double weight;
    int32_t num;
  };

  const Job* job;
  int64_t found[2];
  Buffer<double> sums_N;
  Buffer<uint8_t> wanted_N;
  int32_t filter[32];  // a bit for each of 1024 kinds of item numbers
  Buffer<int32_t> maybe;
  Buffer<Hit> hits[2];
};

}  // namespace
