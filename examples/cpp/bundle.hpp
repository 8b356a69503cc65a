// Reads what `nlpkit export` writes beside the model: nlpkit.json, vocab.txt and tokenizer.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "json.hpp"
#include "wordpiece.hpp"

namespace bundle {

using Path = std::filesystem::path;

// What nlpkit.json says of the task and of the model.
struct Description {
  std::string target;               // class, multilabel or regression
  std::vector<std::string> labels;  // in the order of the model's outputs
  std::vector<std::string> inputs;  // in the order of the model's arguments
  std::size_t max_length;           // of a text, in ids
};

inline std::string read(const Path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!(file && text << file.rdbuf()))
    throw std::runtime_error(path.string() + ": is missing or cannot be read; name the folder " +
                             "that nlpkit export wrote");
  return text.str();
}

inline json::Value read_json(const Path& path) {
  try {
    return json::Reader(read(path)).read();
  } catch (const json::Error& error) {
    throw std::runtime_error(path.string() + ": " + error.what());
  }
}

// Throws where a file asks for what is not implemented here: no answer is better than another one.
inline void require(bool met, const Path& path, const std::string& problem) {
  if (!met) throw std::runtime_error(path.string() + ": " + problem + "; use nlpkit predict");
}

inline std::vector<std::string> texts(const json::Value& value) {
  std::vector<std::string> texts;
  for (const json::Value& item : value.list) texts.push_back(item.text);
  return texts;
}

inline Description read_description(const Path& folder) {
  const Path path = folder / "nlpkit.json";
  const json::Value described = read_json(path);
  const json::Value& task = described["task"];
  require(task["name"].text == "sequence", path,
          "the task \"" + task["name"].text + "\" is not implemented here");
  require(task["options"]["text"].kind == json::Kind::text, path,
          "the task takes pairs of texts, which is not implemented here");
  const std::string target = task["options"]["target"].text;
  require(target == "class" || target == "multilabel" || target == "regression", path,
          "the target \"" + target + "\" is not implemented here");
  const std::vector<std::string> inputs = texts(described["model"]["inputs"]);
  for (const std::string& name : inputs)
    require(name == "input_ids" || name == "attention_mask" || name == "token_type_ids", path,
            "the model takes \"" + name + "\", which is not implemented here");
  return {target, texts(described["schema"]["labels"]), inputs,
          static_cast<std::size_t>(described["tokenizer"]["max_length"].number)};
}

inline void require_type(const json::Value& part, const std::string& type, const Path& path,
                         const std::string& name) {
  const std::string found = part["type"].text.empty() ? "null" : part["type"].text;
  require(found == type, path, "the " + name + " is " + found + ", and only " + type +
                                   " is implemented here");
}

inline wordpiece::Normalizer read_normalizer(const json::Value& stored, const Path& path) {
  const json::Value* bert = &stored;
  for (const json::Value& part : stored["normalizers"].list) {
    require_type(part, "BertNormalizer", path, "normalizer");
    bert = &part;
  }
  require(stored["normalizers"].list.size() < 2, path, "has several normalizers");
  require_type(*bert, "BertNormalizer", path, "normalizer");
  const auto on = [bert](const char* step) { return (*bert)[step].number != 0; };
  const bool follows = (*bert)["strip_accents"].kind == json::Kind::null;
  return {on("clean_text"), on("handle_chinese_chars"),
          on(follows ? "lowercase" : "strip_accents"), on("lowercase")};
}

// The ids that the post-processor puts before and after a text.
inline void read_template(const json::Value& stored, const Path& path,
                          wordpiece::Options& options) {
  require_type(stored, "TemplateProcessing", path, "post_processor");
  std::vector<std::int64_t>* side = &options.before;
  for (const json::Value& part : stored["single"].list) {
    for (const auto& [kind, placed] : part.object) {
      require(placed["type_id"].number == 0, path, "a text has the type 1");
      if (kind == "Sequence") side = &options.after;
      for (const json::Value& id : stored["special_tokens"][placed["id"].text]["ids"].list)
        if (kind == "SpecialToken") side->push_back(static_cast<std::int64_t>(id.number));
    }
  }
}

// The lines of vocab.txt, whose numbers are the ids, as tokenizer.json has them too.
inline std::unordered_map<std::string, std::int64_t> read_vocabulary(const Path& path,
                                                                     const json::Value& model) {
  std::unordered_map<std::string, std::int64_t> vocabulary;
  std::istringstream lines(read(path));
  for (std::string token; std::getline(lines, token);) {
    const std::int64_t id = static_cast<std::int64_t>(vocabulary.size());
    const json::Value& stored = model["vocab"][token];
    require(stored.kind == json::Kind::number && stored.number == id, path,
            "line " + std::to_string(id + 1) + " is not what tokenizer.json has there");
    vocabulary[token] = id;
  }
  require(vocabulary.size() == model["vocab"].object.size(), path, "lacks lines");
  return vocabulary;
}

inline wordpiece::Tokenizer read_tokenizer(const Path& folder, std::size_t max_length) {
  const Path path = folder / "tokenizer.json";
  const json::Value stored = read_json(path);
  const json::Value& model = stored["model"];
  require_type(model, "WordPiece", path, "model");
  require_type(stored["pre_tokenizer"], "BertPreTokenizer", path, "pre_tokenizer");
  require(stored["padding"].kind == json::Kind::null, path, "pads");
  const json::Value& truncation = stored["truncation"];
  require(truncation["max_length"].number == max_length && truncation["direction"].text == "Right",
          path, "does not cut texts on the right at the max_length of nlpkit.json");
  require(truncation["stride"].number == 0, path, "cuts long texts into windows");

  wordpiece::Options options;
  options.normalizer = read_normalizer(stored["normalizer"], path);
  options.continuing_prefix = model["continuing_subword_prefix"].text;
  options.longest_word = static_cast<std::size_t>(model["max_input_chars_per_word"].number);
  options.max_length = max_length;
  for (const json::Value& token : stored["added_tokens"].list) {
    for (const char* option : {"normalized", "single_word", "lstrip", "rstrip"})
      require(token[option].number == 0, path, token["content"].text + " is " + option);
    options.specials.emplace_back(token["content"].text,
                                  static_cast<std::int64_t>(token["id"].number));
  }
  read_template(stored["post_processor"], path, options);
  require(options.before.size() + options.after.size() <= max_length, path, "leaves no room");

  auto vocabulary = read_vocabulary(folder / "vocab.txt", model);
  const auto unknown = vocabulary.find(model["unk_token"].text);
  require(unknown != vocabulary.end(), path, "has no token for unknown words");
  options.unknown = unknown->second;
  return {std::move(vocabulary), std::move(options)};
}

}  // namespace bundle
