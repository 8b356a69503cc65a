// The words that wordpiece.hpp finds in texts; a byte that no UTF-8 has, 0xFF, ends a text.
#include <iostream>
#include <string>

#include "wordpiece.hpp"

int main(int, char** steps) {
  const auto on = [steps](int at) { return std::string(steps[at]) == "1"; };
  wordpiece::Options options;
  options.normalizer = {on(1), on(2), on(3), on(4)};
  const wordpiece::Tokenizer tokenizer({}, options);
  for (std::string text; std::getline(std::cin, text, '\xFF');) {
    for (const std::u32string& word : tokenizer.words(text)) std::cout << utf8::encode(word) << ' ';
    std::cout << '\xFF';
  }
}
