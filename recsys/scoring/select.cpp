// Stage 1 on a CPU: the best M items of each user, in one pass over the item vectors.
//
// Called by recsys/scoring/select.py through ctypes; recsys/scoring/plain.py has the same in numpy. A float32 pass
// finds every item that can be among the best M, with a bound on its own rounding; the few that pass are scored
// again in float64, each pair by itself in a fixed order. So neither batch, block nor threads decide an order.
// The float32 pass is a matrix product cut so that its result never leaves the cache (Goto and van de Geijn,
// "Anatomy of high-performance matrix multiplication", 2008); what is sparse, hidden or popular is added there.
// Built by deploy/setup/steps/kernel.sh.
//
// Shape suffixes:
//   B users   N catalogue (items and padding)   D embedding width   E edits of a user: sparse additions and hidden items

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <thread>
#include <vector>
#include <sys/mman.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 14;  // 28 sums, 2 items, 1 user in 32 registers
#elif defined(__AVX2__)
constexpr int LANES = 8, ROWS = 6;  // 12 sums, 2 items, 1 user in 16 registers
#else
constexpr int LANES = 4, ROWS = 6;
#endif
constexpr int64_t WIDE = 2 * LANES;      // items that a product takes at a time
constexpr int64_t BLOCK = 512;           // items of a tile: with their vectors, packed, they stay in the L2 cache
constexpr int64_t STRIDE = BLOCK + WIDE;  // of a tile's rows: a power of two would have them share few cache lines
constexpr int64_t CHUNK = 74 * ROWS; // users that share a packing of the items
constexpr int64_t MOST_TIES = 4096;      // beyond 4 M candidates
constexpr int64_t MOST_FOUND = 1 << 22;  // of a chunk, which is smaller where M is large
constexpr int64_t MOST_EDITS = 1 << 21;  // of a chunk, which is cut short there: 32 MB
constexpr size_t HUGE_PAGE = 2 << 20;
constexpr int64_t AHEAD = 8;             // item vectors to prefetch
constexpr int64_t PAGE = 64;             // items per flag
constexpr double ITEM_ITEM_SCALE = 50.0;
constexpr float LOWEST = -FLT_MAX;       // what is hidden scores minus infinity, and never passes
constexpr float HIDDEN = -std::numeric_limits<float>::infinity();

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef float LooseFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(64)));
typedef double LooseDoubles __attribute__((vector_size(64), aligned(8), may_alias));
typedef float EightFloats __attribute__((vector_size(32)));
typedef float LooseEight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t EightInts __attribute__((vector_size(32)));
typedef int64_t Longs __attribute__((vector_size(64)));

#define INLINE inline __attribute__((always_inline))

INLINE Floats load(const float* from) { return *reinterpret_cast<const LooseFloats*>(from); }
INLINE void store(float* to, Floats values) { *reinterpret_cast<LooseFloats*>(to) = values; }
INLINE Floats all(float value) { return value - Floats{}; }

INLINE Floats times_plus(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// A bit for each value that is at least the bound.
INLINE uint32_t at_least(Floats values, Floats bound) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(values, bound, _CMP_GE_OQ);
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps(values, bound, _CMP_GE_OQ));
#else
  uint32_t bits = 0;
  for (int i = 0; i < LANES; i++) bits |= uint32_t{values[i] >= bound[i]} << i;
  return bits;
#endif
}

// Memory that only grows, from the start of a cache line; what is in it goes when it does, unless it is told to stay.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  ~Buffer() { std::free(memory); }

  T* reserve(int64_t wanted, int64_t kept = 0) {
    if (wanted <= room) return memory;
    wanted = std::max(wanted, room + room / 2);
    const size_t bytes = wanted * sizeof(T), step = bytes < HUGE_PAGE ? 64 : HUGE_PAGE;
    void* more = std::aligned_alloc(step, (bytes + step - 1) / step * step);
    if (!more) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (step == HUGE_PAGE) madvise(more, bytes / step * step, MADV_HUGEPAGE);  // fewer look-ups of addresses
#endif
    if (kept) std::memcpy(more, memory, kept * sizeof(T));
    std::free(memory);
    memory = static_cast<T*>(more);
    room = wanted;
    return memory;
  }

  T* get() const { return memory; }
  T& operator[](int64_t place) const { return memory[place]; }

 private:
  T* memory = nullptr;
  int64_t room = 0;
};

// log(1 + x) for x >= 0, with an error below 2^-21 of the result plus 2^-23: 2 artanh((m - 1) / (m + 1)) + k log 2.
INLINE EightFloats log1p(EightFloats x) {
  const EightFloats y = x + 1.0f;
  const EightInts bits = (EightInts)y;
  const EightInts exponent = (bits - 0x3F3504F3) >> 23;  // so that m lies between the roots of 1/2 and of 2
  const EightFloats m = (EightFloats)(bits - (exponent << 23));
  const EightFloats s = (m - 1.0f) / (m + 1.0f), q = s * s;
  const EightFloats series = 1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9))));
  return 2.0f * s * series + __builtin_convertvector(exponent, EightFloats) * 0.693147181f;
}

}  // namespace

extern "C" {

// A sparse matrix, its rows one after the other; and what its values weigh.
struct Sparse {
  const int64_t* offsets;
  const int32_t* nums;
  const double* values;
  double weight;
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
  Sparse history, similarity, transitions;
  Numbers seen, hidden;
  int32_t* nums;
  float* scores;
  int8_t* sources;
  int64_t* lengths;
  int64_t threads;
};
}

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

// The sparse additions of the users of a chunk, and their hidden items, by user and item.
class Edits {
 public:
  void begin(const Job& of) {
    job = &of;
    pages = (of.width + PAGE - 1) / PAGE;
    std::fill_n(sums_N.reserve(pages * PAGE), pages * PAGE, 0.0);
    std::fill_n(touched.reserve(pages), pages, 0);
  }

  void clear() {
    size = 0;
    offsets.assign(1, 0);
  }

  // Takes a user in; returns the largest item-item sum.
  double append(int64_t b) {
    for (const Sparse* matrix : {&job->similarity, &job->transitions}) {
      // To note the pages costs as much as to look at all of them, where there are many additions.
      if (additions(b, *matrix) < 4 * pages) {
        multiply<true>(b, *matrix);
      } else {
        std::fill_n(touched.get(), pages, 1);
        multiply<false>(b, *matrix);
      }
    }
    if (job->history.weight > 0)
      for (int64_t j = job->history.offsets[b]; j < job->history.offsets[b + 1]; j++)
        add(job->history.nums[j], job->history.weight * job->history.values[j]);
    hide(b, job->seen);
    hide(b, job->hidden);
    const double largest = collect();
    offsets.push_back(size);
    return largest;
  }

  // What is added to scores in float32.
  void finish() {
    adds.reserve(size + 8);
    raw.reserve(size + 8, size);
    for (int64_t j = 0; j < size; j += 8) {
      const Doubles sums = *reinterpret_cast<const LooseDoubles*>(raw.get() + j) * ITEM_ITEM_SCALE;
      const EightFloats x = __builtin_convertvector(sums, EightFloats);
      *reinterpret_cast<LooseEight*>(adds.get() + j) = x < 0.0f ? x : log1p(x);
    }
  }

  int64_t size = 0;
  std::vector<int64_t> offsets;
  Buffer<int32_t> nums;
  Buffer<double> raw;  // minus infinity: hidden
  Buffer<float> adds;

 private:
  INLINE void add(int64_t num, double value) {
    sums_N[num] += value;
    touched[num / PAGE] = 1;
  }

  int64_t additions(int64_t b, const Sparse& matrix) const {
    if (!(matrix.weight > 0)) return 0;
    int64_t sum = 0;
    for (int64_t j = job->history.offsets[b]; j < job->history.offsets[b + 1]; j++)
      sum += matrix.offsets[job->history.nums[j] + 1] - matrix.offsets[job->history.nums[j]];
    return sum;
  }

  template <bool NOTED>
  void multiply(int64_t b, const Sparse& matrix) {
    if (!(matrix.weight > 0)) return;
    const int64_t end = job->history.offsets[b + 1];
    for (int64_t j = job->history.offsets[b]; j < end; j++) {
      if (j + 2 < end) prefetch(matrix, job->history.nums[j + 2]);
      const int64_t row = job->history.nums[j];
      const double weight = matrix.weight * job->history.values[j];
      const int32_t* __restrict items = matrix.nums;
      const double* __restrict values = matrix.values;
      double* __restrict sums = sums_N.get();
      [[maybe_unused]] uint8_t* __restrict marks = touched.get();
      const int64_t last = matrix.offsets[row + 1];
#pragma GCC unroll 4
      for (int64_t k = matrix.offsets[row]; k < last; k++) {
        const uint32_t num = items[k];
        sums[num] += weight * values[k];
        if (NOTED) marks[num / PAGE] = 1;
      }
    }
  }

  static void prefetch(const Sparse& matrix, int64_t row) {
    for (int64_t k = matrix.offsets[row]; k < matrix.offsets[row + 1]; k += 8) {
      __builtin_prefetch(matrix.values + k);
      if (k % 16 < 8) __builtin_prefetch(matrix.nums + k);
    }
  }

  void hide(int64_t b, const Numbers& numbers) {
    if (!numbers.offsets) return;
    for (int64_t j = numbers.offsets[b]; j < numbers.offsets[b + 1]; j++)
      if (numbers.nums[j] < job->width) add(numbers.nums[j], -std::numeric_limits<double>::infinity());
  }

  // What is not 0 goes to the lists, in the items' order.
  double collect() {
    Doubles largest = {};
    for (int64_t page = 0; page < pages; page++) {
      if (!touched[page]) continue;
      touched[page] = 0;
      nums.reserve(size + PAGE + 16, size);
      raw.reserve(size + PAGE + 16, size);
      double* sums = sums_N.get() + page * PAGE;
      int64_t to = size;
      for (int64_t i = 0; i < PAGE; i += 8) {
        const Doubles eight = *reinterpret_cast<const LooseDoubles*>(sums + i);
        largest = eight > largest ? eight : largest;
        to = take(eight, static_cast<int32_t>(page * PAGE + i), to);
        *reinterpret_cast<LooseDoubles*>(sums + i) = Doubles{};
      }
      size = to;
    }
    double most = 0;
    for (int i = 0; i < 8; i++) most = std::max(most, largest[i]);
    return most;
  }

  // What of eight sums is not 0, from place to on; returns the place after it.
  INLINE int64_t take(Doubles sums, int32_t first, int64_t to) const {
#if defined(__AVX512F__) && defined(__AVX512VL__)
    const __mmask8 there = _mm512_cmp_pd_mask(sums, _mm512_setzero_pd(), _CMP_NEQ_OQ);
    const __m256i items = _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    _mm512_storeu_pd(raw.get() + to, _mm512_maskz_compress_pd(there, sums));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(nums.get() + to), _mm256_maskz_compress_epi32(there, items));
    return to + __builtin_popcount(there);
#else
    for (int32_t i = 0; i < 8; i++) {
      raw[to] = sums[i];
      nums[to] = first + i;
      to += sums[i] != 0;
    }
    return to;
#endif
  }

  const Job* job;
  int64_t pages;
  Buffer<double> sums_N;
  Buffer<uint8_t> touched;
};

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

class Worker {
 public:
  Worker() : found(CHUNK), margins(CHUNK), places(CHUNK) {}

  void begin(const Job& of) {
    job = &of;
    edits.begin(of);
    users.reserve(CHUNK * of.dim + 1);
    items.reserve(BLOCK * of.dim + 1);
    tile.reserve(ROWS * STRIDE);
    repeats_N.assign(of.width, 0.0);
  }

  void score(int64_t start, int64_t stop) {
    while (start < stop) start = chunk(start, stop);
  }

 private:
  // As many of the users as fit; returns the first that did not.
  int64_t chunk(int64_t start, int64_t stop) {
    stop = std::min(stop, start + std::clamp<int64_t>(MOST_FOUND / (2 * job->m + BLOCK), ROWS, CHUNK));
    edits.clear();
    int64_t b = start;
    for (; b < stop && edits.size < MOST_EDITS; b++) {
      const double largest = edits.append(b);
      margins[b - start] = job->margin_B[b] + std::log1p(ITEM_ITEM_SCALE * largest) * 0x1p-18;
      places[b - start] = edits.offsets[b - start];
      found[b - start].start(job->m);
    }
    stop = b;
    edits.finish();
    pack_users(start, stop);
    for (int64_t first = 0; first < job->width; first += BLOCK) {
      pack_items(*job, first, items.get());
      for (int64_t panel = start; panel < stop; panel += ROWS) {
        fill_tile(start, panel, stop, first);
        for (int64_t u = panel; u < std::min(stop, panel + ROWS); u++)
          take(u, u - start, tile.get() + (u - panel) * STRIDE, first);
      }
    }
    for (int64_t u = start; u < stop; u++) finish(u, u - start);
    return stop;
  }

  void pack_users(int64_t start, int64_t stop) {
    float* to = users.get();
    for (int64_t panel = start; panel < stop; panel += ROWS)
      for (int64_t d = 0; d < job->dim; d++)
        for (int64_t u = panel; u < panel + ROWS; u++) *to++ = u < stop ? job->scaled_BD[u * job->dim + d] : 0.0f;
  }

  void fill_tile(int64_t start, int64_t panel, int64_t stop, int64_t first) {
    const float* base[ROWS];
    for (int r = 0; r < ROWS; r++) base[r] = job->base_B[std::min(panel + r, stop - 1)];
    const float* packed = users.get() + (panel - start) * job->dim;
    for (int64_t j = 0; j < BLOCK; j += WIDE)
      multiply(packed, items.get() + j * job->dim, job->dim, base, first + j, tile.get() + j);
  }

  // What a user gets from a tile.
  void take(int64_t b, int64_t u, float* row, int64_t first) {
    // The products are short of the mean; an item without a vector is at the mean.
    if (job->dim > 0 && first + BLOCK > job->known) {
      const float mean = static_cast<float>(job->model * job->mean_B[b] * job->inverse_spread_B[b]);
      for (int64_t j = std::max<int64_t>(job->known - first, 0); j < BLOCK; j++) row[j] += mean;
    }
    int64_t e = places[u];
    const int64_t end = edits.offsets[u + 1], beyond = first + BLOCK;
    const int32_t* __restrict nums = edits.nums.get();
    const float* __restrict adds = edits.adds.get();
    for (; e < end && nums[e] < beyond; e++) row[nums[e] - first] += adds[e];
    places[u] = e;
    Found& candidates = found[u];
    if (first == 0) candidates.begin(row, job->m, margins[u]);
    candidates.scan(row, first);
    if (candidates.size > candidates.limit) candidates.tighten(job->m, margins[u]);
    if (candidates.size > 4 * job->m + MOST_TIES) settle(b, u);
    if (job->model == 0 || job->inverse_spread_B[b] == 0) candidates.want_more_than_nothing(job->m);
  }

  // More candidates within rounding of each other than fit: the best so far, in full precision.
  void settle(int64_t b, int64_t u) {
    score_exactly(b, u);
    best.resize(order());
    std::sort(best.begin(), best.end());
    Found& candidates = found[u];
    for (candidates.size = 0; candidates.size < static_cast<int64_t>(best.size()); candidates.size++) {
      candidates.scores[candidates.size] = candidates.scores[best[candidates.size]];
      candidates.nums[candidates.size] = candidates.nums[best[candidates.size]];
    }
  }

  void finish(int64_t b, int64_t u) {
    found[u].tighten(job->m, margins[u]);
    score_exactly(b, u);
    write(b);
  }

  // The place of each candidate's edit, or -1; both are in the items' order.
  void find_edits(const Found& candidates, int64_t u) {
    edit_of.resize(candidates.size);
    int64_t e = edits.offsets[u];
    const int64_t end = edits.offsets[u + 1];
    const int32_t* nums = edits.nums.get();
    for (int64_t c = 0; c < candidates.size; c++) {
      const int32_t num = candidates.nums[c];
      while (e + 64 < end && nums[e + 64] <= num) e += 64;
      for (int64_t step = 32; step > 0; step /= 2) e += e + step < end && nums[e + step] <= num ? step : 0;
      edit_of[c] = e < end && nums[e] == num ? e : -1;
      if (edit_of[c] >= 0) __builtin_prefetch(edits.raw.get() + e);
    }
  }

  void score_exactly(int64_t b, int64_t u) {
    const Found& candidates = found[u];
    find_edits(candidates, u);
    parts.resize(candidates.size);
    ranked.resize(candidates.size + 8);
    const double *user = job->user_BD + b * job->dim, *shares = job->share_B[b];
    for (int64_t c = 0; c < candidates.size; c++) {
      const int64_t num = candidates.nums[c];
      if (c + AHEAD < candidates.size) {
        const int64_t next = candidates.nums[c + AHEAD];
        __builtin_prefetch(shares + next);
        if (next < job->known)
          for (int64_t d = 0; d < job->dim; d += 16) __builtin_prefetch(job->item_vectors + next * job->dim + d);
      }
      Part& part = parts[c];
      part.num = static_cast<int32_t>(num);
      part.z = 0;
      if (num < job->known)
        part.z = job->model * ((dot(user, job->item_vectors + num * job->dim, job->dim) - job->mean_B[b]) *
                              job->inverse_spread_B[b]);
      part.raw = edit_of[c] < 0 ? 0.0 : edits.raw[edit_of[c]];
      part.item_item = part.raw > 0 ? std::log1p(ITEM_ITEM_SCALE * part.raw) : 0.0;
      part.popular = job->popular_weight_B[b] * shares[num];
      part.score = part.z + part.item_item + part.popular;
      if (job->decimals > 0) part.score = static_cast<float>(std::nearbyint(part.score * job->decimals) / job->decimals);
      ranked[c] = part.score;
    }
  }

  struct Part {
    double score, z, raw, item_item, popular;
    int32_t num;
  };

  // Fills best with the places of the best m, best first; ties to the smaller item number, which comes earlier.
  int64_t order() {
    const int64_t size = parts.size(), length = std::min(job->m, size);
    best.resize(size);
    if (size > 512) {
      std::iota(best.begin(), best.end(), 0);
      std::partial_sort(best.begin(), best.begin() + length, best.end(), [&](int32_t one, int32_t other) {
        return ranked[one] != ranked[other] ? ranked[one] > ranked[other] : one < other;
      });
      return length;
    }
    // Few enough that counting who is better costs less than sorting.
    for (int64_t i = 0; i < size; i += 8) {
      const Doubles mine = *reinterpret_cast<const LooseDoubles*>(ranked.data() + i);
      Longs better = {};
      int64_t j = 0;
      for (; j < i; j++) better -= ranked[j] >= mine;
      for (; j < std::min(i + 8, size); j++)
        better -= (ranked[j] > mine) | ((ranked[j] == mine) & (j - i < Longs{0, 1, 2, 3, 4, 5, 6, 7}));
      for (; j < size; j++) better -= ranked[j] > mine;
      for (int64_t k = 0; k < 8 && i + k < size; k++) best[better[k]] = static_cast<int32_t>(i + k);
    }
    return length;
  }

  void write(int64_t b) {
    const int64_t length = order();
    const bool repeats = job->history.weight > 0;
    if (repeats)
      for (int64_t j = job->history.offsets[b]; j < job->history.offsets[b + 1]; j++)
        repeats_N[job->history.nums[j]] += job->history.weight * job->history.values[j];
    for (int64_t place = 0; place < length; place++) {
      const Part& part = parts[best[place]];
      job->nums[b * job->m + place] = part.num;
      job->scores[b * job->m + place] = static_cast<float>(part.score) + 0.0f;
      job->sources[b * job->m + place] = source(part, repeats_N[part.num], part.num < job->known && job->inverse_spread_B[b] > 0);
    }
    if (repeats)
      for (int64_t j = job->history.offsets[b]; j < job->history.offsets[b + 1]; j++) repeats_N[job->history.nums[j]] = 0;
    job->lengths[b] = length;
  }

  // The largest part; those other than the model's count only above 0. Ties to the earlier name of lists.SOURCES.
  static int8_t source(const Part& part, double repeat, bool has_vector) {
    repeat = part.raw > 0 ? repeat / part.raw * part.item_item : 0.0;
    const double parts[4] = {part.z, part.item_item - repeat, repeat, part.popular};
    int8_t best = 3;
    double most = -std::numeric_limits<double>::infinity();
    for (int8_t i = 0; i < 4; i++)
      if ((i == 0 ? has_vector : parts[i] > 0) && parts[i] > most) {
        most = parts[i];
        best = i;
      }
    return best;
  }

  const Job* job;
  Edits edits;
  Buffer<float> users, items, tile;
  std::vector<Found> found;
  std::vector<double> margins;
  std::vector<int64_t> places;
  std::vector<Part> parts;
  std::vector<int64_t> edit_of;
  std::vector<double> ranked;
  std::vector<int32_t> best;
  std::vector<double> repeats_N;
};

// Workers of earlier calls: to touch fresh memory costs more than to fill it.
std::mutex idle_lock;
std::vector<std::unique_ptr<Worker>> idle;

std::unique_ptr<Worker> borrowed() {
  const std::lock_guard<std::mutex> held(idle_lock);
  if (idle.empty()) return std::make_unique<Worker>();
  std::unique_ptr<Worker> worker = std::move(idle.back());
  idle.pop_back();
  return worker;
}

void give_back(std::unique_ptr<Worker> worker) {
  const std::lock_guard<std::mutex> held(idle_lock);
  idle.push_back(std::move(worker));
}

}  // namespace

extern "C" {

// Fills nums, scores and sources (B, m) and lengths (B). Returns 0; 1 where memory ran out.
int select_top(const Job* job) {
  std::atomic<int64_t> next{0};
  std::atomic<int> failed{0};
  const int64_t chunks = std::max<int64_t>((job->num_users + CHUNK * job->threads - 1) / (CHUNK * job->threads), 1) * job->threads;
  const int64_t step = std::max<int64_t>((job->num_users + chunks * ROWS - 1) / (chunks * ROWS), 1) * ROWS;
  const auto work = [&] {
    try {
      std::unique_ptr<Worker> worker = borrowed();
      worker->begin(*job);
      for (int64_t start; (start = next.fetch_add(step)) < job->num_users && !failed;)
        worker->score(start, std::min(job->num_users, start + step));
      give_back(std::move(worker));
    } catch (const std::bad_alloc&) {
      failed = 1;
    }
  };
  std::vector<std::thread> others;
  for (int64_t t = 1; t < job->threads && t * step < job->num_users; t++) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  return failed;
}

int runs_here() {
#if defined(__AVX512F__)
  return __builtin_cpu_supports("x86-64-v4");
#elif defined(__AVX2__)
  return __builtin_cpu_supports("x86-64-v3");
#else
  return true;
#endif
}

// Bumped with every change of Job: select.py refuses a library of another number.
int64_t version() { return 1; }
}
