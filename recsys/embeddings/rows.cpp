// Rows of embedding tables on a CPU: finding the distinct ones, copying, summing gradients, updating.
//
// Called by recsys/embeddings/compiled_rows.py through ctypes; rows.py has the same in torch. Float32 alone. Everything
// gives the same bits on any number of threads: work is cut where no sum crosses the cut, and sums add from left
// to right. Built by deploy/setup/steps/kernel.sh.
//
// Shape suffixes:
//   P ids of a batch, flat   U distinct rows   K pieces of a batch   D embedding width   N ranks

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <vector>

namespace {

constexpr int64_t PIECE_IDS = 8192;   // their hash table fits the L2 cache, and so do the sums of their gradients
constexpr int64_t LEAST_IDS = 512;    // smaller pieces are not worth the trouble
constexpr int64_t WANTED_PIECES = 16; // of a batch, to keep the threads busy
constexpr int64_t AHEAD = 8;          // rows to prefetch
constexpr int64_t GRAIN = 256;        // rows handed to a thread at a time

inline uint64_t mixed(uint64_t id) {  // Fibonacci hashing: the upper bits are the good ones
  return id * 0x9E3779B97F4A7C15ull;
}

// For each segment of ids the logarithm of the number of pieces it is cut into. The number of threads has no part in
// it: rows are numbered piece by piece.
std::vector<int> piece_bits(int64_t num_segments, const int64_t* sizes, int64_t ranks) {
  const int64_t num_ids = std::accumulate(sizes, sizes + num_segments, int64_t{0});
  const int64_t most = std::clamp(num_ids / WANTED_PIECES, LEAST_IDS, PIECE_IDS);
  std::vector<int> bits(num_segments);
  for (int64_t s = 0; s < num_segments; s++)
    while (ranks * most << bits[s] < sizes[s]) bits[s]++;
  return bits;
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

// An array with so many floats for each row.
struct Array {
  const float* values;
  int64_t width;
};

// Each row once, by its gradient times scale.
template <typename Change>
void update(const float* grad_UD, const std::initializer_list<Array>& arrays, const int64_t* rows_U, int64_t num_rows,
            int64_t dim, float scale, int threads, const Change& change) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> room(dim);
#pragma omp for schedule(dynamic, GRAIN)
    for (int64_t u = 0; u < num_rows; u++) {
      if (u + AHEAD < num_rows)
        for (const Array& array : arrays) prefetch(array.values + rows_U[u + AHEAD] * array.width, array.width);
      const float* gradient = grad_UD + u * dim;
      if (scale != 1.0f) {
        for (int64_t d = 0; d < dim; d++) room[d] = gradient[d] * scale;
        gradient = room.data();
      }
      change(rows_U[u], gradient);
    }
  }
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

// The ids of all tables one after the other, each with its table's offset. Returns the number of the first table
// with an id outside 0 .. rows[t] - 1, or -1.
int64_t join(int64_t num_tables, const int64_t* const* ids, const int64_t* sizes, const int64_t* rows,
             const int64_t* offsets, int64_t* out_P) {
  for (int64_t t = 0; t < num_tables; t++) {
    const uint64_t limit = rows[t];
    bool bad = false;
    for (int64_t i = 0; i < sizes[t]; i++) {
      const uint64_t id = ids[t][i];  // a negative one is far above every limit
      bad |= id >= limit;
      out_P[i] = id + offsets[t];
    }
    if (bad) return t;
    out_P += sizes[t];
  }
  return -1;
}

// Into how many pieces distinct cuts these segments, for one rank.
int64_t pieces(int64_t num_segments, const int64_t* sizes, int64_t ranks) {
  int64_t num = 0;
  for (int bits : piece_bits(num_segments, sizes, ranks)) num += int64_t{1} << bits;
  return num;
}

// Each distinct id once, by the rank that holds it (id mod ranks), then by segment; no id may be in two of these
// consecutive segments. Returns their number U and fills
//   rows_U    the row's number on its rank      counts_N  distinct ids of each rank
//   place_P   for each id its place among U     starts_K  (K + 1) and order_P: piece k has the ids at
//                                               order_P[starts_K[k] .. starts_K[k + 1]), ascending
// Ids are dealt into pieces by rank, segment and hash; no row is in two pieces. Each is a small hash table, which
// numbers its rows as it meets them.
int64_t distinct(const int64_t* ids_P, int64_t num_segments, const int64_t* sizes, int64_t ranks, int64_t* rows_U,
                 int64_t* counts_N, int64_t* place_P, int64_t* starts_K, int64_t* order_P, int threads) {
  struct Segment {
    int64_t end, piece;
    int bits;
  };
  std::vector<Segment> segments;
  int64_t num_ids = 0, per_rank = 0;
  const std::vector<int> bits_of = piece_bits(num_segments, sizes, ranks);
  for (int64_t s = 0; s < num_segments; s++) {
    num_ids += sizes[s];
    segments.push_back({num_ids, per_rank, bits_of[s]});
    per_rank += int64_t{1} << bits_of[s];
  }
  const int64_t num_pieces = ranks * per_rank, chunks = threads;
  std::vector<int64_t> fill(chunks * num_pieces), found(num_pieces + 1);
  std::vector<int> bits_K(num_pieces);

  auto deal = [&](const auto& put) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      int64_t* of_chunk = fill.data() + chunk * num_pieces;
      int64_t p = num_ids * chunk / chunks;
      const int64_t end = num_ids * (chunk + 1) / chunks;
      for (const Segment& segment : segments)
        for (; p < std::min(end, segment.end); p++) {
          const int64_t id = ids_P[p];
          const int64_t rank = ranks == 1 ? 0 : id % ranks;
          const int64_t part = segment.bits ? mixed(id) >> (64 - segment.bits) : 0;
          put(of_chunk[rank * per_rank + segment.piece + part], p);
        }
    }
  };
  deal([](int64_t& count, int64_t) { count++; });
  int64_t total = 0;
  for (int64_t k = 0; k < num_pieces; k++) {
    starts_K[k] = total;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      const int64_t count = fill[chunk * num_pieces + k];
      fill[chunk * num_pieces + k] = total;
      total += count;
    }
  }
  starts_K[num_pieces] = total;
  for (int64_t rank = 0; rank < ranks; rank++)
    for (const Segment& segment : segments)
      std::fill_n(bits_K.begin() + rank * per_rank + segment.piece, int64_t{1} << segment.bits, segment.bits);
  deal([&](int64_t& next, int64_t p) { order_P[next++] = p; });

  // Within a piece rows count from 0; they are shifted once all pieces are counted.
  std::unique_ptr<int64_t[]> ids_U(new int64_t[num_ids]);
#pragma omp parallel num_threads(threads)
  {
    std::vector<int32_t> slots;
#pragma omp for schedule(dynamic, 1)
    for (int64_t k = 0; k < num_pieces; k++) {
      const int64_t begin = starts_K[k], end = starts_K[k + 1];
      int log_slots = 4;
      while (int64_t{1} << log_slots < 2 * (end - begin)) log_slots++;
      const int64_t mask = (int64_t{1} << log_slots) - 1;
      slots.assign(mask + 1, -1);
      int64_t* mine = ids_U.get() + begin;
      int32_t num = 0;
      for (int64_t j = begin; j < end; j++) {
        const int64_t id = ids_P[order_P[j]];
        int64_t slot = (mixed(id) << bits_K[k]) >> (64 - log_slots);  // the bits that the piece has in common left out
        while (slots[slot] >= 0 && mine[slots[slot]] != id) slot = (slot + 1) & mask;
        if (slots[slot] < 0) {
          mine[num] = id;
          slots[slot] = num++;
        }
        place_P[order_P[j]] = slots[slot];
      }
      found[k + 1] = num;
    }
  }
  std::fill(counts_N, counts_N + ranks, 0);
  for (int64_t k = 0; k < num_pieces; k++) {
    counts_N[k / per_rank] += found[k + 1];
    found[k + 1] += found[k];
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t k = 0; k < num_pieces; k++) {
    const int64_t begin = starts_K[k], shift = found[k], num = found[k + 1] - shift;
    for (int64_t u = 0; u < num; u++) rows_U[shift + u] = ranks == 1 ? ids_U[begin + u] : ids_U[begin + u] / ranks;
    for (int64_t j = begin; j < starts_K[k + 1]; j++) place_P[order_P[j]] += shift;
  }
  return found[num_pieces];
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

// out_UD = sums of the gradients that from_P points at, by row, over pieces as distinct makes them: rows from
// first_row on. Within a piece gradients are read in the order of the ids and rows are first met in their order, so
// what is read is nearly consecutive, and the rows of a piece stay in the cache. Returns the number of the first row
// whose sum is not finite, or -1.
int64_t sum_rows(const float* const* from_P, const int64_t* place_P, const int64_t* order_P, const int64_t* starts_K,
                 int64_t num_pieces, int64_t first_row, int64_t dim, float* out_UD, int threads) {
  std::atomic<int64_t> bad{INT64_MAX};
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t k = 0; k < num_pieces; k++) {
    const int64_t begin = starts_K[k], end = starts_K[k + 1];
    if (begin == end) continue;
    const int64_t first = place_P[order_P[begin]];
    int64_t fresh = first;
    for (int64_t j = begin; j < end; j++) {
      if (j + AHEAD < end) prefetch(from_P[order_P[j + AHEAD]], dim);
      const int64_t u = place_P[order_P[j]];
      float* to = out_UD + (u - first_row) * dim;
      const float* from = from_P[order_P[j]];
      if (u == fresh) {
        std::memcpy(to, from, dim * sizeof(float));
        fresh++;
      } else {
        add(to, from, dim);
      }
    }
    for (int64_t u = first; u < fresh; u++)
      if (!finite(out_UD + (u - first_row) * dim, dim)) {
        int64_t seen = bad.load();
        while (u < seen && !bad.compare_exchange_weak(seen, u)) {
        }
        break;
      }
  }
  return bad == INT64_MAX ? -1 : bad.load();
}

// The rules. grad_UD are the gradients of the rows rows_U of the table; they are multiplied by scale.
void update_sgd(float* weight, const int64_t* rows_U, int64_t num_rows, int64_t dim, const float* grad_UD, float scale,
                int threads, float rate) {
  update(grad_UD, {{weight, dim}}, rows_U, num_rows, dim, scale, threads, [=](int64_t row, const float* gradient) {
    float* to = weight + row * dim;
    for (int64_t d = 0; d < dim; d++) to[d] -= rate * gradient[d];
  });
}

void update_adagrad(float* weight, const int64_t* rows_U, int64_t num_rows, int64_t dim, const float* grad_UD,
                    float scale, int threads, float* sums, float rate, float epsilon) {
  const std::initializer_list<Array> arrays = {{weight, dim}, {sums, 1}};
  update(grad_UD, arrays, rows_U, num_rows, dim, scale, threads, [=](int64_t row, const float* gradient) {
    const float sum = sums[row] += sum_of_squares(gradient, dim) / static_cast<float>(dim);
    const float step = rate / (std::sqrt(sum) + epsilon);
    float* to = weight + row * dim;
    for (int64_t d = 0; d < dim; d++) to[d] -= step * gradient[d];
  });
}

void update_adam(float* weight, const int64_t* rows_U, int64_t num_rows, int64_t dim, const float* grad_UD, float scale,
                 int threads, float* means, float* squares, float rate, float mean_share, float square_share,
                 float epsilon) {
  const std::initializer_list<Array> arrays = {{weight, dim}, {means, dim}, {squares, dim}};
  update(grad_UD, arrays, rows_U, num_rows, dim, scale, threads, [=](int64_t row, const float* gradient) {
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
  return __builtin_cpu_supports("x86-64-v3");  // the level it is built for: FMA, BMI, LZCNT and F16C beside AVX2
#else
  return true;
#endif
}

// Bumped with every change of these functions: kernel.py refuses a library of another number.
int64_t version() { return 3; }
}
