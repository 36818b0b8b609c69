// SPDX-License-Identifier: MIT
#include "lox/io/hdf5.hpp"

#include "lox/base/error.hpp"
#include "lox/io/apart.hpp"
#include "lox/io/carried.hpp"
#include "lox/io/hdf5_dataset.hpp"
#include "lox/io/hdf5_layout.hpp"
#include "lox/io/json.hpp"
#include "lox/io/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unistd.h>
#include <unordered_set>

namespace lox {
namespace {

constexpr std::size_t deepest_group = 32;

Hdf5Handle open_file(const fs::path& path) {
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "H5Pcreate");
  hdf5_check(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), "H5Pset_fclose_degree");
#if H5_VERSION_GE(1, 10, 7)
  // Locks fail on some network file systems and protect from nothing here.
  hdf5_check(H5Pset_file_locking(access.get(), false, true), "H5Pset_file_locking");
#endif
  return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose, "H5Fopen"};
}

struct Link {
  std::string name;
  H5L_type_t type;
};

struct LinkList {
  std::vector<Link> links;
  std::uint64_t most = 0;
};

herr_t add_link(hid_t, const char* name, const H5L_info_t* info, void* to) noexcept try {
  auto& list = *static_cast<LinkList*>(to);
  if (list.links.size() >= list.most) return -1;
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
  list.most = source.size / 8 - std::min(source.links, source.size / 8);
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

// ---- files that lox wrote
// ----------------------------------------------------------------------------------------

/// What the library says of a file; judged afterwards, without the library.
struct Findings {
  bool own = false;                 // in the layout that lox writes
  std::vector<TensorInfo> tensors;  // any order
  std::vector<TensorInfo> files;    // of /files
  std::optional<std::string> layout;
};

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

void inspect_own(Hdf5Source& source, const fs::path& path, Findings& findings) {
  const std::vector<std::string> members = list_group(source, source.handle.get(), "");
  const auto has = [&](const char* name) {
    return std::find(members.begin(), members.end(), name) != members.end();
  };
  if (!has("tensors")) fail(ExitCode::bad_input, "{}: has no group /tensors", source.name);
  findings.own = true;
  findings.tensors = describe_group(source, "tensors");
  if (has("files")) findings.files = describe_group(source, "files");
  if (has("layout")) findings.layout = read_layout(source, path);
}

// ---- other files
// -------------------------------------------------------------------------------------------------

void walk(Hdf5Source& source, hid_t group, const std::string& path, std::size_t depth, Findings& findings) {
  if (depth > deepest_group) {
    fail(ExitCode::bad_input, "{}: groups nested more than {} deep; do they contain each other?", source.name,
         deepest_group);
  }
  for (const std::string& link : list_group(source, group, path)) {
    const Hdf5Handle object = open_object(group, link);
    const std::string below = path + "/" + link;
    const H5I_type_t kind = H5Iget_type(object.get());
    if (kind == H5I_GROUP) walk(source, object.get(), below, depth + 1, findings);
    if (kind != H5I_DATASET) continue;
    TensorInfo tensor = describe_hdf5_dataset(source, object.get(), below);
    tensor.name = below.substr(1);
    std::replace(tensor.name.begin(), tensor.name.end(), '/', '.');
    findings.tensors.push_back(std::move(tensor));
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

Findings inspect(const fs::path& path) {
  const std::string name = path.string();
  Findings findings;
  try {
    Hdf5Source source{open_file(path), name, fs::file_size(path), 0};
    const Hdf5Handle root = open_object(source.handle.get(), "/");
    const auto version = hdf5_number_attribute(root.get(), "lox_format");
    if (!version) {
      walk(source, source.handle.get(), "", 0, findings);
    } else if (*version == std::vector<std::int64_t>{hdf5_layout_version}) {
      inspect_own(source, path, findings);
    } else {
      fail(ExitCode::bad_input, "{}: its lox_format is not {}; a newer lox may read it", name,
           hdf5_layout_version);
    }
    try_reading(source, findings.tensors);
  } catch (const Hdf5Error& error) {
    fail(ExitCode::bad_input, "{}: cannot be read as HDF5: {}", name, error.what());
  }
  for (const auto* entries : {&findings.tensors, &findings.files}) check_names(name, *entries);
  return findings;
}

// ---- findings as text, from the process that uses the library to the one that needs them
// ---------------------------

std::string to_text(const Findings& findings) {
  Checkpoint tensors;
  tensors.tensors = findings.tensors;
  Checkpoint files;
  files.tensors = findings.files;
  // JSON holds no NUL.
  std::string text = findings.own ? "o" : "f";
  text += tensors.to_text() + '\0' + files.to_text() + '\0';
  if (findings.layout) text += '+' + *findings.layout;
  return text;
}

Findings from_text(const std::string& text) {
  const std::size_t first = text.find('\0');
  const std::size_t second = text.find('\0', first + 1);
  Findings findings;
  findings.own = text[0] == 'o';
  findings.tensors = Checkpoint::from_text(text.substr(1, first - 1)).tensors;
  findings.files = Checkpoint::from_text(text.substr(first + 1, second - first - 1)).tensors;
  if (second + 1 < text.size()) findings.layout = text.substr(second + 2);
  return findings;
}

/// The library has no defence against damaged files: some crash it, some keep it busy for ever. So a child
/// takes that risk, within limits that grow with the file.
Findings inspect_apart(const fs::path& path) {
  const std::uint64_t size = fs::file_size(path);
  const std::string what =
      to_line("{}: the HDF5 library breaks down over it; the file must be damaged", path);
  const Hdf5Lock lock;
  return from_text(run_apart([&] { return to_text(inspect(path)); }, 2 + (size >> 20),
                             (std::uint64_t{1} << 30) + 64 * size, what));
}

}  // namespace

Checkpoint open_hdf5(const fs::path& path) {
  const std::string name = path.string();
  if (::access(path.c_str(), R_OK) != 0) fail(ExitCode::bad_input, "{}: may not be read", name);
  Findings findings = inspect_apart(path);
  Checkpoint model;
  model.format = Format::hdf5;
  model.path = path;
  model.files = {path};
  model.tensors = std::move(findings.tensors);
  if (!findings.own && model.tensors.empty()) fail(ExitCode::bad_input, "{}: holds no datasets", name);
  std::sort(model.tensors.begin(), model.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  if (findings.layout) apply_hdf5_layout(*findings.layout, model);
  for (TensorInfo& file : findings.files) {
    check_carried_name(file.name, path);
    if (!file.dataset.empty()) {
      fail(ExitCode::bad_input, "{}: the file {} in it is not stored as plain bytes", name, file.name);
    }
    if (std::any_of(model.shards.begin(), model.shards.end(),
                    [&](const Shard& s) { return s.name == file.name; })) {
      fail(ExitCode::bad_input, "{}: the file {} in it is called like a shard", name, file.name);
    }
    model.carried.push_back({std::move(file.name), file.extent});
  }
  std::sort(model.carried.begin(), model.carried.end(),
            [](const CarriedFile& a, const CarriedFile& b) { return a.name < b.name; });
  return model;
}

void read_hdf5_dataset(const fs::path& file, const TensorInfo& tensor, std::uint64_t first,
                       std::span<std::byte> to) {
  if (to.empty()) return;
  const Hdf5Lock lock;
  try {
    read_hdf5_bytes(open_file(file).get(), tensor.dataset, first, to);
  } catch (const Hdf5Error& error) {
    fail(ExitCode::io, "{}: dataset {}: {}", file, tensor.dataset, error.what());
  }
}

std::string hdf5_library_version() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

}  // namespace lox
