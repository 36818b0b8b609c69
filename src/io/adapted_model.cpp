// SPDX-License-Identifier: MIT
#include "lox/io/adapted_model.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/io/safetensors.hpp"
#include "lox/io/safetensors_header.hpp"
#include "lox/io/storage.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_map>

namespace lox {
namespace {

using Shape = std::vector<std::int64_t>;

/// Files that a training writes beside the adapter, and that belong to the aligned model.
bool is_of_tokeniser(const std::string& name) {
  constexpr std::string_view beginnings[] = {"tokenizer",    "chat_template", "special_tokens_map",
                                             "added_tokens", "vocab.",        "merges.txt",
                                             "spiece.",      "sentencepiece."};
  return name.find('/') == std::string::npos &&
         std::ranges::any_of(beginnings, [&](std::string_view begin) { return name.starts_with(begin); });
}

/// The ways in which a pair fits a matrix of the model.
struct Fit {
  bool straight = false;  ///< B A has its shape
  bool turned = false;    ///< (B A)^T has
  bool any() const { return straight || turned; }
  bool both() const { return straight && turned; }
};

Fit fit_of(std::int64_t rows, std::int64_t cols, const TensorInfo& a, const TensorInfo& b) {
  return {b.shape[0] == rows && a.shape[1] == cols, b.shape[0] == cols && a.shape[1] == rows};
}

class Adapter {
 public:
  Adapter(const Checkpoint& base, AdaptedModel& model) : base_(base), model_(model) {
    for (std::size_t i = 0; i < base.tensors.size(); ++i) by_name_.emplace(base.tensors[i].name, i);
  }

  void place() {
    make_table();
    std::map<std::string, std::vector<const LoraPair*>> of_parameters;
    for (const LoraPair& pair : model_.adapter.pairs) {
      const std::optional<int> weight = find(pair.module + ".weight");
      if (weight && tensor(*weight).shape.size() == 2) {
        place_linear(pair, *weight);
      } else {
        of_parameters[pair.module].push_back(&pair);
      }
    }
    for (const auto& [module, pairs] : of_parameters) place_parameters(module, pairs);
    for (const PeftAdapter::Named& bias : model_.adapter.lora_biases) place_bias(bias);
    for (const PeftAdapter::Named& whole : model_.adapter.whole) replace(whole);
    for (const PeftAdapter::Named& saved : model_.adapter.saved_bases) {
      const int at = need(saved.name, saved.tensor);
      if (!model_.updates.contains(at)) refuse(saved.tensor, "belongs to no factors");
      model_.saved_bases.emplace_back(saved.tensor, at);
    }
  }

 private:
  const TensorInfo& tensor(int index) const { return base_.tensors[static_cast<std::size_t>(index)]; }
  const TensorInfo& own(int index) const {
    return model_.adapter.table.tensors[static_cast<std::size_t>(index)];
  }

  std::optional<int> find(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? std::nullopt : std::optional(static_cast<int>(found->second));
  }

  [[noreturn]] void refuse(int index, const std::string& why) const {
    fail(ExitCode::bad_input, "{}: tensor '{}' {} {}", model_.adapter.table.path, own(index).name,
         shape_text(own(index).shape), why);
  }

  int need(const std::string& name, int index) const {
    const std::optional<int> found = find(name);
    if (found) return *found;
    refuse(index,
           to_line("is of '{}', which the base model {} does not hold; is it the model that the adapter was "
                   "trained on, stored in the same layout, with this weight of its own (not tied)?",
                   name, base_.path));
  }

  void make_table() {
    Checkpoint& table = model_.table;
    const Checkpoint& adapter = model_.adapter.table;
    table = base_;
    table.path = adapter.path;
    const auto first = static_cast<int>(base_.files.size());
    table.files.insert(table.files.end(), adapter.files.begin(), adapter.files.end());
    for (OtherFile file : adapter.other_files) {
      if (!is_of_tokeniser(file.name)) continue;
      file.extent.file += first;
      std::erase_if(table.other_files, [&](const OtherFile& other) { return other.name == file.name; });
      table.other_files.push_back(file);
    }
    std::ranges::sort(table.other_files, {}, &OtherFile::name);
  }

  void add(int at, const LoraPair& pair, const LoraUpdate& update) {
    if (!is_editable(tensor(at).dtype))
      refuse(pair.a, to_line("is of '{}', which is no floating tensor", tensor(at).name));
    if (!model_.updates.emplace(at, update).second)
      refuse(pair.a, to_line("is a second pair of factors of '{}'", tensor(at).name));
  }

  LoraUpdate update_of(const LoraPair& pair, const std::string& name, std::int64_t experts) const {
    LoraUpdate update{pair.a, pair.b, model_.adapter.config.scales.rank_of(name), experts,
                      model_.adapter.config.scales.scale_of(name)};
    if (update.r <= 0 || own(pair.a).shape[0] != update.r * experts) {
      refuse(pair.a, fmt::format("has not the {} rows of rank {} for {} matrices", update.r * experts,
                                 update.r, experts));
    }
    return update;
  }

  void place_linear(const LoraPair& pair, int at) {
    const Shape& shape = tensor(at).shape;
    const Fit fit = fit_of(shape[0], shape[1], own(pair.a), own(pair.b));
    LoraUpdate update = update_of(pair, pair.module, 1);
    // A Conv1D's weight lies [in, out]; where it is square the configuration tells.
    update.turned = pair.embedding || (fit.both() ? model_.adapter.config.fan_in_fan_out : fit.turned);
    if (!(update.turned ? fit.turned : fit.straight)) refuse_shape(pair, at);
    add(at, pair, update);
  }

  [[noreturn]] void refuse_shape(const LoraPair& pair, int at) const {
    refuse(pair.a,
           to_line("and '{}' {} make no change of '{}' {} in the base model {}", own(pair.b).name,
                   shape_text(own(pair.b).shape), tensor(at).name, shape_text(tensor(at).shape), base_.path));
  }

  /// The parameters of a module that the configuration may mean.
  std::vector<int> parameters_of(const std::string& module) const {
    std::vector<int> found;
    for (const std::string& target : model_.adapter.config.target_parameters) {
      const std::string name = module + "." + target.substr(target.rfind('.') + 1);
      if (name != target && !name.ends_with("." + target)) continue;
      const std::optional<int> at = find(name);
      if (at && tensor(*at).shape.size() >= 2 && std::ranges::find(found, *at) == found.end())
        found.push_back(*at);
    }
    return found;
  }

  /// Pairs that are of parameters, not of modules: wrapper around wrapper, so that shapes must tell which is
  /// of which. All lie in one way, [E, out, in] or [E, in, out].
  void place_parameters(const std::string& module, const std::vector<const LoraPair*>& pairs) {
    const std::vector<int> parameters = parameters_of(module);
    std::vector<std::pair<const LoraPair*, int>> placed;
    for (const LoraPair* const pair : pairs) {
      std::vector<int> fitting;
      std::ranges::copy_if(parameters, std::back_inserter(fitting),
                           [&](int at) { return fits(*pair, at).any(); });
      if (fitting.empty())
        (void)need(parameters.empty() ? module + ".weight" : tensor(parameters[0]).name, pair->a);
      if (fitting.empty()) refuse_shape(*pair, parameters[0]);
      if (fitting.size() > 1)
        refuse(pair->a, to_line("fits both '{}' and '{}': which it is of is not known",
                                tensor(fitting[0]).name, tensor(fitting[1]).name));
      placed.emplace_back(pair, fitting[0]);
    }
    std::optional<bool> turned;
    for (const auto& [pair, at] : placed) {
      const Fit fit = fits(*pair, at);
      if (fit.both()) continue;
      if (turned && *turned != fit.turned) refuse_shape(*pair, at);
      turned = fit.turned;
    }
    for (const auto& [pair, at] : placed) {
      if (!turned && tensor(at).shape.size() > 2) {
        refuse(pair->a,
               to_line("is of square matrices: whether '{}' lies [out, in] or [in, out] is not known",
                       tensor(at).name));
      }
      const Shape& shape = tensor(at).shape;
      LoraUpdate update = update_of(*pair, tensor(at).name, shape.size() == 3 ? shape[0] : 1);
      update.turned = turned.value_or(false);
      add(at, *pair, update);
    }
  }

  Fit fits(const LoraPair& pair, int at) const {
    const Shape& shape = tensor(at).shape;
    if (shape.size() > 3 || pair.embedding) return {};
    const std::int64_t experts = shape.size() == 3 ? shape[0] : 1;
    if (own(pair.a).shape[0] != experts * model_.adapter.config.scales.rank_of(tensor(at).name)) return {};
    Fit fit = fit_of(shape[shape.size() - 2], shape.back(), own(pair.a), own(pair.b));
    if (shape.size() == 2) fit.turned = fit.turned && !fit.straight;
    return fit;
  }

  void place_bias(const PeftAdapter::Named& bias) {
    const int at = need(bias.name + ".bias", bias.tensor);
    const TensorInfo& b = own(bias.tensor);
    if (b.shape != tensor(at).shape || b.shape.size() != 1 || !is_editable(b.dtype) ||
        !is_editable(tensor(at).dtype)) {
      refuse(bias.tensor,
             to_line("cannot be added to '{}' {}", tensor(at).name, shape_text(tensor(at).shape)));
    }
    LoraUpdate update;
    update.b = bias.tensor;
    update.r = 1;
    update.scale = model_.adapter.config.scales.scale_of(bias.name);
    const auto [first, fresh] = model_.updates.emplace(at, update);
    if (!fresh) {
      refuse(bias.tensor,
             to_line("and '{}' are both added to '{}'", own(first->second.b).name, tensor(at).name));
    }
  }

  void replace(const PeftAdapter::Named& whole) {
    const int at = need(whole.name, whole.tensor);
    TensorInfo& place = model_.table.tensors[static_cast<std::size_t>(at)];
    const TensorInfo& by = own(whole.tensor);
    if (model_.updates.contains(at)) refuse(whole.tensor, "stands beside factors of the same weight");
    if (!model_.replaced.insert(at).second) refuse(whole.tensor, "stands there twice");
    if (by.dtype != place.dtype || by.shape != place.shape) lay_out_anew();
    const std::string name = place.name;
    place = by;
    place.name = name;
    place.extent.file += static_cast<int>(base_.files.size());
  }

  /// The shards of the base have no room for a tensor of another size.
  void lay_out_anew() {
    model_.table.shards.clear();
    std::erase_if(model_.table.other_files, [](const OtherFile& file) { return file.name == index_name; });
  }

  const Checkpoint& base_;
  AdaptedModel& model_;
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace

AdaptedModel adapt(const Checkpoint& base, PeftAdapter adapter) {
  AdaptedModel model;
  model.adapter = std::move(adapter);
  Adapter(base, model).place();
  return model;
}

void check_saved_bases(const AdaptedModel& model) {
  FileStorage adapter(model.adapter.table, FileStorage::Access::read);
  FileStorage base(model.table, FileStorage::Access::read);
  for (const auto& [saved, at] : model.saved_bases) {
    const TensorInfo& theirs = model.adapter.table.tensors[static_cast<std::size_t>(saved)];
    const TensorInfo& ours = model.table.tensors[static_cast<std::size_t>(at)];
    constexpr std::uint64_t at_once = 1 << 20;
    const auto all = static_cast<std::uint64_t>(ours.elements());
    bool equal = theirs.shape == ours.shape && is_editable(theirs.dtype);
    for (std::uint64_t first = 0; equal && first < all; first += at_once) {
      const std::uint64_t count = std::min(at_once, all - first);
      Buffer saved_bytes(count * element_bytes(theirs.dtype));
      Buffer bytes(count * element_bytes(ours.dtype));
      adapter.read(theirs, first * element_bytes(theirs.dtype), saved_bytes.bytes());
      base.read(ours, first * element_bytes(ours.dtype), bytes.bytes());
      std::vector<double> values(count);
      Buffer rounded(bytes.size());
      to_double(theirs.dtype, saved_bytes.data(), count, values.data());
      from_double(ours.dtype, values.data(), count, rounded.data());
      equal = std::ranges::equal(bytes.bytes(), rounded.bytes());
    }
    if (equal) continue;
    fail(ExitCode::bad_input,
         "{}: tensor '{}', the weight below a LoRA, is not '{}' of the base model: name the model that the "
         "adapter "
         "was trained on, its vocabulary resized in the same way",
         model.adapter.table.path, theirs.name, ours.name);
  }
}

}  // namespace lox
