// SPDX-License-Identifier: MIT
#include "lox/io/peft_adapter.hpp"

#include "lox/base/error.hpp"
#include "lox/io/model_directory.hpp"
#include "lox/io/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

namespace lox {
namespace {

constexpr const char* config_file = "adapter_config.json";
constexpr const char* weights_file = "adapter_model.safetensors";
constexpr std::uint64_t longest_config = std::uint64_t{16} << 20;
constexpr std::string_view prefix = "base_model.model.";
constexpr std::string_view wrapped = ".base_layer";

/// A name without an ending, if it has that.
bool cut(std::string& name, std::string_view ending) {
  if (!name.ends_with(ending)) return false;
  name.erase(name.size() - ending.size());
  return true;
}

/// Takes the wrappers' words away; how many there were.
int unwrap(std::string& module) {
  int depth = 0;
  while (cut(module, wrapped)) ++depth;
  return depth;
}

/// Puts every tensor to its use.
class Sorter {
 public:
  explicit Sorter(PeftAdapter& adapter) : adapter_(adapter) {}

  void sort() {
    for (std::size_t i = 0; i < adapter_.table.tensors.size(); ++i) {
      std::string name = adapter_.table.tensors[i].name;
      if (name.starts_with(prefix)) name.erase(0, prefix.size());
      if (take_factor(name, static_cast<int>(i)) || take_whole(name, static_cast<int>(i))) continue;
      fail(ExitCode::bad_input, "{}: tensor '{}' is no part of a LoRA that lox knows", adapter_.table.path,
           adapter_.table.tensors[i].name);
    }
    for (auto& [key, half] : halves_) {
      if (half.a < 0 || half.b < 0) {
        fail(ExitCode::bad_input, "{}: module '{}' has one of lora_A and lora_B only", adapter_.table.path,
             half.module);
      }
      adapter_.pairs.push_back(std::move(half));
    }
  }

 private:
  bool take_factor(std::string name, int tensor) {
    struct Ending {
      std::string_view word;
      bool is_a;
      bool embedding;
    };
    constexpr std::array<Ending, 4> endings{{{".lora_A.weight", true, false},
                                             {".lora_B.weight", false, false},
                                             {".lora_embedding_A", true, true},
                                             {".lora_embedding_B", false, true}}};
    for (const Ending& ending : endings) {
      if (!cut(name, ending.word)) continue;
      const auto [found, fresh] = halves_.try_emplace({name, ending.embedding});
      LoraPair& pair = found->second;
      if (fresh) pair.a = pair.b = -1;
      int& place = ending.is_a ? pair.a : pair.b;
      if (place >= 0) {
        const auto name_of = [&](int index) -> const std::string& {
          return adapter_.table.tensors[static_cast<std::size_t>(index)].name;
        };
        fail(ExitCode::bad_input,
             "{}: tensors '{}' and '{}' are the same factor of one module; remove the one that is not meant",
             adapter_.table.path, name_of(place), name_of(tensor));
      }
      place = tensor;
      pair.embedding = ending.embedding;
      (void)unwrap(name);  // parameters of one module have wrappers around wrappers
      pair.module = name;
      return true;
    }
    return false;
  }

  bool take_whole(std::string name, int tensor) {
    const std::size_t dimensions = adapter_.table.tensors[static_cast<std::size_t>(tensor)].shape.size();
    if (std::string module = name; cut(module, ".lora_B.bias")) {
      (void)unwrap(module);
      adapter_.lora_biases.push_back({tensor, module});
      return true;
    }
    if (name.find("lora_") != std::string::npos) return false;
    constexpr std::string_view saved = ".modules_to_save.";  // older versions of PEFT
    if (const std::size_t at = name.find(saved); at != std::string::npos) name.replace(at, saved.size(), ".");
    const bool bias = name.ends_with(".bias");
    if (!bias && !name.ends_with(".weight") && dimensions != 1) return false;
    std::string module = name;
    const std::string_view word = bias ? ".bias" : ".weight";
    const bool below = cut(module, word) && unwrap(module) > 0;
    if (below) name = module + std::string(word);
    (below && !bias ? adapter_.saved_bases : adapter_.whole).push_back({tensor, name});
    return true;
  }

  PeftAdapter& adapter_;
  std::map<std::pair<std::string, bool>, LoraPair> halves_;
};

/// The names by which ranks and scales of a pair may be told: its module's, or its parameters'.
std::vector<std::string> names_of(const PeftAdapter& adapter, const LoraPair& pair) {
  std::vector<std::string> names;
  for (const std::string& parameter : adapter.config.target_parameters) {
    const std::size_t point = parameter.rfind('.');
    const std::string module = point == std::string::npos ? "" : parameter.substr(0, point);
    if (pair.module != module && !pair.module.ends_with("." + module)) continue;
    names.push_back(pair.module + "." + parameter.substr(point + 1));
  }
  if (names.empty()) names.push_back(pair.module);
  return names;
}

/// PEFT reads one file: parts of an adapter beside it would be left out without a word.
void refuse_parts(const fs::path& path) {
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (name != std::string(weights_file) + ".index.json" &&
        !(name.starts_with("adapter_model-") && name.ends_with(".safetensors"))) {
      continue;
    }
    fail(ExitCode::bad_input,
         "{}: is part of an adapter in several files; save it as one {}, which PEFT reads", entry.path(),
         weights_file);
  }
}

}  // namespace

void fit_without_base(PeftAdapter& adapter) {
  for (LoraPair& pair : adapter.pairs) {
    const std::vector<std::string> names = names_of(adapter, pair);
    pair.r = adapter.config.scales.rank_of(names.front());
    pair.scale = adapter.config.scales.scale_of(names.front());
    for (const std::string& name : names) {
      if (adapter.config.scales.rank_of(name) == pair.r && adapter.config.scales.scale_of(name) == pair.scale)
        continue;
      fail(ExitCode::bad_input,
           "{}: ranks or scales of the parameters of '{}' differ, and which one its tensors are of only the "
           "base "
           "model tells; give it (--base), and let the output be a checkpoint",
           adapter.table.path, pair.module);
    }
    const TensorInfo& a = adapter.table.tensors[static_cast<std::size_t>(pair.a)];
    const TensorInfo& b = adapter.table.tensors[static_cast<std::size_t>(pair.b)];
    if (pair.r <= 0 || a.shape[0] % pair.r != 0) {
      fail(ExitCode::bad_input, "{}: tensors '{}' {} and '{}' {} are no pair of factors of rank {}",
           adapter.table.path, a.name, shape_text(a.shape), b.name, shape_text(b.shape), pair.r);
    }
    pair.experts = a.shape[0] / pair.r;
  }
}

bool is_peft_adapter(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path / config_file, ignored);
}

PeftAdapter make_peft_adapter(Checkpoint table, std::string config) {
  PeftAdapter adapter;
  adapter.table = std::move(table);
  const fs::path& path = adapter.table.path;
  adapter.config = parse_peft_config(std::move(config), path / config_file);
  Sorter(adapter).sort();
  if (adapter.pairs.empty()) fail(ExitCode::bad_input, "{}: holds no factors of a LoRA", path);
  for (const LoraPair& pair : adapter.pairs) {
    const TensorInfo& a = adapter.table.tensors[static_cast<std::size_t>(pair.a)];
    const TensorInfo& b = adapter.table.tensors[static_cast<std::size_t>(pair.b)];
    const bool fits = a.shape.size() == 2 && b.shape.size() == 2 && a.elements() > 0 && b.elements() > 0 &&
                      a.shape[0] == b.shape[1] && a.dtype == b.dtype && is_editable(a.dtype);
    if (!fits) {
      fail(ExitCode::bad_input, "{}: tensors '{}' {} and '{}' {} are no pair of factors of any rank", path,
           a.name, shape_text(a.shape), b.name, shape_text(b.shape));
    }
  }
  return adapter;
}

PeftAdapter open_peft_adapter(const fs::path& path) {
  try {
    refuse_parts(path);
    if (!fs::exists(path / weights_file)) {
      fail(ExitCode::bad_input, "{}: holds no {}; save the adapter as safetensors first", path, weights_file);
    }
    return make_peft_adapter(open_weights_file(without_slash(path), weights_file),
                             read_text(path / config_file, longest_config));
  } catch (const fs::filesystem_error& error) {
    fail(ExitCode::bad_input, "{}", error.what());
  }
}

std::vector<std::string> unused_weights(const PeftAdapter& adapter) {
  std::vector<std::string> names;
  for (const OtherFile& file : adapter.table.other_files) {
    if (file.name.ends_with(".safetensors")) names.push_back(file.name);
  }
  return names;
}

}  // namespace lox
