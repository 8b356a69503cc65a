// BERT's tokenizer: texts in UTF-8 become the ids that the `tokenizers` library gives.
//
// Normalizer and pre-tokenizer: Devlin et al. 2019; WordPiece: Schuster and Nakajima 2012.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "unicode_tables.hpp"
#include "utf8.hpp"

namespace wordpiece {

// The entry of a sorted table that holds a code point; null where there is none.
template <typename Entry, std::size_t size>
const Entry* find(const Entry (&table)[size], char32_t code) {
  const auto after = std::upper_bound(
      std::begin(table), std::end(table), code,
      [](char32_t wanted, const Entry& entry) { return wanted < entry.first; });
  if (after == std::begin(table)) return nullptr;
  const Entry* entry = std::prev(after);
  return code <= entry->last ? entry : nullptr;
}

inline bool is_space(char32_t code) { return find(unicode::SPACES, code); }

// Adds what a code point becomes by a table: itself where it is not in there.
template <std::size_t size>
void map(const unicode::Mapping (&table)[size], char32_t code, std::u32string& out) {
  const auto found = std::lower_bound(
      std::begin(table), std::end(table), code,
      [](const unicode::Mapping& entry, char32_t wanted) { return entry.from < wanted; });
  if (found == std::end(table) || found->from != code) {
    out += code;
    return;
  }
  for (const char32_t to : found->to)
    if (to) out += to;
}

// The syllables of Hangul decompose by arithmetic (The Unicode Standard, section 3.12).
inline void decompose(char32_t code, std::u32string& out) {
  if (code < 0xAC00 || code > 0xD7A3) {
    map(unicode::DECOMPOSED, code, out);
    return;
  }
  const char32_t syllable = code - 0xAC00;
  out += 0x1100 + syllable / 588;
  out += 0x1161 + syllable % 588 / 28;
  if (syllable % 28) out += 0x11A7 + syllable % 28;
}

// Canonical decomposition, NFD: each run of combining characters is sorted by class.
inline std::u32string decomposed(std::u32string_view text) {
  std::u32string out;
  for (const char32_t code : text) decompose(code, out);
  const auto rank = [](char32_t code) {
    const unicode::Rank* entry = find(unicode::RANKS, code);
    return entry ? entry->rank : 0;
  };
  for (auto at = out.begin(); at != out.end();) {
    const auto start = std::find_if(at, out.end(), rank);
    at = std::find_if_not(start, out.end(), rank);
    std::stable_sort(start, at, [&](char32_t a, char32_t b) { return rank(a) < rank(b); });
  }
  return out;
}

// The steps of BERT's normalizer that are on.
struct Normalizer {
  bool clean_text = true;
  bool handle_chinese_chars = true;
  bool strip_accents = true;
  bool lowercase = true;

  std::u32string operator()(std::u32string_view text) const {
    std::u32string out;
    for (const char32_t code : text) {
      if (clean_text && find(unicode::REMOVED, code)) continue;
      const char32_t kept = clean_text && is_space(code) ? U' ' : code;
      if (handle_chinese_chars && find(unicode::IDEOGRAPHS, code))
        out.append({U' ', kept, U' '});
      else
        out += kept;
    }
    if (strip_accents) {
      out = decomposed(out);
      const auto accent = [](char32_t code) { return find(unicode::ACCENTS, code) != nullptr; };
      out.erase(std::remove_if(out.begin(), out.end(), accent), out.end());
    }
    if (!lowercase) return out;
    std::u32string lower;
    for (const char32_t code : out) map(unicode::LOWER, code, lower);
    return lower;
  }
};

// Words end at white space; a sign of punctuation is a word.
inline std::vector<std::u32string> split(std::u32string_view text) {
  std::vector<std::u32string> words;
  bool inside = false;
  for (const char32_t code : text) {
    const bool sign = find(unicode::PUNCTUATION, code);
    if (is_space(code)) {
      inside = false;
    } else if (inside && !sign) {
      words.back() += code;
    } else {
      words.emplace_back(1, code);
      inside = !sign;
    }
  }
  return words;
}

struct Options {
  Normalizer normalizer;
  std::string continuing_prefix = "##";
  std::int64_t unknown = 0;                                    // the id of words without pieces
  std::size_t longest_word = 100;                              // in characters; longer is unknown
  std::size_t max_length = 512;                                // in ids, special ones counted
  std::vector<std::pair<std::string, std::int64_t>> specials;  // found in texts as they stand
  std::vector<std::int64_t> before, after;                     // ids round each text
};

class Tokenizer {
 public:
  Tokenizer(std::unordered_map<std::string, std::int64_t> vocabulary, Options options)
      : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {}

  // The ids of a text. Throws std::runtime_error where it is not UTF-8.
  std::vector<std::int64_t> ids(std::string_view text) const {
    std::vector<std::int64_t> ids;
    std::size_t plain = 0;
    for (std::size_t at = 0; at < text.size();) {
      const auto* special = special_at(text.substr(at));
      if (!special) {
        ++at;
        continue;
      }
      add(text.substr(plain, at - plain), ids);
      ids.push_back(special->second);
      plain = at += special->first.size();
    }
    add(text.substr(plain), ids);
    const std::size_t room = options_.max_length - options_.before.size() - options_.after.size();
    if (ids.size() > room) ids.resize(room);
    ids.insert(ids.begin(), options_.before.begin(), options_.before.end());
    ids.insert(ids.end(), options_.after.begin(), options_.after.end());
    return ids;
  }

  // The words of a text that are cut into pieces.
  std::vector<std::u32string> words(std::string_view text) const {
    return split(options_.normalizer(utf8::decode(text)));
  }

 private:
  using Special = std::pair<std::string, std::int64_t>;

  // The longest special token that a text begins with.
  const Special* special_at(std::string_view text) const {
    const Special* longest = nullptr;
    for (const Special& special : options_.specials)
      if (text.substr(0, special.first.size()) == special.first)
        if (!longest || special.first.size() > longest->first.size()) longest = &special;
    return longest;
  }

  void add(std::string_view text, std::vector<std::int64_t>& ids) const {
    for (const std::u32string& word : words(text)) add_pieces(word, ids);
  }

  // The longest piece that the word begins with, then the longest that the rest begins with.
  void add_pieces(std::u32string_view word, std::vector<std::int64_t>& ids) const {
    const std::size_t before = ids.size();
    bool known = word.size() <= options_.longest_word;
    for (std::size_t start = 0, end; known && start < word.size(); start = end) {
      const std::string prefix = start ? options_.continuing_prefix : "";
      known = false;
      for (end = word.size(); end > start; --end) {
        const auto found = vocabulary_.find(prefix + utf8::encode(word.substr(start, end - start)));
        if (found == vocabulary_.end()) continue;
        ids.push_back(found->second);
        known = true;
        break;
      }
    }
    if (known) return;
    ids.resize(before);
    ids.push_back(options_.unknown);
  }

  std::unordered_map<std::string, std::int64_t> vocabulary_;
  Options options_;
};

}  // namespace wordpiece
