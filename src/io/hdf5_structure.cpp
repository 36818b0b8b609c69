// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_structure.hpp"

#include "lox/base/error.hpp"
#include "lox/io/hdf5_dataset.hpp"
#include "lox/io/hdf5_layout.hpp"
#include "lox/io/json.hpp"

#include <algorithm>
#include <unordered_set>

namespace lox {
namespace {

constexpr std::size_t deepest_group = 32;

struct Link {
  std::string name;
  H5L_type_t type;
};

struct LinkList {
  std::vector<Link> links;
  std::uint64_t limit = 0;
};

herr_t add_link(hid_t, const char* name, const H5L_info_t* info, void* to) noexcept try {
  auto& list = *static_cast<LinkList*>(to);
  if (list.links.size() >= list.limit) return -1;
  list.links.push_back({name, info->type});
  return 0;
} catch (...) {
  return -1;
}

/// The links in a group, sorted by name. Links that lead elsewhere are refused: they could name any file, or
/// go round in circles.
std::vector<std::string> list_group(Hdf5Source& source, hid_t group, const std::string& path) {
  LinkList list;
  // Each link takes more than eight bytes of the file; a file that shows more goes round in circles.
  list.limit = source.size / 8 - std::min(source.links, source.size / 8);
  hdf5_check(H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, nullptr, add_link, &list), "H5Literate");
  source.links += list.links.size();
  std::vector<std::string> names;
  for (Link& link : list.links) {
    if (link.type != H5L_TYPE_HARD) {
      fail(ExitCode::bad_input,
           "{}: {}/{} is a soft or external link; lox follows none, put the dataset itself there",
           source.name, path, link.name);
    }
    names.push_back(std::move(link.name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Hdf5Handle open_object(hid_t parent, const std::string& link) {
  return {H5Oopen(parent, link.c_str(), H5P_DEFAULT), H5Oclose, "H5Oopen"};
}

void check_names(const std::string& file, const std::vector<TensorInfo>& entries) {
  std::unordered_set<std::string_view> seen;
  for (const TensorInfo& entry : entries) {
    if (!is_utf8(entry.name)) fail(ExitCode::bad_input, "{}: the name {} is not UTF-8", file, entry.name);
    if (!seen.insert(entry.name).second) {
      fail(ExitCode::bad_input, "{}: two datasets are called {}; rename one", file, entry.name);
    }
  }
}

// ---- files that lox wrote ----

/// The text of /layout.
std::string read_layout(const Hdf5Source& source, const fs::path& path) {
  const Hdf5Handle dataset = open_object(source.handle.get(), "layout");
  if (H5Iget_type(dataset.get()) != H5I_DATASET)
    fail(ExitCode::bad_input, "{}: /layout is no dataset", source.name);
  const TensorInfo info = describe_hdf5_dataset(source, dataset.get(), "/layout");
  if (dtype_bits(info.dtype) != 8 || info.extent.bytes > std::max(std::uint64_t{1} << 20, 64 * source.size)) {
    fail(ExitCode::bad_input, "{}: /layout does not hold bytes", source.name);
  }
  std::string text(info.extent.bytes, '\0');
  const auto bytes = std::as_writable_bytes(std::span(text));
  if (info.dataset.empty()) {
    File::open_read(path).read(info.extent.offset, bytes);
  } else {
    read_hdf5_bytes(source.handle.get(), info.dataset, 0, bytes);
  }
  return text;
}

/// Every dataset of a group by its true name.
std::vector<TensorInfo> describe_group(Hdf5Source& source, const std::string& name) {
  const Hdf5Handle group = open_object(source.handle.get(), name);
  std::vector<TensorInfo> found;
  for (const std::string& link : list_group(source, group.get(), "/" + name)) {
    const Hdf5Handle object = open_object(group.get(), link);
    const std::string path = "/" + name + "/" + link;
    if (H5Iget_type(object.get()) != H5I_DATASET) {
      fail(ExitCode::bad_input, "{}: {} is no dataset", source.name, path);
    }
    TensorInfo entry = describe_hdf5_dataset(source, object.get(), path);
    entry.name = hdf5_text_attribute(object.get(), "name").value_or(link);
    found.push_back(std::move(entry));
  }
  return found;
}

void read_own_structure(Hdf5Source& source, const fs::path& path, Hdf5Structure& structure) {
  const std::vector<std::string> members = list_group(source, source.handle.get(), "");
  const auto has = [&](const char* name) {
    return std::find(members.begin(), members.end(), name) != members.end();
  };
  if (!has("tensors")) fail(ExitCode::bad_input, "{}: has no group /tensors", source.name);
  structure.own = true;
  structure.tensors = describe_group(source, "tensors");
  if (has("files")) structure.files = describe_group(source, "files");
  if (has("layout")) structure.layout = read_layout(source, path);
}

// ---- other files ----

void read_group(Hdf5Source& source, hid_t group, const std::string& path, std::size_t depth,
                Hdf5Structure& structure) {
  if (depth > deepest_group) {
    fail(ExitCode::bad_input, "{}: groups nested more than {} deep; do they contain each other?", source.name,
         deepest_group);
  }
  for (const std::string& link : list_group(source, group, path)) {
    const Hdf5Handle object = open_object(group, link);
    const std::string below = path + "/" + link;
    const H5I_type_t kind = H5Iget_type(object.get());
    if (kind == H5I_GROUP) read_group(source, object.get(), below, depth + 1, structure);
    if (kind != H5I_DATASET) continue;
    TensorInfo tensor = describe_hdf5_dataset(source, object.get(), below);
    tensor.name = below.substr(1);
    std::replace(tensor.name.begin(), tensor.name.end(), '/', '.');
    structure.tensors.push_back(std::move(tensor));
  }
}

/// Reads the start of each dataset that will come through the library, to see now whether it does.
void try_reading(const Hdf5Source& source, const std::vector<TensorInfo>& tensors) {
  for (const TensorInfo& tensor : tensors) {
    if (tensor.dataset.empty()) continue;
    std::vector<std::byte> start(std::min(tensor.extent.bytes, std::uint64_t{1} << 20));
    try {
      read_hdf5_bytes(source.handle.get(), tensor.dataset, 0, start);
    } catch (const Hdf5Error& error) {
      fail(ExitCode::bad_input, "{}: dataset {}: {}", source.name, tensor.dataset, error.what());
    }
  }
}

}  // namespace

std::string Hdf5Structure::to_text() const {
  Checkpoint datasets;
  datasets.tensors = tensors;
  Checkpoint other;
  other.tensors = files;
  // JSON holds no NUL.
  std::string text = own ? "o" : "f";
  text += datasets.to_text() + '\0' + other.to_text() + '\0';
  if (layout) text += '+' + *layout;
  return text;
}

Hdf5Structure Hdf5Structure::from_text(const std::string& text) {
  const std::size_t first = text.find('\0');
  const std::size_t second = text.find('\0', first + 1);
  Hdf5Structure structure;
  structure.own = text[0] == 'o';
  structure.tensors = Checkpoint::from_text(text.substr(1, first - 1)).tensors;
  structure.files = Checkpoint::from_text(text.substr(first + 1, second - first - 1)).tensors;
  if (second + 1 < text.size()) structure.layout = text.substr(second + 2);
  return structure;
}

Hdf5Structure read_hdf5_structure(const fs::path& path) {
  const std::string name = path.string();
  Hdf5Structure structure;
  const Hdf5Lock lock;
  try {
    Hdf5Source source{open_hdf5_file(path), name, fs::file_size(path), 0};
    const Hdf5Handle root = open_object(source.handle.get(), "/");
    const auto version = hdf5_number_attribute(root.get(), "lox_format");
    if (!version) {
      read_group(source, source.handle.get(), "", 0, structure);
    } else if (*version == std::vector<std::int64_t>{hdf5_layout_version}) {
      read_own_structure(source, path, structure);
    } else {
      fail(ExitCode::bad_input, "{}: its lox_format is not {}; a newer lox may read it", name,
           hdf5_layout_version);
    }
    try_reading(source, structure.tensors);
  } catch (const Hdf5Error& error) {
    fail(ExitCode::bad_input, "{}: cannot be read as HDF5: {}", name, error.what());
  }
  for (const auto* entries : {&structure.tensors, &structure.files}) check_names(name, *entries);
  return structure;
}

}  // namespace lox
