// SPDX-License-Identifier: MIT
#include "lox/io/model_directory.hpp"

#include "lox/base/error.hpp"
#include "lox/io/foreign_checkpoint.hpp"
#include "lox/io/other_files.hpp"
#include "lox/io/sharded_model.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unistd.h>
#include <unordered_map>

namespace lox {
namespace {

constexpr std::uint64_t longest_index = 256'000'000;

File open_input(const fs::path& path) {
  if (!fs::is_regular_file(path)) fail(ExitCode::bad_input, "{}: is not a file", path);
  if (::access(path.c_str(), R_OK) != 0) fail(ExitCode::bad_input, "{}: may not be read", path);
  return File::open_read(path);
}

/// Adds one safetensors file and its tensors to the table, and what it says of parts.
void add_shard(const fs::path& path, const std::string& name, Checkpoint& model, ShardingInfos& sharding) {
  const File file = open_input(path);
  Shard shard{name, read_safetensors_header(file)};
  SafetensorsHeader header = parse_safetensors_header(shard.header, path.string());
  if (header.file_size != file.size()) {
    fail(ExitCode::bad_input, "{}: has {} bytes, but its header describes {}: {}", path, file.size(),
         header.file_size,
         file.size() < header.file_size ? "it was cut short" : "something was added at its end");
  }
  for (TensorInfo& tensor : header.tensors) {
    tensor.extent.file = static_cast<int>(model.files.size());
    model.tensors.push_back(std::move(tensor));
  }
  if (header.sharding) sharding[static_cast<int>(model.files.size())] = std::move(*header.sharding);
  model.files.push_back(path);
  model.shards.push_back(std::move(shard));
}

/// Names of *.safetensors directly in a directory, sorted.
std::vector<std::string> list_safetensors(const fs::path& directory) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() != ".safetensors" || entry.is_directory()) continue;
    if (!entry.exists()) {
      fail(ExitCode::bad_input, "{}: a link to nothing; is the download complete?", entry.path());
    }
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// A second copy of the weights that some models bring along, under other tensor names.
bool is_consolidated(const std::string& name) {
  return name.starts_with("consolidated");
}

/// Without an index every *.safetensors is a shard; consolidated* only if there is nothing else.
std::vector<std::string> choose_shards(const fs::path& directory, std::vector<std::string> names) {
  const bool all = std::all_of(names.begin(), names.end(), is_consolidated);
  if (!all) std::erase_if(names, is_consolidated);
  if (names.empty()) refuse_without_safetensors(directory);
  return names;
}

/// The shards that an index names; no other *.safetensors may lie beside it.
std::vector<std::string> indexed_shards(const std::map<std::string, std::size_t>& used,
                                        const fs::path& directory, const std::vector<std::string>& present) {
  for (const std::string& name : present) {
    if (used.contains(name) || is_consolidated(name)) continue;
    fail(ExitCode::bad_input,
         "{}: {} does not name this file; remove it if it is stale, or complete the index",
         (directory / name), index_name);
  }
  std::vector<std::string> names;
  for (const auto& [name, tensors] : used) {
    if (!std::binary_search(present.begin(), present.end(), name)) {
      fail(ExitCode::bad_input, "{}: names the file {}, which is missing; is the download complete?",
           (directory / index_name), name);
    }
    names.push_back(name);
  }
  return names;
}

[[noreturn]] void fail_duplicate(const Checkpoint& model, const TensorInfo& tensor, int before) {
  fail(ExitCode::bad_input, "{}: tensor {} is also in {}; remove one of the files",
       model.files[static_cast<std::size_t>(tensor.extent.file)], tensor.name,
       model.files[static_cast<std::size_t>(before)].filename());
}

/// A tensor that is in two files, and the number of the first one.
std::optional<std::pair<const TensorInfo*, int>> find_duplicate(const Checkpoint& model) {
  std::unordered_map<std::string_view, int> seen(model.tensors.size());
  for (const TensorInfo& tensor : model.tensors) {
    const auto [before, fresh] = seen.emplace(tensor.name, tensor.extent.file);
    if (!fresh) return std::pair(&tensor, before->second);
  }
  return std::nullopt;
}

/// Index and shards must name the same tensors: loaders differ in which of the two they believe.
void check_index(const Checkpoint& model, const std::vector<std::pair<std::string, std::string>>& map) {
  struct Named {
    const std::string* shard = nullptr;
    std::optional<int> found;  ///< the file that holds it
  };
  const std::string index = (model.path / index_name).string();
  std::unordered_map<std::string_view, Named> mapped(map.size());
  for (const auto& [tensor, shard] : map) mapped.emplace(tensor, Named{&shard, std::nullopt});
  for (const TensorInfo& tensor : model.tensors) {
    const std::string& shard = model.shards[static_cast<std::size_t>(tensor.extent.file)].name;
    const auto named = mapped.find(tensor.name);
    if (named == mapped.end()) {
      fail(ExitCode::bad_input, "{}: does not name tensor {}, which is in {}", index, tensor.name, shard);
    }
    if (named->second.found) fail_duplicate(model, tensor, *named->second.found);
    named->second.found = tensor.extent.file;
    if (*named->second.shard != shard) {
      fail(ExitCode::bad_input, "{}: says tensor {} is in {}, but it is in {}", index, tensor.name,
           *named->second.shard, shard);
    }
  }
  if (model.tensors.size() == map.size()) return;  // each was found once
  for (const auto& [tensor, shard] : map) {
    if (mapped.at(tensor).found) continue;
    fail(ExitCode::bad_input, "{}: names tensor {}, but {} does not hold it", index, tensor, shard);
  }
}

/// The model whose weights are this file alone.
Checkpoint with_weights(const fs::path& path, const std::string& name, Checkpoint model) {
  ShardingInfos sharding;
  add_shard(path, name, model, sharding);
  if (sharding.empty()) return model;
  refuse_one_of_many(path);
  return assembled(std::move(model), sharding);
}

Checkpoint open_directory(const fs::path& path) {
  Checkpoint model;
  model.format = Format::safetensors_directory;
  model.path = path;
  const std::vector<std::string> present = list_safetensors(path);
  const fs::path index = path / index_name;
  std::vector<std::pair<std::string, std::string>> map;
  std::vector<std::string> names;
  if (fs::exists(fs::symlink_status(index))) {
    (void)open_input(index);
    map = parse_safetensors_index(read_text(index, longest_index), index.string());
    std::map<std::string, std::size_t> used;
    for (const auto& [tensor, shard] : map) ++used[shard];
    names = indexed_shards(used, path, present);
  } else {
    names = choose_shards(path, present);
  }
  ShardingInfos sharding;
  for (const std::string& name : names) add_shard(path / name, name, model, sharding);
  const auto twice = sharding.empty() != map.empty() ? std::nullopt : find_duplicate(model);
  if (twice && sharding.empty()) fail_duplicate(model, *twice->first, twice->second);
  if (twice) {
    fail(ExitCode::bad_input,
         "{}: names one file for tensor {}, whose parts lie in several (DCP_SHARDING_INFO); remove the index",
         index, twice->first->name);
  }
  if (!map.empty()) check_index(model, map);
  list_other_files(path, {names.begin(), names.end()}, model);
  if (!sharding.empty()) return assembled(std::move(model), sharding);
  return model;
}

void make_directory(const fs::path& path) {
  std::error_code error;
  if (!fs::create_directory(path, error)) {
    fail(ExitCode::io, "{}: cannot make this folder: {}", path,
         error ? error.message() : "it exists already");
  }
}

/// A new file of this size that begins with `start`, on disk.
void make_file(const fs::path& path, std::uint64_t size, std::string_view start,
               Space space = Space::reserved) {
  File file = File::create(path);
  file.reserve(size, space);
  file.write(0, std::as_bytes(std::span(start)));
  file.sync();
}

void make_shard(const fs::path& path, const Shard& shard, Space space) {
  make_file(path, parse_safetensors_header(shard.header, shard.name).file_size,
            frame_safetensors_header(shard.header), space);
}

/// The other files at their sizes, with the folders they are in.
void make_other_files(const Checkpoint& like, Checkpoint& made) {
  std::set<fs::path> folders;
  for (const OtherFile& file : like.other_files) {
    check_other_file_name(file.name, like.path);
    const fs::path path = made.path / file.name;
    for (fs::path folder = path.parent_path(); folder != made.path; folder = folder.parent_path()) {
      folders.insert(folder);
    }
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    if (error) {
      fail(ExitCode::io, "{}: cannot make this folder: {}", path.parent_path(), error.message());
    }
    make_file(path, file.extent.bytes, "");
    made.other_files.push_back({file.name, {static_cast<int>(made.files.size()), 0, file.extent.bytes}});
    made.files.push_back(path);
  }
  for (const fs::path& folder : folders) sync_directory(folder);
}

void make_model_directory(const Checkpoint& like, bool made_up, Checkpoint& made, Space space) {
  make_directory(made.path);
  for (const Shard& shard : made.shards) {
    make_shard(made.path / shard.name, shard, space);
    made.files.push_back(made.path / shard.name);
  }
  if (made_up && made.shards.size() > 1) {
    const std::string index = make_safetensors_index(made.shards);
    make_file(made.path / index_name, index.size(), index);
  }
  make_other_files(like, made);
  sync_directory(made.path);
}

}  // namespace

Checkpoint open_safetensors(const fs::path& path) {
  if (fs::is_directory(path)) return open_directory(path);
  Checkpoint model;
  model.format = Format::safetensors_file;
  model.path = path;
  // The name it gets in a directory, where loaders look for this one.
  return with_weights(path, "model.safetensors", std::move(model));
}

Checkpoint open_weights_file(const fs::path& folder, const std::string& name) {
  Checkpoint model;
  model.format = Format::safetensors_directory;
  model.path = folder;
  model = with_weights(folder / name, name, std::move(model));
  list_other_files(folder, {name}, model);
  return model;
}

Checkpoint create_safetensors(const Checkpoint& like, const fs::path& path, Format format, Space space,
                              std::uint64_t limit) {
  Checkpoint made;
  made.format = format;
  made.path = path;
  made.tensors = like.tensors;
  made.shards = like.shards;
  if (format == Format::safetensors_file && made.shards.size() != 1) {
    made.shards = make_shards(like.tensors, UINT64_MAX);
  } else if (made.shards.empty()) {
    made.shards = make_shards(like.tensors, limit);
  }
  const std::vector<Extent> extents = place_tensors(like.tensors, made.shards);
  for (std::size_t i = 0; i < extents.size(); ++i) {
    made.tensors[i].extent = extents[i];
    made.tensors[i].dataset.clear();
    made.tensors[i].parts.reset();
  }
  if (format == Format::safetensors_directory) {
    make_model_directory(like, like.shards.empty(), made, space);
  } else {
    make_shard(path, made.shards[0], space);
    made.files.push_back(path);
  }
  return made;
}

}  // namespace lox
