// SPDX-License-Identifier: MIT
#include "lox/io/hdf5.hpp"

#include "lox/base/error.hpp"
#include "lox/io/carried.hpp"
#include "lox/io/hdf5_type.hpp"
#include "lox/io/json.hpp"
#include "lox/io/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unistd.h>
#include <unordered_map>

namespace lox {
namespace {

constexpr std::size_t deepest_group = 32;
constexpr std::uint64_t longest_attribute = std::uint64_t{1} << 20;

/// An open file that nobody vouches for.
struct Source {
  Hdf5Handle handle;
  std::string name;         // for texts
  std::uint64_t size = 0;   // bytes
  std::uint64_t links = 0;  // seen so far
};

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
std::vector<std::string> list_group(Source& source, hid_t group, const std::string& path) {
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
           source.name, printable(path), printable(link.name));
    }
    names.push_back(std::move(link.name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Hdf5Handle open_object(hid_t parent, const std::string& link) {
  return {H5Oopen(parent, link.c_str(), H5P_DEFAULT), H5Oclose, "H5Oopen"};
}

// ---- attributes
// ----------------------------------------------------------------------------------------------

std::optional<Hdf5Handle> open_attribute(hid_t object, const char* name) {
  if (hdf5_check(H5Aexists(object, name), "H5Aexists") == 0) return std::nullopt;
  return Hdf5Handle(H5Aopen(object, name, H5P_DEFAULT), H5Aclose, "H5Aopen");
}

std::string read_variable_text(hid_t attribute, hid_t type) {
  const Hdf5Handle memory(H5Tcopy(H5T_C_S1), H5Tclose, "H5Tcopy");
  hdf5_check(H5Tset_size(memory.get(), H5T_VARIABLE), "H5Tset_size");
  hdf5_check(H5Tset_cset(memory.get(), H5Tget_cset(type)), "H5Tset_cset");
  char* value = nullptr;
  hdf5_check(H5Aread(attribute, memory.get(), &value), "H5Aread");
  if (value == nullptr) return "";
  std::string text = value;
  H5free_memory(value);
  return text;
}

/// The text of a string attribute, whether of fixed or variable length.
std::optional<std::string> text_attribute(hid_t object, const char* name) {
  const auto attribute = open_attribute(object, name);
  if (!attribute) return std::nullopt;
  const Hdf5Handle type(H5Aget_type(attribute->get()), H5Tclose, "H5Aget_type");
  const Hdf5Handle space(H5Aget_space(attribute->get()), H5Sclose, "H5Aget_space");
  if (H5Tget_class(type.get()) != H5T_STRING || H5Sget_simple_extent_npoints(space.get()) != 1)
    return std::nullopt;
  if (hdf5_check(H5Tis_variable_str(type.get()), "H5Tis_variable_str") > 0) {
    return read_variable_text(attribute->get(), type.get());
  }
  const std::size_t size = H5Tget_size(type.get());
  if (size == 0 || size > longest_attribute) return std::nullopt;
  std::string text(size, '\0');
  hdf5_check(H5Aread(attribute->get(), type.get(), text.data()), "H5Aread");
  text.resize(std::strlen(text.c_str()) < size ? std::strlen(text.c_str()) : size);
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

/// The numbers of an integer attribute of up to 64 elements.
std::optional<std::vector<std::int64_t>> number_attribute(hid_t object, const char* name) {
  const auto attribute = open_attribute(object, name);
  if (!attribute) return std::nullopt;
  const Hdf5Handle type(H5Aget_type(attribute->get()), H5Tclose, "H5Aget_type");
  const Hdf5Handle space(H5Aget_space(attribute->get()), H5Sclose, "H5Aget_space");
  const hssize_t count =
      hdf5_check(H5Sget_simple_extent_npoints(space.get()), "H5Sget_simple_extent_npoints");
  if (H5Tget_class(type.get()) != H5T_INTEGER || count > 64) return std::nullopt;
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(count));
  if (count > 0) hdf5_check(H5Aread(attribute->get(), H5T_NATIVE_INT64, numbers.data()), "H5Aread");
  return numbers;
}

// ---- datasets
// ------------------------------------------------------------------------------------------------

std::vector<hsize_t> sizes_of(hid_t dataset) {
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose, "H5Dget_space");
  if (H5Sget_simple_extent_type(space.get()) == H5S_NULL) throw Hdf5Error("a null dataspace");
  std::vector<hsize_t> sizes(static_cast<std::size_t>(
      hdf5_check(H5Sget_simple_extent_ndims(space.get()), "H5Sget_simple_extent_ndims")));
  hdf5_check(H5Sget_simple_extent_dims(space.get(), sizes.data(), nullptr), "H5Sget_simple_extent_dims");
  return sizes;
}

/// Chunks are held in memory whole: one may not be out of all proportion to the file.
void check_chunks(const Source& source, hid_t properties, std::size_t element_bytes,
                  const std::string& what) {
  std::vector<hsize_t> chunk(H5S_MAX_RANK);
  const int rank = hdf5_check(H5Pget_chunk(properties, H5S_MAX_RANK, chunk.data()), "H5Pget_chunk");
  std::uint64_t bytes = element_bytes;
  bool overflow = false;
  for (int i = 0; i < rank; ++i)
    overflow |= __builtin_mul_overflow(bytes, chunk[static_cast<std::size_t>(i)], &bytes);
  if (overflow || bytes > std::max(std::uint64_t{64} << 20, 64 * source.size)) {
    fail(ExitCode::bad_input, "{}: its chunks are too large to be true", what);
  }
}

void check_filters(hid_t properties, const std::string& what) {
  const int count = hdf5_check(H5Pget_nfilters(properties), "H5Pget_nfilters");
  for (int i = 0; i < count; ++i) {
    unsigned flags = 0;
    unsigned config = 0;
    std::size_t values = 0;
    std::string name(64, '\0');
    const H5Z_filter_t filter =
        hdf5_check(H5Pget_filter2(properties, static_cast<unsigned>(i), &flags, &values, nullptr,
                                  name.size() - 1, name.data(), &config),
                   "H5Pget_filter2");
    if (hdf5_check(H5Zfilter_avail(filter), "H5Zfilter_avail") > 0) continue;
    fail(ExitCode::bad_input,
         "{}: compressed with filter {} ({}), which this HDF5 library lacks; repack it with h5repack", what,
         static_cast<int>(filter), printable(name.c_str()));
  }
}

/// Refuses bytes that are not in this file, or not there at all.
void check_storage(const Source& source, hid_t dataset, hid_t properties, std::size_t element_bytes,
                   const std::string& what) {
  const H5D_layout_t layout = H5Pget_layout(properties);
  if (layout == H5D_VIRTUAL || hdf5_check(H5Pget_external_count(properties), "H5Pget_external_count") > 0) {
    fail(ExitCode::bad_input, "{}: its bytes are in other files; copy it into this one with h5repack", what);
  }
  if (layout == H5D_CHUNKED) check_chunks(source, properties, element_bytes, what);
  check_filters(properties, what);
  if (H5Dget_storage_size(dataset) == 0) fail(ExitCode::bad_input, "{}: was never written", what);
}

/// The place of plain little-endian bytes, if the dataset is stored so.
std::optional<Extent> plain_extent(const Source& source, hid_t dataset, hid_t properties, hid_t type,
                                   std::uint64_t bytes, const std::string& what) {
  if (H5Pget_layout(properties) != H5D_CONTIGUOUS) return std::nullopt;
  if (hdf5_check(H5Tequal(type, little_endian(type).get()), "H5Tequal") == 0) return std::nullopt;
  const haddr_t offset = H5Dget_offset(dataset);
  if (offset == HADDR_UNDEF) fail(ExitCode::bad_input, "{}: was never written", what);
  if (offset > source.size || bytes > source.size - offset) {
    fail(ExitCode::bad_input, "{}: its bytes end behind the end of the file; was it cut short?", what);
  }
  return Extent{0, offset, bytes};
}

std::optional<DType> declared_dtype(hid_t dataset) {
  const auto text = text_attribute(dataset, "dtype");
  if (!text) return std::nullopt;
  return *text == "bfloat16" ? DType::BF16 : dtype_from_name(*text);
}

DType dtype_of(hid_t dataset, hid_t type, const std::string& what) {
  const auto declared = declared_dtype(dataset);
  const auto dtype = dtype_of_hdf5(type, declared);
  if (dtype) return *dtype;
  if (declared) {
    fail(ExitCode::bad_input, "{}: its attribute dtype says {}, its HDF5 type cannot hold that", what,
         dtype_name(*declared));
  }
  fail(ExitCode::bad_input,
       "{}: its HDF5 type is none that lox reads; 16-bit raw values that are bfloat16 need an attribute "
       "dtype = \"BF16\"",
       what);
}

/// A dataset as an entry of the table, but for its name.
TensorInfo describe(const Source& source, hid_t dataset, const std::string& path) {
  const std::string what = fmt::format("{}: dataset {}", source.name, printable(path));
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose, "H5Dget_type");
  const Hdf5Handle properties(H5Dget_create_plist(dataset), H5Pclose, "H5Dget_create_plist");
  const std::vector<hsize_t> sizes = sizes_of(dataset);
  TensorInfo tensor;
  tensor.dtype = dtype_of(dataset, type.get(), what);
  tensor.shape.assign(sizes.begin(), sizes.end());
  if (is_packed(tensor.dtype)) {
    const auto shape = number_attribute(dataset, "shape");
    if (!shape) fail(ExitCode::bad_input, "{}: has no attribute shape", what);
    tensor.shape = *shape;
  }
  const std::uint64_t bytes = checked_bytes(tensor.dtype, tensor.shape, what);
  if (is_packed(tensor.dtype) && sizes != std::vector<hsize_t>{bytes}) {
    fail(ExitCode::bad_input, "{}: does not hold the {} bytes that its attribute shape needs", what, bytes);
  }
  tensor.extent.bytes = bytes;
  if (bytes == 0) return tensor;
  check_storage(source, dataset, properties.get(), H5Tget_size(type.get()), what);
  const auto extent = plain_extent(source, dataset, properties.get(), type.get(), bytes, what);
  if (extent) {
    tensor.extent = *extent;
  } else {
    tensor.dataset = path;
  }
  return tensor;
}

/// Reads elements [first, first + count) of a dataset: the longest run first that is a box along its
/// dimensions.
void read_elements(hid_t dataset, const std::vector<hsize_t>& sizes, hid_t type, std::uint64_t first,
                   std::uint64_t count, std::byte* to) {
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose, "H5Dget_space");
  const std::size_t width = H5Tget_size(type);
  while (count > 0) {
    std::vector<hsize_t> start(sizes.size(), 0);
    std::vector<hsize_t> box(sizes);
    std::uint64_t rest = first;
    std::uint64_t slice = 1;  // elements below one step along `axis`
    for (std::size_t axis = sizes.size(); axis-- > 0; rest /= sizes[axis]) start[axis] = rest % sizes[axis];
    std::size_t axis = sizes.size();
    while (axis > 1 && start[axis - 1] == 0 && slice * sizes[axis - 1] <= count) slice *= sizes[--axis];
    std::uint64_t run = slice;
    if (axis > 0) {
      --axis;
      box[axis] = std::min(sizes[axis] - start[axis], static_cast<hsize_t>(count / slice));
      run = slice * box[axis];
      std::fill(box.begin(), box.begin() + static_cast<std::ptrdiff_t>(axis), 1);
      hdf5_check(H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, box.data(), nullptr),
                 "H5Sselect_hyperslab");
    }
    const hsize_t length = run;
    const Hdf5Handle memory(H5Screate_simple(1, &length, nullptr), H5Sclose, "H5Screate_simple");
    hdf5_check(H5Dread(dataset, type, memory.get(), space.get(), H5P_DEFAULT, to), "H5Dread");
    first += run;
    count -= run;
    to += run * width;
  }
}

/// Bytes [first, first + to.size()) of a dataset, wherever its elements begin.
void read_bytes(hid_t file, const std::string& path, std::uint64_t first, std::span<std::byte> to) {
  const Hdf5Handle dataset(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose, "H5Dopen2");
  const Hdf5Handle stored(H5Dget_type(dataset.get()), H5Tclose, "H5Dget_type");
  const Hdf5Handle type = little_endian(stored.get());
  const std::vector<hsize_t> sizes = sizes_of(dataset.get());
  const std::uint64_t width = H5Tget_size(type.get());
  const std::uint64_t begin = first / width;
  const std::uint64_t end = (first + to.size() + width - 1) / width;
  if (first % width == 0 && to.size() % width == 0) {
    read_elements(dataset.get(), sizes, type.get(), begin, end - begin, to.data());
    return;
  }
  std::vector<std::byte> whole((end - begin) * width);
  read_elements(dataset.get(), sizes, type.get(), begin, end - begin, whole.data());
  std::copy_n(whole.begin() + static_cast<std::ptrdiff_t>(first - begin * width), to.size(), to.begin());
}

// ---- files that lox wrote
// ----------------------------------------------------------------------------------------

struct Layout {
  bool made_up = true;
  std::vector<Shard> shards;
};

/// The text of /layout.
std::string read_layout(const Source& source, const fs::path& path) {
  const Hdf5Handle dataset = open_object(source.handle.get(), "layout");
  if (H5Iget_type(dataset.get()) != H5I_DATASET)
    fail(ExitCode::bad_input, "{}: /layout is no dataset", source.name);
  const TensorInfo info = describe(source, dataset.get(), "/layout");
  if (dtype_bits(info.dtype) != 8 || info.extent.bytes > std::max(std::uint64_t{1} << 20, 64 * source.size)) {
    fail(ExitCode::bad_input, "{}: /layout does not hold bytes", source.name);
  }
  std::string text(info.extent.bytes, '\0');
  const auto bytes = std::as_writable_bytes(std::span(text));
  if (info.dataset.empty()) {
    File::open_read(path).read(info.extent.offset, bytes);
  } else {
    read_bytes(source.handle.get(), info.dataset, 0, bytes);
  }
  return text;
}

Layout parse_layout(const Source& source, const std::string& text) {
  Layout layout;
  layout.made_up = false;
  const auto visit = [&](const JsonPath& path, const JsonEvent& event) {
    if (path.size() == 2 && path[0] == "shards" && event.kind == JsonEvent::Kind::begin_object) {
      layout.shards.emplace_back();
    }
    if (path.size() == 3 && path[0] == "shards" && event.kind == JsonEvent::Kind::text &&
        !layout.shards.empty()) {
      if (path[2] == "name") layout.shards.back().name = event.text;
      if (path[2] == "header") layout.shards.back().header = event.text;
    }
    if (path.size() == 1 && path[0] == "made_up") layout.made_up = event.truth;
  };
  try {
    visit_json(text, visit);
  } catch (const JsonError& error) {
    fail(ExitCode::bad_input, "{}: /layout: {}", source.name, error.what());
  }
  return layout;
}

/// Every dataset of a group by its true name.
std::vector<TensorInfo> describe_group(Source& source, const std::string& name) {
  const Hdf5Handle group = open_object(source.handle.get(), name);
  std::vector<TensorInfo> found;
  for (const std::string& link : list_group(source, group.get(), "/" + name)) {
    const Hdf5Handle object = open_object(group.get(), link);
    const std::string path = "/" + name + "/" + link;
    if (H5Iget_type(object.get()) != H5I_DATASET) {
      fail(ExitCode::bad_input, "{}: {} is no dataset", source.name, printable(path));
    }
    TensorInfo entry = describe(source, object.get(), path);
    entry.name = text_attribute(object.get(), "name").value_or(link);
    found.push_back(std::move(entry));
  }
  return found;
}

void check_names(const Source& source, const std::vector<TensorInfo>& tensors) {
  std::unordered_map<std::string_view, int> seen;
  for (const TensorInfo& tensor : tensors) {
    if (!is_utf8(tensor.name)) {
      fail(ExitCode::bad_input, "{}: tensor {}: its name is not UTF-8", source.name, printable(tensor.name));
    }
    if (!seen.emplace(tensor.name, 0).second) {
      fail(ExitCode::bad_input, "{}: two datasets are called {}; rename one", source.name,
           printable(tensor.name));
    }
  }
}

/// Puts the tensors in the order of the layout; both must tell of the same tensors.
std::vector<TensorInfo> in_layout_order(const Source& source, const Layout& layout,
                                        std::vector<TensorInfo> found) {
  std::unordered_map<std::string, TensorInfo> by_name;
  for (TensorInfo& tensor : found) {
    const std::string name = tensor.name;
    by_name.emplace(name, std::move(tensor));
  }
  std::vector<TensorInfo> ordered;
  for (const Shard& shard : layout.shards) {
    const std::string what = fmt::format("{}: /layout: {}", source.name, shard.name);
    for (const TensorInfo& told : parse_safetensors_header(shard.header, what).tensors) {
      const auto at = by_name.find(told.name);
      if (at == by_name.end() || at->second.dtype != told.dtype || at->second.shape != told.shape) {
        fail(ExitCode::bad_input, "{}: /layout tells of tensor {}, but no dataset in /tensors is like that",
             source.name, printable(told.name));
      }
      ordered.push_back(std::move(at->second));
      by_name.erase(at);
    }
  }
  if (!by_name.empty()) {
    fail(ExitCode::bad_input, "{}: /layout does not tell of tensor {}", source.name,
         printable(by_name.begin()->first));
  }
  return ordered;
}

void open_own(Source& source, Checkpoint& model) {
  const std::vector<std::string> members = list_group(source, source.handle.get(), "");
  const auto has = [&](const char* name) {
    return std::find(members.begin(), members.end(), name) != members.end();
  };
  if (!has("tensors")) fail(ExitCode::bad_input, "{}: has no group /tensors", source.name);
  model.tensors = describe_group(source, "tensors");
  check_names(source, model.tensors);
  if (has("layout")) {
    Layout layout = parse_layout(source, read_layout(source, model.path));
    for (const Shard& shard : layout.shards) check_carried_name(shard.name, model.path);
    model.tensors = in_layout_order(source, layout, std::move(model.tensors));
    if (!layout.made_up) model.shards = std::move(layout.shards);
  }
  if (!has("files")) return;
  std::vector<TensorInfo> files = describe_group(source, "files");
  check_names(source, files);
  for (TensorInfo& file : files) {
    check_carried_name(file.name, model.path);
    if (!file.dataset.empty()) {
      fail(ExitCode::bad_input, "{}: the file {} in it is not stored as plain bytes", source.name,
           printable(file.name));
    }
    model.carried.push_back({std::move(file.name), file.extent});
  }
  std::sort(model.carried.begin(), model.carried.end(),
            [](const CarriedFile& a, const CarriedFile& b) { return a.name < b.name; });
}

// ---- other files
// -------------------------------------------------------------------------------------------------

void walk(Source& source, hid_t group, const std::string& path, std::size_t depth, Checkpoint& model) {
  if (depth > deepest_group) {
    fail(ExitCode::bad_input, "{}: groups nested more than {} deep; do they contain each other?", source.name,
         deepest_group);
  }
  for (const std::string& link : list_group(source, group, path)) {
    const Hdf5Handle object = open_object(group, link);
    const std::string below = path + "/" + link;
    const H5I_type_t kind = H5Iget_type(object.get());
    if (kind == H5I_GROUP) walk(source, object.get(), below, depth + 1, model);
    if (kind != H5I_DATASET) continue;
    TensorInfo tensor = describe(source, object.get(), below);
    tensor.name = below.substr(1);
    std::replace(tensor.name.begin(), tensor.name.end(), '/', '.');
    model.tensors.push_back(std::move(tensor));
  }
}

void open_foreign(Source& source, Checkpoint& model) {
  walk(source, source.handle.get(), "", 0, model);
  check_names(source, model.tensors);
  if (model.tensors.empty()) fail(ExitCode::bad_input, "{}: holds no datasets", source.name);
  std::sort(model.tensors.begin(), model.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
}

}  // namespace

Checkpoint open_hdf5(const fs::path& path) {
  const std::string name = printable(path.string());
  if (::access(path.c_str(), R_OK) != 0) fail(ExitCode::bad_input, "{}: may not be read", name);
  Checkpoint model;
  model.format = Format::hdf5;
  model.path = path;
  model.files = {path};
  const Hdf5Lock lock;
  try {
    Source source{open_file(path), name, fs::file_size(path), 0};
    const Hdf5Handle root = open_object(source.handle.get(), "/");
    const auto version = number_attribute(root.get(), "lox_format");
    if (!version) {
      open_foreign(source, model);
    } else if (*version == std::vector<std::int64_t>{hdf5_layout_version}) {
      open_own(source, model);
    } else {
      fail(ExitCode::bad_input, "{}: its lox_format is not {}; a newer lox may read it", name,
           hdf5_layout_version);
    }
  } catch (const Hdf5Error& error) {
    fail(ExitCode::bad_input, "{}: cannot be read as HDF5: {}", name, error.what());
  }
  return model;
}

void read_hdf5_dataset(const fs::path& file, const TensorInfo& tensor, std::uint64_t first,
                       std::span<std::byte> to) {
  if (to.empty()) return;
  const Hdf5Lock lock;
  try {
    read_bytes(open_file(file).get(), tensor.dataset, first, to);
  } catch (const Hdf5Error& error) {
    fail(ExitCode::io, "{}: dataset {}: {}", printable(file.string()), printable(tensor.dataset),
         error.what());
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
