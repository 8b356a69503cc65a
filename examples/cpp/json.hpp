// Reads JSON (RFC 8259), as much of it as the description of a model needs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "utf8.hpp"

namespace json {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Kind { null, boolean, number, text, list, object };

// A value, with the member of its kind filled. A member that an object lacks reads as null.
struct Value {
  Kind kind = Kind::null;
  double number = 0;  // of a boolean: 0 or 1
  std::string text;
  std::vector<Value> list;
  std::map<std::string, Value> object;

  const Value& operator[](const std::string& name) const {
    static const Value absent;
    const auto found = object.find(name);
    return found == object.end() ? absent : found->second;
  }
};

class Reader {
 public:
  explicit Reader(std::string source) : source_(std::move(source)) {}

  Value read() {
    Value value = next();
    peek();
    if (at_ != source_.size()) fail();
    return value;
  }

 private:
  Value next() {
    Value value;
    switch (peek()) {
      case '{':
        value.kind = Kind::object;
        fill('}', [&] {
          if (peek() != '"') fail();
          const std::string name = text();
          if (!skip(':')) fail();
          value.object[name] = next();
        });
        break;
      case '[':
        value.kind = Kind::list;
        fill(']', [&] { value.list.push_back(next()); });
        break;
      case '"':
        value.kind = Kind::text;
        value.text = text();
        break;
      case 't':
      case 'f':
        value.kind = Kind::boolean;
        value.number = peek() == 't';
        word(peek() == 't' ? "true" : "false");
        break;
      case 'n':
        word("null");
        break;
      default:
        value.kind = Kind::number;
        value.number = number();
    }
    return value;
  }

  template <typename Member>
  void fill(char end, Member member) {
    ++at_;
    if (skip(end)) return;
    do member();
    while (skip(','));
    if (!skip(end)) fail();
  }

  void word(const std::string& spelling) {
    if (source_.compare(at_, spelling.size(), spelling) != 0) fail();
    at_ += spelling.size();
  }

  double number() {
    const char* start = source_.c_str() + at_;
    char* end = nullptr;
    const double number = std::strtod(start, &end);
    if (end == start) fail();
    at_ += static_cast<std::size_t>(end - start);
    return number;
  }

  std::string text() {
    std::string text;
    for (++at_; at_ < source_.size() && source_[at_] != '"';) {
      const char sign = source_[at_++];
      text += sign == '\\' ? escaped() : std::string(1, sign);
    }
    if (at_++ >= source_.size()) fail();
    return text;
  }

  std::string escaped() {
    static const std::string signs = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
    const char sign = at_ < source_.size() ? source_[at_++] : '\0';
    if (sign == 'u') {
      char32_t code = unit();
      if (code >= 0xD800 && code < 0xDC00 && source_.compare(at_, 2, "\\u") == 0) {
        at_ += 2;
        code = 0x10000 + ((code - 0xD800) << 10) + (unit() - 0xDC00);
      }
      return utf8::encode({&code, 1});
    }
    if (signs.find(sign) == std::string::npos) fail();
    return {meant[signs.find(sign)]};
  }

  char32_t unit() {
    const std::string digits = source_.substr(std::min(at_, source_.size()), 4);
    if (digits.size() < 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos)
      fail();
    at_ += 4;
    return static_cast<char32_t>(std::stoul(digits, nullptr, 16));
  }

  // The next character that is no white space; 0 at the end.
  char peek() {
    at_ = std::min(source_.find_first_not_of(" \t\r\n", at_), source_.size());
    return at_ < source_.size() ? source_[at_] : '\0';
  }

  bool skip(char sign) {
    const bool found = peek() == sign;
    if (found) ++at_;
    return found;
  }

  [[noreturn]] void fail() const {
    throw Error("is no JSON at byte " + std::to_string(std::min(at_ + 1, source_.size())));
  }

  std::string source_;
  std::size_t at_ = 0;
};

}  // namespace json
