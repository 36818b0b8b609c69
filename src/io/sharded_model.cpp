// SPDX-License-Identifier: MIT
#include "lox/io/sharded_model.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"
#include "lox/io/model_config.hpp"
#include "lox/io/parts.hpp"
#include "lox/io/safetensors.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using Numbers = std::vector<std::int64_t>;
/// Where the parts in a file begin in their tensors, by name of the tensor.
using Places = std::unordered_map<std::string, std::optional<Numbers>>;

/// Beside the weights, NeMo AutoModel keeps config.json and tokenizer in this folder, with files of its own.
constexpr std::string_view metadata_folder = ".hf_metadata/";
constexpr std::array<std::string_view, 3> files_of_automodel{
    "fqn_to_file_index_mapping.json", "fqn_to_dtype_mapping.json", "export_key_renames.json"};
constexpr const char* consolidate = "consolidate_safetensors_files of torch.distributed.checkpoint";

/// {"<tensor>": {"saved_offsets": [0, 0]}, ...}; other fields are left alone.
Places parse_sharding(const std::string& text, const fs::path& file) {
  using Kind = JsonEvent::Kind;
  Places places;
  const auto refuse = [&](const std::string& why) {
    fail(ExitCode::bad_input, "{}: its DCP_SHARDING_INFO {}; save or copy the file again", file, why.c_str());
  };
  const auto visit = [&](const JsonPath& path, const JsonEvent& event) {
    const bool object = event.kind == Kind::begin_object || event.kind == Kind::end_object;
    if (path.size() < 2) {
      if (!object) refuse("is no JSON object of objects");
      if (path.size() == 1) places.try_emplace(path[0]);
      return;
    }
    if (path[1] != "saved_offsets") return;
    std::optional<Numbers>& offsets = places.at(path[0]);
    if (path.size() == 2 && event.kind == Kind::begin_array) {
      offsets.emplace();
    } else if (path.size() == 3 && event.kind == Kind::whole && offsets) {
      offsets->push_back(static_cast<std::int64_t>(event.number));
    } else if (path.size() != 2 || event.kind != Kind::end_array) {
      refuse(to_line("has no whole numbers from 0 to 2^53 as saved_offsets of tensor {}", path[0]));
    }
  };
  try {
    visit_json(text, visit);
  } catch (const JsonError& error) {
    refuse(to_line("cannot be read: {}", error.what()));
  }
  return places;
}

/// A part as its file has it: `info` has the part's shape and extent.
struct Part {
  TensorInfo info;
  Numbers begin;  ///< in the tensor
  std::int64_t end(std::size_t d) const { return begin[d] + info.shape[d]; }
};

bool same_slice(const Part& a, const Part& b, std::size_t d) {
  return a.begin[d] == b.begin[d] && a.info.shape[d] == b.info.shape[d];
}

bool overlap(const Part& a, const Part& b) {
  for (std::size_t d = 0; d < a.begin.size(); ++d) {
    if (a.begin[d] >= b.end(d) || b.begin[d] >= a.end(d)) return false;
  }
  return true;
}

/// By where they begin and how long they are, first dimension first.
bool comes_before(const Part& a, const Part& b) {
  for (std::size_t d = 0; d < a.begin.size(); ++d) {
    if (!same_slice(a, b, d))
      return std::pair(a.begin[d], a.info.shape[d]) < std::pair(b.begin[d], b.info.shape[d]);
  }
  return a.info.extent.file < b.info.extent.file;
}

class Assembler {
 public:
  Assembler(const Checkpoint& model, const ShardingInfos& infos) : model_(model) {
    for (const auto& [file, text] : infos) places_.emplace(file, parse_sharding(text, path_of(file)));
  }

  std::vector<TensorInfo> tensors() {
    std::vector<std::vector<Part>> found;
    std::unordered_map<std::string, std::size_t> by_name;
    for (const TensorInfo& tensor : model_.tensors) {
      const auto [at, fresh] = by_name.emplace(tensor.name, found.size());
      if (fresh) found.emplace_back();
      found[at->second].push_back({tensor, take_place(tensor)});
    }
    refuse_what_is_not_there();
    std::vector<TensorInfo> whole;
    whole.reserve(found.size());
    for (std::vector<Part>& parts : found) whole.push_back(join(parts));
    return whole;
  }

 private:
  const fs::path& path_of(int file) const { return model_.files[static_cast<std::size_t>(file)]; }
  const fs::path& path_of(const Part& part) const { return path_of(part.info.extent.file); }

  /// A file without sharding info holds whole tensors.
  Numbers take_place(const TensorInfo& tensor) {
    const auto known = places_.find(tensor.extent.file);
    if (known == places_.end()) return Numbers(tensor.shape.size(), 0);
    const auto place = known->second.find(tensor.name);
    if (place == known->second.end() || !place->second) {
      fail(
          ExitCode::bad_input,
          "{}: tensor {}: DCP_SHARDING_INFO does not say where its part begins (saved_offsets); save or copy "
          "the file again",
          path_of(tensor.extent.file), tensor.name);
    }
    Numbers begin = std::move(*place->second);
    known->second.erase(place);
    if (begin.size() != tensor.shape.size()) {
      fail(
          ExitCode::bad_input,
          "{}: tensor {}: has {} dimensions, but saved_offsets of DCP_SHARDING_INFO has {}; save or copy the "
          "file again",
          path_of(tensor.extent.file), tensor.name, tensor.shape.size(), begin.size());
    }
    return begin;
  }

  void refuse_what_is_not_there() const {
    for (const auto& [file, places] : places_) {
      if (places.empty()) continue;
      fail(ExitCode::bad_input,
           "{}: its DCP_SHARDING_INFO names tensor {}, which the file does not hold; save or copy it again",
           path_of(file), places.begin()->first);
    }
  }

  void refuse_unlike(const Part& first, const Part& part) const {
    if (part.info.dtype != first.info.dtype) {
      fail(ExitCode::bad_input,
           "{}: tensor {}: its part is {}, but that in {} is {}; put the files of one model together",
           path_of(part), part.info.name, dtype_name(part.info.dtype), path_of(first).filename(),
           dtype_name(first.info.dtype));
    }
    if (part.begin.size() != first.begin.size()) {
      fail(ExitCode::bad_input,
           "{}: tensor {}: its part has {} dimensions, but that in {} has {}; put the files of one model "
           "together",
           path_of(part), part.info.name, part.begin.size(), path_of(first).filename(), first.begin.size());
    }
  }

  [[noreturn]] void refuse_hole(const std::string& name, std::size_t d, std::int64_t from,
                                std::int64_t to) const {
    fail(ExitCode::bad_input,
         "{}: tensor {}: no file holds {} to {} of its dimension {}; files of other ranks are missing, "
         "complete the copy",
         model_.path, name, from, to - 1, d);
  }

  [[noreturn]] void refuse_misfit(std::span<const Part> parts) const {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Part& part = parts[i];
      const auto before = parts.first(i);
      const auto other =
          std::find_if(before.begin(), before.end(), [&](const Part& each) { return overlap(each, part); });
      if (other == before.end()) continue;
      fail(ExitCode::bad_input,
           "{}: tensor {}: its part {} at {} overlaps that in {}, {} at {}; remove the files of "
           "another model or of another run",
           path_of(part), part.info.name, shape_text(part.info.shape), shape_text(part.begin),
           path_of(*other).filename(), shape_text(other->info.shape), shape_text(other->begin));
    }
    fail(ExitCode::bad_input,
         "{}: tensor {}: its parts are no grid; lox does not read such cuts, put them together with {}",
         path_of(parts.front()), parts.front().info.name, consolidate);
  }

  /// Throws unless the parts, sorted, cover the tensor and do not overlap.
  void check_cover(std::span<const Part> parts, const TensorInfo& whole) const {
    double entries = 0;
    for (const Part& part : parts) entries += static_cast<double>(part.info.elements());
    const bool enough = entries >= static_cast<double>(whole.elements());
    check_slices(parts, 0, whole, [&](std::size_t d, std::int64_t from, std::int64_t to) {
      if (enough || from > to) refuse_misfit(parts);
      refuse_hole(whole.name, d, from, to);
    });
  }

  /// Calls refuse(d, from, to) unless the parts cover what they share of dimensions before d in all of d and
  /// beyond; from > to: twice. Slices of a dimension follow one another, and each is covered by itself: so
  /// lie the parts of DTensors, whose cuts along one dimension do not depend on those along another.
  template <class Refuse>
  static void check_slices(std::span<const Part> parts, std::size_t d, const TensorInfo& whole,
                           const Refuse& refuse) {
    if (d == whole.shape.size()) {
      if (parts.size() > 1) refuse(d, 1, 0);
      return;
    }
    std::int64_t end = 0;
    for (std::size_t i = 0, next = 0; i < parts.size(); i = next) {
      while (next < parts.size() && same_slice(parts[next], parts[i], d)) ++next;
      if (parts[i].begin[d] != end) refuse(d, end, parts[i].begin[d]);
      check_slices(parts.subspan(i, next - i), d + 1, whole, refuse);
      end = parts[i].end(d);
    }
    if (end < whole.shape[d]) refuse(d, end, whole.shape[d]);
  }

  /// The tensor that these are the parts of. Ranks without a share of it have parts without entries.
  TensorInfo join(std::vector<Part>& parts) const {
    TensorInfo whole = parts.front().info;
    std::fill(whole.shape.begin(), whole.shape.end(), 0);
    for (const Part& part : parts) {
      refuse_unlike(parts.front(), part);
      for (std::size_t d = 0; d < whole.shape.size(); ++d)
        whole.shape[d] = std::max(whole.shape[d], part.end(d));
    }
    whole.extent.bytes = checked_bytes(whole.dtype, whole.shape, path_of(parts.front()).string(), whole.name);
    std::erase_if(parts, [](const Part& part) { return part.info.elements() == 0; });
    if (whole.elements() == 0) return whole;
    if (parts.empty()) refuse_hole(whole.name, 0, 0, whole.shape[0]);
    whole.extent.file = parts.front().info.extent.file;
    whole.extent.offset = parts.front().info.extent.offset;
    if (parts.size() == 1 && parts.front().info.shape == whole.shape) return whole;
    if (whole.shape.size() > most_dimensions_in_parts || dtype_bits(whole.dtype) % 8 != 0) {
      fail(ExitCode::bad_input,
           "{}: tensor {}: is {} {} in parts; lox reads parts of at most {} dimensions and of whole "
           "bytes, put them together with {}",
           path_of(parts.front()), whole.name, dtype_name(whole.dtype), shape_text(whole.shape),
           most_dimensions_in_parts, consolidate);
    }
    std::ranges::sort(parts, comes_before);
    check_cover(parts, whole);
    Parts places{whole.shape.size(), {}, {}};
    for (const Part& part : parts) {
      places.extents.push_back(part.info.extent);
      places.boxes.insert(places.boxes.end(), part.begin.begin(), part.begin.end());
      places.boxes.insert(places.boxes.end(), part.info.shape.begin(), part.info.shape.end());
    }
    whole.extent.file = places.extents.front().file;
    whole.extent.offset = places.extents.front().offset;
    whole.parts = std::make_shared<const Parts>(std::move(places));
    return whole;
  }

  const Checkpoint& model_;
  std::map<int, Places> places_;  ///< less those that were taken
};

/// The files that AutoModel would put beside a model that it consolidates.
void bring_metadata_up(Checkpoint& model) {
  const auto has = [&](std::string_view name) {
    return std::ranges::any_of(model.other_files, [&](const OtherFile& file) { return file.name == name; });
  };
  for (std::size_t i = model.other_files.size(); i-- > 0;) {
    std::string& name = model.other_files[i].name;
    if (!name.starts_with(metadata_folder)) continue;
    const std::string bare = name.substr(metadata_folder.size());
    if (std::ranges::find(files_of_automodel, bare) != files_of_automodel.end()) {
      model.other_files.erase(model.other_files.begin() + static_cast<std::ptrdiff_t>(i));
    } else if (!has(bare)) {
      name = bare;
    }
  }
  std::ranges::sort(model.other_files, {}, &OtherFile::name);
}

/// Files of the last ranks leave no hole when they are missing: the tensors seem to end earlier. Embeddings
/// have at least as many rows as config.json tells of.
void refuse_missing_rows(const Checkpoint& model) {
  const nlohmann::json config = read_json_of(model, "config.json");
  for (const TensorInfo& tensor : model.tensors) {
    if (!tensor.name.ends_with("embed_tokens.weight") || tensor.shape.size() != 2) continue;
    const bool top = tensor.name == "model.embed_tokens.weight";
    if (!top && tensor.name.find("language_model.") == std::string::npos) continue;
    const nlohmann::json holder = top ? config : config.value("text_config", nlohmann::json());
    const auto rows = holder.is_object() ? holder.find("vocab_size") : holder.end();
    if (!holder.is_object() || rows == holder.end() || !rows->is_number_unsigned()) continue;
    if (static_cast<std::uint64_t>(tensor.shape[0]) >= rows->get<std::uint64_t>()) continue;
    fail(ExitCode::bad_input,
         "{}: tensor {}: its parts are {} rows, but vocab_size of config.json is {}; files of the last "
         "ranks are missing, complete the copy",
         model.path, tensor.name, tensor.shape[0], rows->get<std::uint64_t>());
  }
}

}  // namespace

Checkpoint assembled(Checkpoint model, const ShardingInfos& infos) {
  model.tensors = Assembler(model, infos).tensors();
  model.shards.clear();
  std::erase_if(model.other_files, [](const OtherFile& file) { return file.name == index_name; });
  bring_metadata_up(model);
  refuse_missing_rows(model);
  return model;
}

void refuse_one_of_many(const fs::path& file) {
  if (!file.filename().string().starts_with("shard-")) return;
  fail(ExitCode::bad_input,
       "{}: holds the parts of one rank (DCP_SHARDING_INFO); name the folder that holds those of all ranks",
       file);
}

}  // namespace lox
