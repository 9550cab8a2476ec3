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
//   B users   N catalogue (items and padding)   D embedding width

#include <atomic>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "blend.h"
#include "found.h"
#include "product.h"

namespace {

constexpr int64_t CHUNK = 74 * ROWS;     // users that share a packing of the items
constexpr int64_t MOST_TIES = 4096;      // beyond 4 M candidates
constexpr int64_t MOST_FOUND = 1 << 22;  // of a chunk, which is smaller where M is large
constexpr int64_t MOST_EDITS = 1 << 21;  // of a chunk, which is cut short there: 8 MB
constexpr int64_t AHEAD = 8;             // item vectors to prefetch

class Worker {
 public:
  Worker() : found(CHUNK), margins(CHUNK), additions(CHUNK) {}

  void begin(const Job& of) {
    job = &of;
    edits.begin(of);
    history.begin(of);
    sums.begin(of);
    users.reserve(CHUNK * of.dim + 1);
    items.reserve(BLOCK * of.dim + 1);
    tile.reserve(ROWS * STRIDE);
    repeats_N.assign(of.width, 0.0);
  }

  void score(int64_t start, int64_t stop) {
    if (job->candidates.offsets)
      for (; start < stop; start++) rank(start);
    while (start < stop) start = chunk(start, stop);
  }

 private:
  // As many of the users as fit; returns the first that did not.
  int64_t chunk(int64_t start, int64_t stop) {
    stop = std::min(stop, start + std::clamp<int64_t>(MOST_FOUND / (2 * job->m + BLOCK), ROWS, CHUNK));
    edits.clear();
    int64_t b = start;
    for (; b < stop && edits.size < MOST_EDITS; b++) {
      history.read(b);
      margins[b - start] = job->margin_B[b] + 2 * edits.append(b, history);
      found[b - start].start(job->m);
    }
    stop = b;
    for (int64_t u = 0; u < stop - start; u++) additions[u] = edits.of(u);
    pack_users(start, stop);
    for (int64_t first = 0; first < job->width; first += BLOCK) {
      pack_items(*job, first, items.get());
      for (int64_t panel = start; panel < stop; panel += ROWS) {
        for (int64_t u = panel; u < std::min(stop, panel + ROWS); u++) additions[u - start].fetch();
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
    additions[u].add_to(row, first);
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

  // Those that another first pass found.
  void rank(int64_t b) {
    const int64_t* given = job->candidates.offsets + b;
    Found& candidates = found[0];
    candidates.size = 0;
    candidates.reserve(given[1] - given[0]);
    candidates.size = given[1] - given[0];
    std::copy_n(job->candidates.nums + given[0], candidates.size, candidates.nums.get());
    score_exactly(b, 0);
    write(b);
  }

  void finish(int64_t b, int64_t u) {
    found[u].tighten(job->m, margins[u]);
    score_exactly(b, u);
    write(b);
  }

  void score_exactly(int64_t b, int64_t u) {
    const Found& candidates = found[u];
    history.read(b);
    if (history.size > 0) sums.add_up(history, candidates.nums.get(), candidates.size);
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
      part.raw = sums.of(num);
      part.item_item = part.raw > 0 ? std::log1p(ITEM_ITEM_SCALE * part.raw) : 0.0;
      part.popular = job->popular_weight_B[b] * shares[num];
      part.score = part.z + part.item_item + part.popular;
      if (job->decimals > 0) part.score = static_cast<float>(std::nearbyint(part.score * job->decimals) / job->decimals);
      ranked[c] = part.score;
    }
    if (history.size > 0) sums.clear(candidates.nums.get(), candidates.size);
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
    const bool repeats = job->history.repeats;
    if (repeats)
      for (int64_t h = 0; h < history.size; h++) repeats_N[history.nums[h]] = history.repeats[h];
    for (int64_t place = 0; place < length; place++) {
      const Part& part = parts[best[place]];
      job->nums[b * job->m + place] = part.num;
      job->scores[b * job->m + place] = static_cast<float>(part.score) + 0.0f;
      job->sources[b * job->m + place] = source(part, repeats_N[part.num], part.num < job->known && job->inverse_spread_B[b] > 0);
    }
    if (repeats)
      for (int64_t h = 0; h < history.size; h++) repeats_N[history.nums[h]] = 0;
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
  History history;
  Edits edits;
  Sums sums;
  Buffer<float> users, items, tile;
  std::vector<Found> found;
  std::vector<double> margins;
  std::vector<Additions> additions;
  std::vector<Part> parts;
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
int64_t version() { return 4; }
}
