// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_layout.hpp"

#include "lox/base/error.hpp"
#include "lox/io/json.hpp"
#include "lox/io/other_files.hpp"
#include "lox/io/safetensors_header.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

bool fits_in_a_link(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

std::string percent_encoded(const std::string& name) {
  const bool all = name == "." || name == "..";
  std::string link;
  for (const char c : name) {
    if (all || c == '/' || c == '%') {
      link += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    } else {
      link += c;
    }
  }
  return link;
}

struct Layout {
  bool made_up = false;
  std::vector<Shard> shards;
};

Layout parse_layout(const std::string& text, const std::string& what) {
  Layout layout;
  const auto visit = [&](const JsonPath& path, const JsonEvent& event) {
    if (path.size() == 1 && path[0] == "made_up") layout.made_up = event.truth;
    if (path.empty() || path[0] != "shards") return;
    if (path.size() == 2 && event.kind == JsonEvent::Kind::begin_object) layout.shards.emplace_back();
    if (path.size() != 3 || event.kind != JsonEvent::Kind::text || layout.shards.empty()) return;
    if (path[2] == "name") layout.shards.back().name = event.text;
    if (path[2] == "header") layout.shards.back().header = event.text;
  };
  try {
    visit_json(text, visit);
  } catch (const JsonError& error) {
    fail(ExitCode::bad_input, "{}: {}", what, error.what());
  }
  return layout;
}

void check_shard_names(const std::vector<Shard>& shards, const fs::path& file) {
  std::unordered_set<std::string_view> seen;
  for (const Shard& shard : shards) {
    check_other_file_name(shard.name, file);
    if (shard.name.find('/') == std::string::npos && seen.insert(shard.name).second) continue;
    fail(ExitCode::bad_input, "{}: /layout: the shard name {} is in use or not plain", file, shard.name);
  }
}

}  // namespace

std::vector<std::string> hdf5_link_names(const std::vector<std::string>& names) {
  std::unordered_set<std::string> taken;
  std::copy_if(names.begin(), names.end(), std::inserter(taken, taken.end()), fits_in_a_link);
  std::vector<std::string> links;
  for (const std::string& name : names) {
    std::string link = name;
    if (!fits_in_a_link(name)) {
      link = percent_encoded(name);
      while (link.empty() || !taken.insert(link).second) link += '%';
    }
    links.push_back(std::move(link));
  }
  return links;
}

std::string hdf5_layout_text(const std::vector<Shard>& shards, bool made_up) {
  nlohmann::ordered_json layout;
  layout["made_up"] = made_up;
  layout["shards"] = nlohmann::ordered_json::array();
  for (const Shard& shard : shards)
    layout["shards"].push_back({{"name", shard.name}, {"header", shard.header}});
  return layout.dump();
}

void apply_hdf5_layout(const std::string& text, Checkpoint& model) {
  const std::string what = model.path.string() + ": /layout";
  Layout layout = parse_layout(text, what);
  check_shard_names(layout.shards, model.path);
  std::unordered_map<std::string, TensorInfo> by_name;
  for (const TensorInfo& tensor : model.tensors) by_name.emplace(tensor.name, tensor);
  model.tensors.clear();
  for (const Shard& shard : layout.shards) {
    const SafetensorsHeader header = parse_safetensors_header(shard.header, what + ": " + shard.name);
    if (header.sharding) {
      fail(ExitCode::bad_input, "{}: {} holds parts of tensors (DCP_SHARDING_INFO), and an HDF5 file may not",
           what, shard.name);
    }
    for (const TensorInfo& declared : header.tensors) {
      const auto at = by_name.find(declared.name);
      if (at == by_name.end() || at->second.dtype != declared.dtype || at->second.shape != declared.shape) {
        fail(ExitCode::bad_input, "{}: names tensor {}, but no dataset in /tensors is like that", what,
             declared.name);
      }
      model.tensors.push_back(std::move(at->second));
      by_name.erase(at);
    }
  }
  if (!by_name.empty()) {
    fail(ExitCode::bad_input, "{}: does not name tensor {}", what, by_name.begin()->first);
  }
  if (!layout.made_up) model.shards = std::move(layout.shards);
}

}  // namespace lox
