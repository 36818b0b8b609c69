// SPDX-License-Identifier: MIT
#include "lox/io/checkpoint.hpp"

#include "lox/base/error.hpp"
#include "lox/io/foreign_checkpoint.hpp"
#include "lox/io/hdf5.hpp"
#include "lox/io/hdf5_create.hpp"
#include "lox/io/model_directory.hpp"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using Json = nlohmann::json;

bool begins_like_hdf5(const fs::path& path) {
  constexpr std::array<unsigned char, 8> signature{0x89, 'H', 'D', 'F', '\r', '\n', 0x1A, '\n'};
  const File file = File::open_read(path);
  if (file.size() < signature.size()) return false;
  std::array<unsigned char, signature.size()> start;
  file.read(0, std::as_writable_bytes(std::span(start)));
  return start == signature;
}

Checkpoint open_by_format(const fs::path& path) {
  if (!fs::exists(path)) fail(ExitCode::bad_input, "{}: no such file or folder", path);
  if (fs::is_directory(path)) return open_safetensors(without_slash(path));
  if (!fs::is_regular_file(path)) {
    fail(ExitCode::bad_input, "{}: neither a file nor a folder", path);
  }
  // An output that is still growing goes by the name that it will have.
  const Format format = format_of(path.extension() == ".partial" ? fs::path(path).replace_extension() : path);
  if (format == Format::hdf5) return open_hdf5(path);
  if (format == Format::safetensors_file) return open_safetensors(path);
  if (begins_like_hdf5(path)) return open_hdf5(path);
  refuse_foreign_file(path);
  fail(ExitCode::bad_input,
       "{}: neither a folder of *.safetensors, nor *.safetensors, *.h5 or *.hdf5; save the model as "
       "safetensors first",
       path);
}

// A path is bytes, JSON holds characters: each byte becomes the character of its number.
std::string bytes_to_text(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      text.push_back(c);
    } else {
      text.push_back(static_cast<char>(0xC0 | (byte >> 6)));
      text.push_back(static_cast<char>(0x80 | (byte & 0x3F)));
    }
  }
  return text;
}

std::string text_to_bytes(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<unsigned char>(text[i]);
    bytes.push_back(lead < 0x80 ? text[i] : static_cast<char>((lead << 6) | (text[++i] & 0x3F)));
  }
  return bytes;
}

Json extent_to_json(const Extent& extent) {
  return {extent.file, extent.offset, extent.bytes};
}
Extent extent_from_json(const Json& json) {
  return {json.at(0), json.at(1), json.at(2)};
}

/// In one list: a model may have a million parts.
Json parts_to_json(const Parts& parts) {
  Json flat = Json::array();
  for (const Extent& extent : parts.extents) {
    flat.push_back(extent.file);
    flat.push_back(extent.offset);
    flat.push_back(extent.bytes);
  }
  return {parts.dimensions, std::move(flat), parts.boxes};
}
Parts parts_from_json(const Json& json) {
  Parts parts{json.at(0), {}, json.at(2)};
  const Json& flat = json.at(1);
  for (std::size_t i = 0; i < flat.size(); i += 3)
    parts.extents.push_back({flat.at(i), flat.at(i + 1), flat.at(i + 2)});
  return parts;
}

Json tensor_to_json(const TensorInfo& tensor) {
  Json json{tensor.name, std::string(dtype_name(tensor.dtype)), tensor.shape, extent_to_json(tensor.extent),
            bytes_to_text(tensor.dataset)};
  const Quantised* const q = tensor.quantised.get();
  if (q != nullptr) {
    json.push_back({tensor_to_json(q->codes), tensor_to_json(q->scales), q->block_rows, q->block_cols});
  }
  if (const Parts* const parts = tensor.parts.get()) {
    if (q == nullptr) json.push_back(nullptr);
    json.push_back(parts_to_json(*parts));
  }
  if (const View* const view = tensor.view.get()) {
    while (json.size() < 7) json.push_back(nullptr);
    json.push_back({tensor_to_json(view->source), view->first, view->transposed});
  }
  return json;
}
TensorInfo tensor_from_json(const Json& json) {
  TensorInfo tensor{json.at(0),
                    dtype_from_name(json.at(1).get<std::string>()).value(),
                    json.at(2),
                    extent_from_json(json.at(3)),
                    text_to_bytes(json.at(4)),
                    nullptr,
                    nullptr,
                    nullptr};
  if (json.size() > 5 && !json.at(5).is_null()) {
    const Json& q = json.at(5);
    tensor.quantised = std::make_shared<Quantised>(
        Quantised{tensor_from_json(q.at(0)), tensor_from_json(q.at(1)), q.at(2), q.at(3)});
  }
  if (json.size() > 6 && !json.at(6).is_null())
    tensor.parts = std::make_shared<Parts>(parts_from_json(json.at(6)));
  if (json.size() > 7) {
    const Json& view = json.at(7);
    tensor.view = std::make_shared<View>(View{tensor_from_json(view.at(0)), view.at(1), view.at(2)});
  }
  return tensor;
}

Json other_file_to_json(const OtherFile& file) {
  Json json{file.name, extent_to_json(file.extent)};
  if (file.text) json.push_back(*file.text);
  return json;
}
OtherFile other_file_from_json(const Json& json) {
  OtherFile file{json.at(0), extent_from_json(json.at(1))};
  if (json.size() > 2) file.text = json.at(2).get<std::string>();
  return file;
}

}  // namespace

Format format_of(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".h5" || extension == ".hdf5") return Format::hdf5;
  if (extension == ".safetensors") return Format::safetensors_file;
  return Format::safetensors_directory;
}

std::int64_t TensorInfo::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

std::uint64_t TensorInfo::stored_bytes() const {
  return quantised ? quantised->codes.extent.bytes + quantised->scales.extent.bytes : extent.bytes;
}

std::uint64_t Checkpoint::bytes() const {
  std::uint64_t sum = 0;
  for (const TensorInfo& tensor : tensors) sum += tensor.extent.bytes;
  return sum;
}

std::uint64_t Checkpoint::bytes_with_files() const {
  std::uint64_t sum = bytes();
  for (const OtherFile& file : other_files) sum += file.extent.bytes;
  return sum;
}

std::string Checkpoint::to_text() const {
  Json json;  // its keys stay as they are: unfinished outputs hold a checksum of this text
  json["format"] = static_cast<int>(format);
  json["path"] = bytes_to_text(path.string());
  json["files"] = Json::array();
  for (const fs::path& file : files) json["files"].push_back(bytes_to_text(file.string()));
  json["tensors"] = Json::array();
  for (const TensorInfo& tensor : tensors) json["tensors"].push_back(tensor_to_json(tensor));
  json["other_files"] = Json::array();
  for (const OtherFile& file : other_files) json["other_files"].push_back(other_file_to_json(file));
  json["shards"] = Json::array();
  for (const Shard& shard : shards) json["shards"].push_back(shard.name);
  return json.dump();
}

Checkpoint Checkpoint::from_text(const std::string& text) {
  const Json json = Json::parse(text);
  Checkpoint result;
  result.format = static_cast<Format>(json.at("format").get<int>());
  result.path = text_to_bytes(json.at("path"));
  for (const Json& file : json.at("files")) result.files.emplace_back(text_to_bytes(file));
  for (const Json& tensor : json.at("tensors")) result.tensors.push_back(tensor_from_json(tensor));
  for (const Json& file : json.at("other_files")) result.other_files.push_back(other_file_from_json(file));
  for (const Json& shard : json.at("shards")) result.shards.push_back({shard, ""});
  return result;
}

void broadcast(const Comm& comm, Checkpoint& table) {
  const std::string text = comm.broadcast(comm.is_root() ? table.to_text() : "");
  if (!comm.is_root()) table = Checkpoint::from_text(text);
}

Checkpoint open_checkpoint(const fs::path& path) {
  try {
    return open_by_format(path);
  } catch (const fs::filesystem_error& error) {
    fail(ExitCode::bad_input, "{}", error.what());
  }
}

Checkpoint create_checkpoint(const Checkpoint& like, const fs::path& path, Format format, Space space) {
  if (fs::exists(fs::symlink_status(path))) {
    fail(ExitCode::bad_input, "{}: exists already; remove it", path);
  }
  try {
    Checkpoint made = format == Format::hdf5 ? create_hdf5(like, path, space)
                                             : create_safetensors(like, path, format, space);
    sync_directory(path.parent_path());
    return made;
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
    throw;
  }
}

}  // namespace lox
