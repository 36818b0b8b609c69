// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_dataset.hpp"

#include "lox/base/error.hpp"
#include "lox/io/hdf5_type.hpp"
#include "lox/io/safetensors_header.hpp"

#include <algorithm>
#include <cstring>

namespace lox {
namespace {

constexpr std::uint64_t longest_attribute = std::uint64_t{1} << 20;

// ---- attributes ----

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

// ---- datasets ----

std::vector<hsize_t> sizes_of(hid_t dataset) {
  const Hdf5Handle space(H5Dget_space(dataset), H5Sclose, "H5Dget_space");
  if (H5Sget_simple_extent_type(space.get()) == H5S_NULL) throw Hdf5Error("a dataset without extent");
  std::vector<hsize_t> sizes(static_cast<std::size_t>(
      hdf5_check(H5Sget_simple_extent_ndims(space.get()), "H5Sget_simple_extent_ndims")));
  hdf5_check(H5Sget_simple_extent_dims(space.get(), sizes.data(), nullptr), "H5Sget_simple_extent_dims");
  return sizes;
}

/// Chunks are held in memory whole: one may not be out of all proportion to the file.
void check_chunks(const Hdf5Source& source, hid_t properties, std::size_t element_bytes,
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
         static_cast<int>(filter), name.c_str());
  }
}

/// Refuses bytes that are not in this file, or not there at all.
void check_storage(const Hdf5Source& source, hid_t dataset, hid_t properties, std::size_t element_bytes,
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
std::optional<Extent> plain_extent(const Hdf5Source& source, hid_t dataset, hid_t properties, hid_t type,
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
  const auto text = hdf5_text_attribute(dataset, "dtype");
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

}  // namespace

Hdf5Handle open_hdf5_file(const fs::path& path) {
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "H5Pcreate");
  hdf5_check(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), "H5Pset_fclose_degree");
#if H5_VERSION_GE(1, 10, 7)
  // Locks fail on some network file systems and protect from nothing here.
  hdf5_check(H5Pset_file_locking(access.get(), false, true), "H5Pset_file_locking");
#endif
  return {H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose, "H5Fopen"};
}

std::optional<std::string> hdf5_text_attribute(hid_t object, const char* name) {
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

std::optional<std::vector<std::int64_t>> hdf5_number_attribute(hid_t object, const char* name) {
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

TensorInfo describe_hdf5_dataset(const Hdf5Source& source, hid_t dataset, const std::string& path) {
  const std::string what = to_line("{}: dataset {}", source.name, path);
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose, "H5Dget_type");
  const Hdf5Handle properties(H5Dget_create_plist(dataset), H5Pclose, "H5Dget_create_plist");
  const std::vector<hsize_t> sizes = sizes_of(dataset);
  TensorInfo tensor;
  tensor.dtype = dtype_of(dataset, type.get(), what);
  tensor.shape.assign(sizes.begin(), sizes.end());
  if (is_packed(tensor.dtype)) {
    const auto shape = hdf5_number_attribute(dataset, "shape");
    if (!shape) fail(ExitCode::bad_input, "{}: has no attribute shape", what);
    tensor.shape = *shape;
  }
  const std::uint64_t bytes = checked_bytes(tensor.dtype, tensor.shape, "", what);
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

void read_hdf5_bytes(hid_t file, const std::string& path, std::uint64_t first, std::span<std::byte> to) {
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

}  // namespace lox
