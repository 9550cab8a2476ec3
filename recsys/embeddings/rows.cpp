// Rows of embedding tables on a CPU: finding the distinct ones, copying, summing gradients, updating.
//
// Called by recsys/embeddings/rows.py through ctypes, which has the same in torch. Float32 alone. Everything
// gives the same bits on any number of threads: work is cut where no sum crosses the cut, and sums add from left
// to right. Built by deploy/setup/steps/kernel.sh.
//
// Shape suffixes:
//   P ids of a batch, flat   U distinct rows   A gradients that arrived for rows   D embedding width   N ranks

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <vector>

namespace {

constexpr int64_t BUCKET_IDS = 8192;  // with their hash table they fit the L2 cache
constexpr int64_t AHEAD = 8;     // rows to prefetch
constexpr int64_t GRAIN = 256;   // rows handed to a thread at a time

inline uint64_t mixed(uint64_t id) {  // Fibonacci hashing: the upper bits are the good ones
  return id * 0x9E3779B97F4A7C15ull;
}

inline void prefetch(const float* row, int64_t dim) {
  for (int64_t d = 0; d < dim; d += 16) __builtin_prefetch(row + d);
}

inline void add(float* __restrict to, const float* __restrict from, int64_t dim) {
  for (int64_t d = 0; d < dim; d++) to[d] += from[d];
}

// Sixteen partial sums, so that the compiler may use vectors without changing the order of the sum.
inline float sum_of_squares(const float* row, int64_t dim) {
  float part[16] = {};
  int64_t d = 0;
  for (; d + 16 <= dim; d += 16)
    for (int i = 0; i < 16; i++) part[i] += row[d + i] * row[d + i];
  float sum = 0;
  for (; d < dim; d++) sum += row[d] * row[d];
  for (int i = 0; i < 16; i++) sum += part[i];
  return sum;
}

inline bool finite(const float* row, int64_t dim) {
  uint32_t bad = 0;
  for (int64_t d = 0; d < dim; d++) {
    uint32_t bits;
    std::memcpy(&bits, row + d, 4);
    bad |= (bits & 0x7F800000u) == 0x7F800000u;
  }
  return !bad;
}

// Which gradients belong to which row: those at order[starts[u]] .. order[starts[u + 1]]; without an order, the u-th.
struct Gradients {
  const float* const* from;
  const int64_t *order, *starts;
  int64_t num_rows, dim, end;

  Gradients(const float* const* from, const int64_t* order, const int64_t* starts, int64_t num_rows, int64_t dim)
      : from(from), order(order), starts(starts), num_rows(num_rows), dim(dim),
        end(order ? starts[num_rows] : num_rows) {}

  const float* at(int64_t j) const {
    if (j + AHEAD < end) prefetch(from[order ? order[j + AHEAD] : j + AHEAD], dim);
    return from[order ? order[j] : j];
  }

  // The sum for row u, from left to right; in place where there is but one.
  const float* sum(int64_t u, float* room) const {
    if (!order) return at(u);
    const int64_t first = starts[u], last = starts[u + 1];
    const float* one = at(first);
    if (last - first == 1) return one;
    std::memcpy(room, one, dim * sizeof(float));
    for (int64_t j = first + 1; j < last; j++) add(room, at(j), dim);
    return room;
  }
};

template <typename Change>
void for_each_row(const Gradients& gradients, int threads, const Change& change) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> room(gradients.dim);
#pragma omp for schedule(dynamic, GRAIN)
    for (int64_t u = 0; u < gradients.num_rows; u++) change(u, gradients.sum(u, room.data()), room.data());
  }
}

// An array with so many floats for each row.
struct Array {
  const float* values;
  int64_t width;
};

template <typename Change>
void update(const Gradients& gradients, const std::initializer_list<Array>& arrays, const int64_t* rows_U,
            float scale, int threads, const Change& change) {
  const int64_t dim = gradients.dim;
  for_each_row(gradients, threads, [&](int64_t u, const float* gradient, float* room) {
    if (u + AHEAD < gradients.num_rows)
      for (const Array& array : arrays) prefetch(array.values + rows_U[u + AHEAD] * array.width, array.width);
    if (scale != 1.0f) {
      for (int64_t d = 0; d < dim; d++) room[d] = gradient[d] * scale;
      gradient = room;
    }
    change(rows_U[u], gradient);
  });
}

}  // namespace

extern "C" {

// For each id, by table, the address of the gradient that it gets: row i of its table's gradients or, where the
// table has bags (starts[t], one more than bags), the row of its bag.
void point(int64_t num_tables, const float* const* gradients, const int64_t* strides, const int64_t* sizes,
           const int64_t* const* starts, const int64_t* bags, int64_t num_ids, const float** out_P) {
  const float* const* end = out_P + num_ids;
  for (int64_t t = 0; t < num_tables; t++) {
    if (!starts[t]) {
      for (int64_t i = 0; i < sizes[t] && out_P < end; i++) *out_P++ = gradients[t] + i * strides[t];
      continue;
    }
    for (int64_t b = 0; b < bags[t]; b++)
      for (int64_t i = starts[t][b]; i < starts[t][b + 1] && out_P < end; i++) *out_P++ = gradients[t] + b * strides[t];
  }
}

// Each distinct id once, by the rank that holds it (id mod ranks), then by segment; no id may be in two of these
// consecutive segments. Returns their number U and fills
//   rows_U    the row's number on its rank      counts_N  distinct ids of each rank
//   place_P   for each id its place among U     starts_U  (U + 1) and order_P: the places of u's ids, ascending,
//                                               are order_P[starts_U[u] .. starts_U[u + 1])
// Ids are dealt into buckets by rank, segment and hash, and each bucket is a small hash table.
int64_t distinct(const int64_t* ids_P, int64_t num_segments, const int64_t* sizes, int64_t ranks, int64_t* rows_U,
                 int64_t* counts_N, int64_t* place_P, int64_t* starts_U, int64_t* order_P, int threads) {
  struct Segment {
    int64_t end, bucket;
    int bits;
  };
  std::vector<Segment> segments;
  int64_t num_ids = 0, per_rank = 0;
  for (int64_t s = 0; s < num_segments; s++) {
    num_ids += sizes[s];
    int bits = 0;
    while (ranks * BUCKET_IDS << bits < sizes[s]) bits++;
    segments.push_back({num_ids, per_rank, bits});
    per_rank += int64_t{1} << bits;
  }
  const int64_t buckets = ranks * per_rank, chunks = threads;
  struct Asked {
    int64_t id, place;
  };
  std::unique_ptr<Asked[]> dealt(new Asked[num_ids]);
  std::vector<int64_t> fill(chunks * buckets), first(buckets + 1), found(buckets + 1);

  auto deal = [&](const auto& put) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      int64_t* of_chunk = fill.data() + chunk * buckets;
      int64_t p = num_ids * chunk / chunks;
      const int64_t end = num_ids * (chunk + 1) / chunks;
      for (const Segment& segment : segments)
        for (; p < std::min(end, segment.end); p++) {
          const int64_t id = ids_P[p];
          const int64_t rank = ranks == 1 ? 0 : id % ranks;
          const int64_t part = segment.bits ? mixed(id) >> (64 - segment.bits) : 0;
          put(of_chunk[rank * per_rank + segment.bucket + part], id, p);
        }
    }
  };
  deal([](int64_t& count, int64_t, int64_t) { count++; });
  int64_t total = 0;
  for (int64_t b = 0; b < buckets; b++) {
    first[b] = total;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      const int64_t count = fill[chunk * buckets + b];
      fill[chunk * buckets + b] = total;
      total += count;
    }
  }
  first[buckets] = total;
  deal([&](int64_t& next, int64_t id, int64_t p) { dealt[next++] = {id, p}; });

  // Within a bucket numbers count from its own first; they are shifted once all buckets are counted.
  std::unique_ptr<int64_t[]> ids_U(new int64_t[num_ids]), counts_U(new int64_t[num_ids]);
#pragma omp parallel num_threads(threads)
  {
    std::vector<int32_t> slots;
#pragma omp for schedule(dynamic, 1)
    for (int64_t b = 0; b < buckets; b++) {
      const int64_t begin = first[b], end = first[b + 1];
      const int bits = segments[0].bits * (num_segments == 1);
      int log_slots = 4;
      while (int64_t{1} << log_slots < 2 * (end - begin)) log_slots++;
      const int64_t mask = (int64_t{1} << log_slots) - 1;
      slots.assign(mask + 1, -1);
      int64_t *mine = ids_U.get() + begin, *counts = counts_U.get() + begin;
      int32_t num = 0;
      for (int64_t j = begin; j < end; j++) {
        const int64_t id = dealt[j].id;
        int64_t slot = (mixed(id) << bits) >> (64 - log_slots);
        while (slots[slot] >= 0 && mine[slots[slot]] != id) slot = (slot + 1) & mask;
        if (slots[slot] < 0) {
          mine[num] = id;
          counts[num] = 0;
          slots[slot] = num++;
        }
        counts[slots[slot]]++;
        dealt[j].id = slots[slot];
      }
      found[b + 1] = num;
    }
  }
  std::fill(counts_N, counts_N + ranks, 0);
  for (int64_t b = 0; b < buckets; b++) {
    counts_N[b / per_rank] += found[b + 1];
    found[b + 1] += found[b];
  }
#pragma omp parallel num_threads(threads)
  {
    std::vector<int64_t> next;
#pragma omp for schedule(dynamic, 1)
    for (int64_t b = 0; b < buckets; b++) {
      const int64_t begin = first[b], shift = found[b], num = found[b + 1] - shift;
      next.resize(num);
      int64_t start = begin;
      for (int64_t u = 0; u < num; u++) {
        rows_U[shift + u] = ranks == 1 ? ids_U[begin + u] : ids_U[begin + u] / ranks;
        starts_U[shift + u] = next[u] = start;
        start += counts_U[begin + u];
      }
      for (int64_t j = begin; j < first[b + 1]; j++) {
        order_P[next[dealt[j].id]++] = dealt[j].place;
        place_P[dealt[j].place] = shift + dealt[j].id;
      }
    }
  }
  starts_U[found[buckets]] = num_ids;
  return found[buckets];
}

// out_P = the rows at place_P of those that from_U points at.
void take(const float* const* from_U, const int64_t* place_P, int64_t num_ids, int64_t dim, float* out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t p = 0; p < num_ids; p++) {
    if (p + AHEAD < num_ids) prefetch(from_U[place_P[p + AHEAD]], dim);
    std::memcpy(out + p * dim, from_U[place_P[p]], dim * sizeof(float));
  }
}

// The same, summed by bag; starts_B is (B + 1). Where mean is not 0, divided by the number of the bag's ids.
void take_bags(const float* const* from_U, const int64_t* place_P, const int64_t* starts_B, int64_t num_bags,
               int64_t dim, int mean, float* out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, GRAIN)
  for (int64_t b = 0; b < num_bags; b++) {
    float* to = out + b * dim;
    std::memset(to, 0, dim * sizeof(float));
    for (int64_t p = starts_B[b]; p < starts_B[b + 1]; p++) add(to, from_U[place_P[p]], dim);
    const int64_t size = starts_B[b + 1] - starts_B[b];
    if (mean && size > 1)
      for (int64_t d = 0; d < dim; d++) to[d] /= static_cast<float>(size);
  }
}

// out_U = sums of the gradients that from_A points at, by row. Returns the number of the first row whose sum is
// not finite, or -1.
int64_t sum_rows(const float* const* from_A, const int64_t* order_A, const int64_t* starts_U, int64_t num_rows,
                 int64_t dim, float* out, int threads) {
  std::atomic<int64_t> bad{INT64_MAX};
  for_each_row({from_A, order_A, starts_U, num_rows, dim}, threads, [&](int64_t u, const float* sum, float*) {
    std::memcpy(out + u * dim, sum, dim * sizeof(float));
    if (!finite(sum, dim)) {
      int64_t seen = bad.load();
      while (u < seen && !bad.compare_exchange_weak(seen, u)) {
      }
    }
  });
  return bad == INT64_MAX ? -1 : bad.load();
}

// The rules. from_A, order_A and starts_U say which gradients belong to row rows_U[u]; without an order it is one
// for each. The sums are multiplied by scale.
void update_sgd(float* weight, const int64_t* rows_U, int64_t num_rows, int64_t dim, const float* const* from_A,
                const int64_t* order_A, const int64_t* starts_U, float scale, int threads, float rate) {
  update({from_A, order_A, starts_U, num_rows, dim}, {{weight, dim}}, rows_U, scale, threads,
         [=](int64_t row, const float* gradient) {
                      float* to = weight + row * dim;
                      for (int64_t d = 0; d < dim; d++) to[d] -= rate * gradient[d];
                    });
}

void update_adagrad(float* weight, const int64_t* rows_U, int64_t num_rows, int64_t dim, const float* const* from_A,
                    const int64_t* order_A, const int64_t* starts_U, float scale, int threads, float* sums,
                    float rate, float epsilon) {
  update({from_A, order_A, starts_U, num_rows, dim}, {{weight, dim}, {sums, 1}}, rows_U, scale, threads,
         [=](int64_t row, const float* gradient) {
                      const float sum = sums[row] += sum_of_squares(gradient, dim) / static_cast<float>(dim);
                      const float step = rate / (std::sqrt(sum) + epsilon);
                      float* to = weight + row * dim;
                      for (int64_t d = 0; d < dim; d++) to[d] -= step * gradient[d];
                    });
}

void update_adam(float* weight, const int64_t* rows_U, int64_t num_rows, int64_t dim, const float* const* from_A,
                 const int64_t* order_A, const int64_t* starts_U, float scale, int threads, float* means,
                 float* squares, float rate, float mean_share, float square_share, float epsilon) {
  const std::initializer_list<Array> arrays = {{weight, dim}, {means, dim}, {squares, dim}};
  update({from_A, order_A, starts_U, num_rows, dim}, arrays, rows_U, scale, threads,
         [=](int64_t row, const float* gradient) {
                      float *to = weight + row * dim, *mean = means + row * dim, *square = squares + row * dim;
                      for (int64_t d = 0; d < dim; d++) {
                        const float g = gradient[d];
                        mean[d] += mean_share * (g - mean[d]);
                        square[d] += square_share * (g * g - square[d]);
                        to[d] -= rate * mean[d] / (std::sqrt(square[d]) + epsilon);
                      }
                    });
}

int runs_here() {
#ifdef __AVX2__
  return __builtin_cpu_supports("avx2");
#else
  return true;
#endif
}

// Bumped with every change of these functions: kernel.py refuses a library of another number.
int64_t version() { return 1; }
}
