// Stored lists (stored_list.py) from flat Arrow buffers, as encoding.py makes them column by column: there each of the
// JSON's parts is an array of its own before they are joined; here every place is written where it stays.

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

constexpr char ITEM[] = "{\"item_id\":\"", SCORE[] = "\",\"score\":", SOURCE[] = ",\"source\":\"", END[] = "\"}";
constexpr int64_t SCORE_BYTES = 24;  // "-1.17549435e-38" is longer than any other
constexpr int64_t ESCAPE_BYTES = 5;  // what \u0001 takes more than the byte itself
constexpr int DECIMAL_FROM = -6, DECIMAL_BELOW = 10;  // powers of ten that Arrow writes without an exponent

constexpr bool is_escaped(uint8_t c) { return c < 0x20 || c == '"' || c == '\\'; }

template <int64_t SIZE>
char* put(char* to, const char (&text)[SIZE]) {
  std::memcpy(to, text, SIZE - 1);
  return to + SIZE - 1;
}

char* put(char* to, const char* from, int64_t size) {
  std::memcpy(to, from, size);
  return to + size;
}

char* zeros(char* to, int count) {
  std::memset(to, '0', count);
  return to + count;
}

// The inside of a JSON string, as orjson writes it.
char* escaped(char* to, const char* from, int64_t size) {
  for (int64_t i = 0; i < size; ++i) {
    const auto c = static_cast<uint8_t>(from[i]);
    if (!is_escaped(c)) {
      *to++ = from[i];
      continue;
    }
    *to++ = '\\';
    switch (c) {
      case '"': case '\\': *to++ = from[i]; break;
      case '\b': *to++ = 'b'; break;
      case '\f': *to++ = 'f'; break;
      case '\n': *to++ = 'n'; break;
      case '\r': *to++ = 'r'; break;
      case '\t': *to++ = 't'; break;
      default:
        to = put(to, "u00");
        *to++ = "0123456789abcdef"[c >> 4];
        *to++ = "0123456789abcdef"[c & 15];
    }
  }
  return to;
}

// The shortest digits that are read back as the same number, laid out as Arrow's cast to text does.
char* number(char* to, float value) {
  char shortest[SCORE_BYTES];
  const char* p = shortest;
  // Adding zero turns -0.0, which JSON's readers may take for an integer, into 0.0.
  std::to_chars(shortest, shortest + SCORE_BYTES, value + 0.0f, std::chars_format::scientific);
  if (*p == '-') *to++ = *p++;
  char digits[SCORE_BYTES];
  int count = 0, power = 0;
  digits[count++] = *p++;
  if (*p == '.') ++p;
  for (; *p != 'e'; ++p) digits[count++] = *p;
  const bool below_one = p[1] == '-';
  power = 10 * (p[2] - '0') + (p[3] - '0');
  if (below_one) power = -power;
  if (power < DECIMAL_FROM || power >= DECIMAL_BELOW) {
    *to++ = digits[0];
    if (count > 1) *to++ = '.';
    to = put(to, digits + 1, count - 1);
    *to++ = 'e';
    if (!below_one) *to++ = '+';
    return std::to_chars(to, to + 4, power).ptr;
  }
  if (power < 0) return put(zeros(put(to, "0."), -power - 1), digits, count);
  if (power + 1 >= count) return zeros(put(to, digits, count), power + 1 - count);
  to = put(to, digits, power + 1);
  *to++ = '.';
  return put(to, digits + power + 1, count - power - 1);
}

}  // namespace

extern "C" {

int version() { return 1; }

// Of a column's bytes: found[0] is how many JSON escapes, found[1] how many are no ASCII.
void survey(int64_t size, const uint8_t* text, int64_t* found) {
  int64_t escapes = 0, wide = 0;
  for (int64_t i = 0; i < size; ++i) {
    escapes += is_escaped(text[i]);
    wide += text[i] >> 7;
  }
  found[0] = escapes;
  found[1] = wide;
}

// At most so many bytes have the values of `rows` lists with so many places, bytes of text, and escapes among those.
int64_t room(int64_t rows, int64_t places, int64_t text, int64_t escapes) {
  const int64_t place = 4 + 1 + sizeof ITEM + sizeof SCORE + sizeof SOURCE + sizeof END + SCORE_BYTES;
  return 4 * rows + place * places + text + ESCAPE_BYTES * escapes;
}

// Row r has the places lists[r] to lists[r + 1]; its value is written to ends[r] to ends[r + 1] of `values`. The texts of
// place k are item_ends[k] to item_ends[k + 1] of `items`, and so with sources. `escapes` is 0 where no text has any.
// Returns the row that holds a score that is no number, or -1.
int64_t encode(int64_t rows, const int32_t* lists, const int32_t* item_ends, const char* items, const float* scores,
               const int32_t* source_ends, const char* sources, int64_t escapes, int32_t* ends, char* values) {
  char* to = values;
  for (int64_t r = 0; r < rows; ++r) {
    ends[r] = static_cast<int32_t>(to - values);
    const uint32_t count = lists[r + 1] - lists[r];
    std::memcpy(to, &count, 4);
    char* place_end = to + 4;
    char* const begin = to = place_end + 4 * static_cast<int64_t>(count);
    for (int32_t k = lists[r]; k < lists[r + 1]; ++k, place_end += 4) {
      if (!std::isfinite(scores[k])) return r;
      const char *item = items + item_ends[k], *source = sources + source_ends[k];
      const int64_t item_size = item_ends[k + 1] - item_ends[k], source_size = source_ends[k + 1] - source_ends[k];
      if (to != begin) *to++ = ',';
      to = put(to, ITEM);
      to = escapes ? escaped(to, item, item_size) : put(to, item, item_size);
      to = put(to, SCORE);
      to = number(to, scores[k]);
      to = put(to, SOURCE);
      to = escapes ? escaped(to, source, source_size) : put(to, source, source_size);
      to = put(to, END);
      const auto end = static_cast<uint32_t>(to - begin);
      std::memcpy(place_end, &end, 4);
    }
  }
  ends[rows] = static_cast<int32_t>(to - values);
  return -1;
}

}  // extern "C"
