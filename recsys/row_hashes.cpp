// The content hash of list columns: XXH64 (Y. Collet, the xxHash specification) of each element, seeded with what came
// before it in the row, as row_hashes.py has it for whole columns. A list of a hundred texts takes numpy a hundred
// passes over memory; here it is one loop.

#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace {

constexpr uint64_t P1 = 0x9E3779B185EBCA87, P2 = 0xC2B2AE3D27D4EB4F, P3 = 0x165667B19E3779F9;
constexpr uint64_t P4 = 0x85EBCA77C2B2AE63, P5 = 0x27D4EB2F165667C5;

inline uint64_t rotate(uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }

inline uint64_t read8(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

inline uint64_t read4(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}

inline uint64_t round_of(uint64_t lane, uint64_t word) { return rotate(lane + word * P2, 31) * P1; }

inline uint64_t mixed(uint64_t hash) {
  hash = (hash ^ (hash >> 33)) * P2;
  hash = (hash ^ (hash >> 29)) * P3;
  return hash ^ (hash >> 32);
}

uint64_t xxh64(const uint8_t* p, int64_t length, uint64_t seed) {
  const uint8_t* end = p + length;
  uint64_t hash = seed + P5;
  if (length >= 32) {
    uint64_t a = seed + P1 + P2, b = seed + P2, c = seed, d = seed - P1;
    for (; p + 32 <= end; p += 32) {
      a = round_of(a, read8(p));
      b = round_of(b, read8(p + 8));
      c = round_of(c, read8(p + 16));
      d = round_of(d, read8(p + 24));
    }
    hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
    for (uint64_t lane : {a, b, c, d}) hash = (hash ^ round_of(0, lane)) * P1 + P4;
  }
  hash += static_cast<uint64_t>(length);
  for (; p + 8 <= end; p += 8) hash = rotate(hash ^ round_of(0, read8(p)), 27) * P1 + P4;
  if (p + 4 <= end) {
    hash = rotate(hash ^ (read4(p) * P1), 23) * P2 + P3;
    p += 4;
  }
  for (; p < end; ++p) hash = rotate(hash ^ (*p * P5), 11) * P1;
  return mixed(hash);
}

inline uint64_t of_int(uint32_t number, uint64_t seed) {
  return mixed(rotate((seed + P5 + 4) ^ (number * P1), 23) * P2 + P3);
}

}  // namespace

extern "C" {

int version() { return 1; }

// Row r has the elements lists[r] to lists[r + 1]. Element e is the text offsets[k] to offsets[k + 1] of `bytes`,
// k = numbers[e]; where `numbers` is null, k = e. hash[r] is the row's seed, and becomes its hash.
void fold_texts(int64_t rows, const int64_t* lists, const int32_t* numbers, const int32_t* offsets,
                const uint8_t* bytes, uint64_t* hash) {
  for (int64_t r = 0; r < rows; ++r) {
    uint64_t seed = hash[r];
    for (int64_t e = lists[r]; e < lists[r + 1]; ++e) {
      const int64_t k = numbers ? numbers[e] : e;
      seed = xxh64(bytes + offsets[k], offsets[k + 1] - offsets[k], seed);
    }
    hash[r] = seed;
  }
}

// The same of 32-bit numbers.
void fold_ints(int64_t rows, const int64_t* lists, const uint32_t* numbers, uint64_t* hash) {
  for (int64_t r = 0; r < rows; ++r) {
    uint64_t seed = hash[r];
    for (int64_t e = lists[r]; e < lists[r + 1]; ++e) seed = of_int(numbers[e], seed);
    hash[r] = seed;
  }
}

}  // extern "C"
