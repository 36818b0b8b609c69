// SPDX-License-Identifier: MIT
#include "lox/plan/experts.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

namespace lox {
namespace {

enum Kind : std::size_t { gate, up, down };
constexpr std::array<std::array<std::string_view, 3>, 2> separate_names{
    {{"gate_proj", "up_proj", "down_proj"}, {"w1", "w3", "w2"}}};
constexpr std::string_view experts_word = "experts.";
constexpr std::string_view weight_ending = ".weight";

/// The experts of one layer: indices of tensors, -1 where there is none.
struct Experts {
  std::vector<std::array<int, 3>> separate;  ///< by expert and Kind
  int gate_up = -1;                          ///< fused
  int down = -1;
  bool has_bias = false;  ///< gpt-oss: the rows of gate and up take turns

  bool are_separate() const {
    return !separate.empty() && gate_up < 0 && down < 0 &&
           std::ranges::all_of(separate, [](const auto& kinds) { return std::ranges::min(kinds) >= 0; });
  }
  bool are_fused() const { return separate.empty() && gate_up >= 0 && down >= 0; }
};

/// The layers of a model that have experts, by what their names begin with.
using Layers = std::map<std::string, Experts, std::less<>>;

void add_separate(const std::string& name, std::size_t after, int index, Experts& experts) {
  constexpr int most = 1 << 20;
  int number = -1;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + after, end, number);
  if (error != std::errc() || number < 0 || number >= most || stop == end || *stop != '.') return;
  std::string_view kind(stop + 1, end);
  if (!kind.ends_with(weight_ending)) return;
  kind.remove_suffix(weight_ending.size());
  for (const auto& names : separate_names) {
    const auto found = std::ranges::find(names, kind);
    if (found == names.end()) continue;
    const auto place = static_cast<std::size_t>(number);
    if (experts.separate.size() <= place) experts.separate.resize(place + 1, {-1, -1, -1});
    experts.separate[place][static_cast<std::size_t>(found - names.begin())] = index;
  }
}

Layers layers_of(const Checkpoint& model) {
  Layers layers;
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    const std::string& name = model.tensors[i].name;
    const std::size_t at = name.rfind(experts_word);
    if (at == std::string::npos || (at > 0 && name[at - 1] != '.')) continue;
    const std::size_t after = at + experts_word.size();
    Experts& experts = layers[name.substr(0, after)];
    const std::string_view rest = std::string_view(name).substr(after);
    if (rest == "gate_up_proj") {
      experts.gate_up = static_cast<int>(i);
    } else if (rest == "gate_up_proj_bias") {
      experts.has_bias = true;
    } else if (rest == "down_proj") {
      experts.down = static_cast<int>(i);
    } else {
      add_separate(name, after, static_cast<int>(i), experts);
    }
  }
  return layers;
}

/// Whether fused experts are transposed; nothing if their shapes are of neither form, or do not tell.
std::optional<bool> is_transposed(const std::vector<std::int64_t>& gate_up,
                                  const std::vector<std::int64_t>& down, std::int64_t inner,
                                  std::int64_t hidden) {
  const auto is = [](const std::vector<std::int64_t>& shape, std::int64_t rows, std::int64_t cols) {
    return shape[1] == rows && shape[2] == cols;
  };
  const bool straight = is(gate_up, 2 * inner, hidden) && is(down, hidden, inner);
  const bool transposed = is(gate_up, hidden, 2 * inner) && is(down, inner, hidden);
  if (straight == transposed) return std::nullopt;
  return transposed;
}

/// Makes one layer's tensors of the base anew.
class Layer {
 public:
  Layer(const Checkpoint& base, const Experts& ours, const Checkpoint& aligned, const Experts& theirs)
      : base_(base), ours_(ours), aligned_(aligned), theirs_(theirs) {}

  /// The base's tensors in the aligned model's layout; none if the layer does not fit.
  std::vector<TensorInfo> matched() const {
    const bool in_turn = ours_.has_bias || theirs_.has_bias;
    if (in_turn && (ours_.are_separate() || theirs_.are_separate())) return {};
    if (ours_.are_separate() && theirs_.are_fused()) return stacked();
    if (ours_.are_fused() && theirs_.are_separate()) return unstacked();
    if (ours_.are_fused() && theirs_.are_fused()) return transposed();
    return {};
  }
  /// Which ones they take the place of.
  std::vector<int> replaced() const {
    if (ours_.are_fused()) return {ours_.gate_up, ours_.down};
    std::vector<int> all;
    for (const auto& kinds : ours_.separate) all.insert(all.end(), kinds.begin(), kinds.end());
    return all;
  }

 private:
  const TensorInfo& ours(int index) const { return base_.tensors[static_cast<std::size_t>(index)]; }
  const TensorInfo& theirs(int index) const { return aligned_.tensors[static_cast<std::size_t>(index)]; }

  /// I and H of experts that are separate, all alike; nothing if they are not.
  static std::optional<std::pair<std::int64_t, std::int64_t>> sizes(const Checkpoint& model,
                                                                    const Experts& experts) {
    const auto tensor = [&](int index) -> const TensorInfo& {
      return model.tensors[static_cast<std::size_t>(index)];
    };
    const std::vector<std::int64_t>& shape = tensor(experts.separate.front()[gate]).shape;
    if (shape.size() != 2) return std::nullopt;
    for (const auto& kinds : experts.separate) {
      const bool alike = tensor(kinds[gate]).shape == shape && tensor(kinds[up]).shape == shape &&
                         tensor(kinds[down]).shape == std::vector{shape[1], shape[0]};
      if (!alike) return std::nullopt;
    }
    return std::pair(shape[0], shape[1]);
  }
  /// Whether both tensors are batches of as many matrices.
  static bool are_batches(const TensorInfo& gate_up, const TensorInfo& down, std::size_t count) {
    const auto is = [&](const TensorInfo& t) {
      return t.shape.size() == 3 && t.shape[0] == static_cast<std::int64_t>(count);
    };
    return is(gate_up) && is(down);
  }

  /// One tensor of separate ones, those of each expert below one another.
  TensorInfo stack(const std::vector<Kind>& kinds) const {
    const TensorInfo& first = ours(ours_.separate.front()[kinds.front()]);
    const auto count = static_cast<std::int64_t>(ours_.separate.size());
    const auto rows_of_all = static_cast<std::int64_t>(kinds.size()) * first.shape[0];
    TensorInfo made{"", first.dtype, {count, rows_of_all, first.shape[1]}, first.extent, ""};
    made.extent.bytes = 0;
    Parts parts;
    parts.dimensions = 3;
    for (std::int64_t e = 0; e < count; ++e) {
      std::int64_t row = 0;
      for (const Kind kind : kinds) {
        const TensorInfo& one = ours(ours_.separate[static_cast<std::size_t>(e)][kind]);
        add_boxes(one, e, row, parts);
        row += one.shape[0];
        made.extent.bytes += one.extent.bytes;
      }
    }
    made.parts = std::make_shared<const Parts>(std::move(parts));
    return made;
  }
  static void add_boxes(const TensorInfo& tensor, std::int64_t expert, std::int64_t row, Parts& parts) {
    const auto add = [&](const Extent& extent, std::int64_t first_row, std::int64_t first_col,
                         std::int64_t rows, std::int64_t cols) {
      parts.extents.push_back(extent);
      parts.boxes.insert(parts.boxes.end(), {expert, row + first_row, first_col, 1, rows, cols});
    };
    if (!tensor.parts) return add(tensor.extent, 0, 0, tensor.shape[0], tensor.shape[1]);
    for (std::size_t p = 0; p < tensor.parts->count(); ++p) {
      const auto begin = tensor.parts->begin(p);
      const auto shape = tensor.parts->shape(p);
      add(tensor.parts->extents[p], begin[0], begin[1], shape[0], shape[1]);
    }
  }
  static TensorInfo view(const TensorInfo& source, const std::string& name,
                         const std::vector<std::int64_t>& shape, std::int64_t first, bool transposed) {
    TensorInfo made{name, source.dtype, shape, source.extent, ""};
    made.extent.bytes = static_cast<std::uint64_t>(made.elements()) * element_bytes(made.dtype);
    made.view = std::make_shared<const View>(View{source, static_cast<std::uint64_t>(first), transposed});
    return made;
  }

  std::vector<TensorInfo> stacked() const {
    const auto sizes_of_one = sizes(base_, ours_);
    const TensorInfo& gate_up = theirs(theirs_.gate_up);
    const TensorInfo& down_of_all = theirs(theirs_.down);
    if (!sizes_of_one || !are_batches(gate_up, down_of_all, ours_.separate.size())) return {};
    const DType dtype = ours(ours_.separate.front()[gate]).dtype;
    const bool plain = std::ranges::all_of(replaced(), [&](int index) {
      return ours(index).dtype == dtype && !ours(index).quantised && ours(index).dataset.empty();
    });
    const auto [inner, hidden] = *sizes_of_one;
    const auto turned = is_transposed(gate_up.shape, down_of_all.shape, inner, hidden);
    if (!plain || !turned) return {};
    std::vector<TensorInfo> made{stack({gate, up}), stack({down})};
    const std::array<const TensorInfo*, 2> likes{&gate_up, &down_of_all};
    for (std::size_t i = 0; i < made.size(); ++i) {
      made[i].name = likes[i]->name;
      if (*turned) made[i] = view(made[i], likes[i]->name, likes[i]->shape, 0, true);
    }
    return made;
  }

  std::vector<TensorInfo> unstacked() const {
    const auto sizes_of_one = sizes(aligned_, theirs_);
    const TensorInfo& gate_up = ours(ours_.gate_up);
    const TensorInfo& down_of_all = ours(ours_.down);
    if (!sizes_of_one || !are_batches(gate_up, down_of_all, theirs_.separate.size())) return {};
    const auto [inner, hidden] = *sizes_of_one;
    const auto turned = is_transposed(gate_up.shape, down_of_all.shape, inner, hidden);
    if (gate_up.quantised || down_of_all.quantised || !turned) return {};
    const std::int64_t one = inner * hidden;
    std::vector<TensorInfo> made;
    for (std::size_t e = 0; e < theirs_.separate.size(); ++e) {
      const auto number = static_cast<std::int64_t>(e);
      const auto add = [&](Kind kind, const TensorInfo& source, std::int64_t first) {
        const TensorInfo& like = theirs(theirs_.separate[e][kind]);
        made.push_back(view(source, like.name, like.shape, first, *turned));
      };
      add(gate, gate_up, 2 * number * one);
      add(up, gate_up, (2 * number + 1) * one);
      add(down, down_of_all, number * one);
    }
    return made;
  }

  std::vector<TensorInfo> transposed() const {
    std::vector<TensorInfo> made;
    for (const auto& [index, other] :
         {std::pair(ours_.gate_up, theirs_.gate_up), std::pair(ours_.down, theirs_.down)}) {
      const TensorInfo& tensor = ours(index);
      const TensorInfo& like = theirs(other);
      const auto& shape = tensor.shape;
      const bool turned =
          shape.size() == 3 && shape != like.shape && like.shape == std::vector{shape[0], shape[2], shape[1]};
      if (!turned || tensor.quantised) return {};
      made.push_back(view(tensor, like.name, like.shape, 0, true));
    }
    return made;
  }

  const Checkpoint& base_;
  const Experts& ours_;
  const Checkpoint& aligned_;
  const Experts& theirs_;
};

}  // namespace

std::string match_experts(Checkpoint& base, const Checkpoint& aligned) {
  const Layers ours = layers_of(base);
  if (ours.empty()) return "";
  const Layers theirs = layers_of(aligned);
  std::vector<TensorInfo> made;
  std::vector<bool> gone(base.tensors.size());
  std::size_t layers = 0;
  for (const auto& [name, experts] : ours) {
    const auto partner = theirs.find(name);
    if (partner == theirs.end()) continue;
    const Layer layer(base, experts, aligned, partner->second);
    std::vector<TensorInfo> matched = layer.matched();
    if (matched.empty()) continue;
    ++layers;
    for (const int index : layer.replaced()) gone[static_cast<std::size_t>(index)] = true;
    std::ranges::move(matched, std::back_inserter(made));
  }
  if (layers == 0) return "";
  std::vector<TensorInfo> kept;
  for (std::size_t i = 0; i < gone.size(); ++i) {
    if (!gone[i]) kept.push_back(std::move(base.tensors[i]));
  }
  std::ranges::move(made, std::back_inserter(kept));
  base.tensors = std::move(kept);
  return to_line(
      "the experts of {} layers are stored in another layout in the base: they are paired one by one",
      layers);
}

}  // namespace lox
