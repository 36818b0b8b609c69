// SPDX-License-Identifier: MIT
#include "lox/io/identity.hpp"

#include "lox/base/checksum.hpp"
#include "lox/base/error.hpp"

#include <iterator>
#include <span>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::json;

/// Every name is followed by its length, so that no two tables have one text.
std::string table_text(const Checkpoint& model) {
  std::string text = fmt::format("{} {}\n", identity_version, static_cast<int>(model.format));
  const auto to = std::back_inserter(text);
  const auto add = [&](const std::string& name, const Extent& extent) {
    fmt::format_to(to, "{} {} {} {} {} ", name, name.size(), extent.file, extent.offset, extent.bytes);
  };
  const auto add_parts = [&](const TensorInfo& tensor) {
    if (!tensor.parts) return;
    for (const Extent& extent : tensor.parts->extents) add("", extent);
    fmt::format_to(to, "{}\n", fmt::join(tensor.parts->boxes, ","));
  };
  for (const TensorInfo& tensor : model.tensors) {
    add(tensor.name, tensor.extent);
    fmt::format_to(to, "{} {} {}\n", dtype_name(tensor.dtype), fmt::join(tensor.shape, ","), tensor.dataset);
    add_parts(tensor);
    if (const View* const view = tensor.view.get()) {
      add(view->source.name, view->source.extent);
      fmt::format_to(to, "{} {} {} {}\n", fmt::join(view->source.shape, ","), view->source.dataset,
                     view->first, view->transposed);
      add_parts(view->source);
    }
    if (const Quantised* const q = tensor.quantised.get()) {
      add(q->codes.name, q->codes.extent);
      add(q->scales.name, q->scales.extent);
      fmt::format_to(to, "{} {} {} {} {}\n", dtype_name(q->scales.dtype), q->block_rows, q->block_cols,
                     q->codes.dataset, q->scales.dataset);
      add_parts(q->codes);
      add_parts(q->scales);
    }
  }
  for (const OtherFile& file : model.other_files) {
    add(file.name, file.extent);
    text += '\n';
  }
  for (const Shard& shard : model.shards) fmt::format_to(to, "{} {}\n", shard.name, shard.name.size());
  return text;
}

}  // namespace

std::uint64_t table_checksum(const Checkpoint& model) {
  const std::string table = table_text(model);
  return checksum(std::as_bytes(std::span(table)));
}

json identity_of(const Checkpoint& model) {
  json files = json::array();
  for (const fs::path& path : model.files) {
    files.push_back({{"file", printable(normal_path(path).native(), SIZE_MAX)},
                     {"bytes", fs::file_size(path)},
                     {"modified", fs::last_write_time(path).time_since_epoch().count()}});
  }
  return {{"path", printable(normal_path(model.path).native(), SIZE_MAX)},
          {"files", std::move(files)},
          {"headers", table_checksum(model)}};
}

std::string fingerprint_of(const json& identity) {
  const std::string text = identity.dump();
  return fmt::format("{:016x}", checksum(std::as_bytes(std::span(text))));
}

std::string first_difference(const json& now, const json& before, const std::string& at) {
  if (now == before) return "";
  if (now.is_object() && before.is_object()) {
    json all = before;
    all.update(now);  // what either has
    for (const auto& [key, ignored] : all.items()) {
      std::string inner = first_difference(now.value(key, json()), before.value(key, json()),
                                           at.empty() ? key : at + "." + key);
      if (!inner.empty()) return inner;
    }
  }
  const auto text = [](const json& value) {
    if (value.is_null()) return std::string("its default");
    return printable(value.dump(-1, ' ', false, json::error_handler_t::replace));
  };
  return fmt::format("{} is {} now, but was {}", at.empty() ? "it" : at, text(now), text(before));
}

void check_unchanged(const std::string& name, const Checkpoint& model, const json& identity) {
  json now;
  try {
    now = identity_of(model);
  } catch (const fs::filesystem_error& error) {
    fail(ExitCode::io, "the {} model vanished while lox ran: {}", name, error.what());
  }
  const std::string changed = first_difference(now, identity, name);
  if (!changed.empty()) {
    fail(ExitCode::io, "the {} model was changed while lox ran: {}; the output mixes two models, start again",
         name, changed.c_str());
  }
}

}  // namespace lox
