// Vectors of floats of this machine's width, and memory for them: what select.cpp is written in.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <sys/mman.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr uint32_t EVERY = (1u << LANES) - 1;  // a bit per lane
constexpr size_t HUGE_PAGE = 2 << 20;
constexpr float LOWEST = -FLT_MAX;       // what is hidden scores minus infinity, and never passes
constexpr float HIDDEN = -std::numeric_limits<float>::infinity();

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef float LooseFloats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef int32_t LooseInts __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(64)));
typedef double LooseDoubles __attribute__((vector_size(64), aligned(8), may_alias));
typedef float LooseEight __attribute__((vector_size(32), aligned(4), may_alias));
typedef int64_t Longs __attribute__((vector_size(64)));

#define INLINE inline __attribute__((always_inline))

INLINE Floats load(const float* from) { return *reinterpret_cast<const LooseFloats*>(from); }
INLINE Ints load(const int32_t* from) { return *reinterpret_cast<const LooseInts*>(from); }
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

// A bit for each value that is not 0.
INLINE uint32_t not_zero(Floats values) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_NEQ_UQ));
#else
  uint32_t bits = 0;
  for (int i = 0; i < LANES; i++) bits |= uint32_t{values[i] != 0} << i;
  return bits;
#endif
}

// The values of the bits, one after the other; writes LANES floats, whatever the bits. Returns the place after the last.
INLINE float* squeeze(float* to, Floats values, uint32_t bits) {
#if defined(__AVX512F__)
  store(to, _mm512_maskz_compress_ps(bits, values));
  return to + __builtin_popcount(bits);
#else
  for (; bits; bits &= bits - 1) *to++ = values[__builtin_ctz(bits)];
  return to;
#endif
}

// Adds the next values to those of the bits; returns the place after the last.
INLINE const float* spread(float* row, const float* from, uint32_t bits) {
#if defined(__AVX512F__)
  store(row, load(row) + _mm512_maskz_expand_ps(bits, load(from)));
  return from + __builtin_popcount(bits);
#else
  for (; bits; bits &= bits - 1) row[__builtin_ctz(bits)] += *from++;
  return from;
#endif
}

// log(1 + x) for x >= 0, with an error below 2^-21 of the result plus 2^-23: 2 artanh((m - 1) / (m + 1)) + k log 2.
INLINE Floats log1p(Floats x) {
  const Floats y = x + 1.0f;
  const Ints bits = (Ints)y;
  const Ints exponent = (bits - 0x3F3504F3) >> 23;  // so that m lies between the roots of 1/2 and of 2
  const Floats m = (Floats)(bits - (exponent << 23));
  const Floats s = (m - 1.0f) / (m + 1.0f), q = s * s;
  const Floats series = 1.0f + q * (1.0f / 3 + q * (1.0f / 5 + q * (1.0f / 7 + q * (1.0f / 9))));
  return 2.0f * s * series + __builtin_convertvector(exponent, Floats) * 0.693147181f;
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

}  // namespace
