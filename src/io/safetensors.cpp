// SPDX-License-Identifier: MIT
#include "lox/io/safetensors.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"

#include <algorithm>
#include <unordered_map>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using Kind = JsonEvent::Kind;

Shard close_shard(std::vector<TensorInfo> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.dtype, std::string_view(a.name)) < std::pair(b.dtype, std::string_view(b.name));
  });
  return {"", make_safetensors_header(tensors)};
}

void check_shard_name(const std::string& shard, const std::string& file) {
  const bool plain =
      shard.ends_with(".safetensors") && shard.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
  if (!plain) {
    fail(ExitCode::bad_input,
         "{}: weight_map names the file {}; only *.safetensors beside the index are read, nothing outside",
         file, shard);
  }
}

}  // namespace

std::vector<Shard> make_shards(const std::vector<TensorInfo>& tensors, std::uint64_t limit) {
  std::vector<Shard> shards;
  std::vector<TensorInfo> current;
  std::uint64_t filled = 0;
  for (const TensorInfo& tensor : tensors) {
    const std::uint64_t bytes = checked_bytes(tensor.dtype, tensor.shape, "", tensor.name);
    if (!current.empty() && (bytes > limit || filled > limit - bytes)) {
      shards.push_back(close_shard(std::exchange(current, {})));
      filled = 0;
    }
    current.push_back(tensor);
    filled += bytes;
  }
  if (!current.empty() || shards.empty()) shards.push_back(close_shard(std::move(current)));
  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].name = shards.size() == 1
                         ? std::string("model.safetensors")
                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  return shards;
}

std::vector<Extent> place_tensors(const std::vector<TensorInfo>& tensors, const std::vector<Shard>& shards) {
  std::unordered_map<std::string, TensorInfo> placed;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (TensorInfo& tensor : parse_safetensors_header(shards[i].header, shards[i].name).tensors) {
      tensor.extent.file = static_cast<int>(i);
      const std::string name = tensor.name;
      if (!placed.emplace(name, std::move(tensor)).second) {
        fail(ExitCode::internal, "tensor {} is in two shards", name);
      }
    }
  }
  if (placed.size() != tensors.size()) {
    fail(ExitCode::internal, "the shards hold {} tensors, the model {}", placed.size(), tensors.size());
  }
  std::vector<Extent> extents;
  extents.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) {
    const auto found = placed.find(tensor.name);
    if (found == placed.end() || found->second.dtype != tensor.dtype || found->second.shape != tensor.shape) {
      fail(ExitCode::internal, "no shard holds the tensor {} as it is", tensor.name);
    }
    extents.push_back(found->second.extent);
  }
  return extents;
}

std::string make_safetensors_index(const std::vector<Shard>& shards) {
  std::uint64_t total = 0;
  nlohmann::json map = nlohmann::json::object();
  for (const Shard& shard : shards) {
    for (const TensorInfo& tensor : parse_safetensors_header(shard.header, shard.name).tensors) {
      total += tensor.extent.bytes;
      map[tensor.name] = shard.name;
    }
  }
  nlohmann::json index;
  index["metadata"]["total_size"] = total;
  index["weight_map"] = std::move(map);
  return index.dump(2) + "\n";
}

std::vector<std::pair<std::string, std::string>> parse_safetensors_index(std::string_view text,
                                                                         const std::string& file) {
  const std::string name = file;
  std::vector<std::pair<std::string, std::string>> map;
  const auto visit = [&](const JsonPath& path, const JsonEvent& event) {
    if (path.empty() || path[0] != "weight_map") return;
    if (path.size() == 1 && (event.kind == Kind::begin_object || event.kind == Kind::end_object)) return;
    if (path.size() != 2 || event.kind != Kind::text) {
      fail(ExitCode::bad_input, "{}: weight_map may only map tensor names to file names", name);
    }
    check_shard_name(std::string(event.text), name);
    map.emplace_back(path[1], event.text);
  };
  try {
    visit_json(text, visit);
  } catch (const JsonError& error) {
    fail(ExitCode::bad_input, "{}: {}", name, error.what());
  }
  if (map.empty()) fail(ExitCode::bad_input, "{}: its weight_map names no tensors", name);
  return map;
}

}  // namespace lox
