// Text as UTF-8 bytes and as code points.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace utf8 {

inline std::string encode(std::u32string_view text) {
  std::string bytes;
  const auto put = [&bytes](char32_t byte) { bytes += static_cast<char>(byte); };
  const auto put_tail = [&put](char32_t code, int shift) { put(0x80 | (code >> shift & 0x3F)); };
  for (const char32_t code : text) {
    if (code < 0x80) {
      put(code);
      continue;
    }
    const int tail = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    put((0xFF00 >> (tail + 1) & 0xFF) | code >> 6 * tail);
    for (int left = tail - 1; left >= 0; --left) put_tail(code, 6 * left);
  }
  return bytes;
}

// Throws where a sequence is cut off, longer than need be, a surrogate or beyond U+10FFFF.
inline std::u32string decode(std::string_view bytes) {
  static constexpr char32_t least[] = {0, 0x80, 0x800, 0x10000};
  std::u32string text;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto byte = [&](std::size_t place) { return static_cast<unsigned char>(bytes[place]); };
    const unsigned char lead = byte(at);
    const std::size_t tail = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    bool good = (lead < 0x80 || lead >= 0xC0) && lead < 0xF8 && at + tail < bytes.size();
    char32_t code = tail == 0 ? lead : lead & (0x3F >> tail);
    for (std::size_t next = 1; good && next <= tail; ++next) {
      good = (byte(at + next) & 0xC0) == 0x80;
      code = code << 6 | (byte(at + next) & 0x3F);
    }
    if (!good || code < least[tail] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      throw std::runtime_error("is not UTF-8 at byte " + std::to_string(at + 1));
    text += code;
    at += tail + 1;
  }
  return text;
}

}  // namespace utf8
