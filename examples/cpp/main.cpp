// classify: label and score of texts, by a model that `nlpkit export RUN torchscript` wrote.

#include <torch/script.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bundle.hpp"

namespace {

constexpr const char* usage =
    "Usage: classify [--ids] EXPORT_FOLDER [TEXT ...]\n"
    "Prints a line for each text: label and score, or with --ids the ids of its tokens.\n"
    "Without a TEXT it reads standard input, a text a line. All is UTF-8.\n";

using Answer = std::function<std::string(const std::vector<std::int64_t>& ids)>;

std::string joined(const std::vector<std::int64_t>& ids) {
  std::string line;
  for (const std::int64_t id : ids) line.append(line.empty() ? "" : " ").append(std::to_string(id));
  return line;
}

// "label<TAB>score"; for several labels each that is likely; for regression the value.
std::string described(const at::Tensor& logits, const bundle::Description& description) {
  const std::vector<std::string>& labels = description.labels;
  std::ostringstream line;
  line << std::fixed << std::setprecision(6);
  if (description.target == "regression") {
    line << logits.item<double>();
    return line.str();
  }
  if (static_cast<std::size_t>(logits.numel()) != labels.size())
    throw std::runtime_error("the model has not the labels of nlpkit.json; export it again");
  const bool single = description.target == "class";
  const at::Tensor scores = single ? logits.softmax(0) : logits.sigmoid();
  const std::int64_t best = logits.argmax().item<std::int64_t>();
  for (std::int64_t at = 0; at < scores.numel(); ++at) {
    const double score = scores[at].item<double>();
    if (single ? at != best : score < 0.5) continue;
    line << (line.tellp() > 0 ? "\t" : "") << labels[static_cast<std::size_t>(at)] << '\t' << score;
  }
  return line.str();
}

Answer classifier(const bundle::Path& folder, const bundle::Description& description) {
  const bundle::Path path = folder / "model.pt";
  if (!std::filesystem::is_regular_file(path))
    throw std::runtime_error(path.string() + ": is missing; write it with nlpkit export RUN " +
                             "torchscript");
  // Or the first calls are watched, and optimized and compiled for their shapes, before it is fast.
  torch::jit::FusionStrategy none;
  torch::jit::setFusionStrategy(none);
  torch::jit::Module model;
  try {
    model = torch::jit::load(path.string(), torch::kCPU);
  } catch (const c10::Error&) {
    throw std::runtime_error(path.string() + ": is no TorchScript; export the model again");
  }
  model.eval();
  return [model, description](const std::vector<std::int64_t>& ids) mutable {
    const c10::InferenceMode inference;
    // A batch of one: nothing is padded.
    const at::Tensor row = torch::tensor(ids, torch::kLong).unsqueeze(0);
    std::vector<c10::IValue> arguments;
    for (const std::string& name : description.inputs)
      arguments.emplace_back(name == "input_ids"        ? row
                             : name == "attention_mask" ? torch::ones_like(row)
                                                        : torch::zeros_like(row));
    const at::Tensor logits = model.forward(arguments).toTensor();
    return described(logits.to(torch::kDouble).flatten(), description);
  };
}

// Refuses what nlpkit refuses: what is not UTF-8, and a text in which nothing can be seen.
void check(const std::string& text) {
  const std::u32string decoded = utf8::decode(text);
  const auto blank = [](char32_t code) {
    return wordpiece::is_space(code) || (code >= 0x1C && code <= 0x1F) || code == 0xAD ||
           (code >= 0x200B && code <= 0x200F) || code == 0x2060 || code == 0xFEFF;
  };
  if (std::all_of(decoded.begin(), decoded.end(), blank))
    throw std::runtime_error("the text is empty");
}

void run(std::vector<std::string> arguments) {
  const bool only_ids = !arguments.empty() && arguments.front() == "--ids";
  if (only_ids) arguments.erase(arguments.begin());
  if (arguments.empty()) throw std::runtime_error(std::string("name a folder\n") + usage);
  const bundle::Path folder = arguments.front();
  const bundle::Description description = bundle::read_description(folder);
  const wordpiece::Tokenizer tokenizer = bundle::read_tokenizer(folder, description.max_length);
  const Answer answer = only_ids ? joined : classifier(folder, description);

  const auto print = [&](const std::string& text, const std::string& place) {
    try {
      check(text);
      std::cout << answer(tokenizer.ids(text)) << '\n';
    } catch (const c10::Error& error) {
      throw std::runtime_error(place + ": " + error.what_without_backtrace());
    } catch (const std::exception& error) {
      throw std::runtime_error(place + ": " + error.what());
    }
  };
  for (std::size_t at = 1; at < arguments.size(); ++at)
    print(arguments[at], "text " + std::to_string(at));
  if (arguments.size() > 1) return;
  std::size_t number = 0;
  for (std::string line; std::getline(std::cin, line);)
    print(line, "line " + std::to_string(++number));
}

}  // namespace

int main(int count, char** values) {
  try {
    run({values + 1, values + count});
  } catch (const std::exception& error) {
    std::cout << std::flush;
    std::cerr << "classify: " << error.what() << '\n';
    return 2;
  }
  return 0;
}
