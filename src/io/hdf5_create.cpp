// SPDX-License-Identifier: MIT
#include "lox/io/hdf5_create.hpp"

#include "lox/base/error.hpp"
#include "lox/io/hdf5.hpp"
#include "lox/io/hdf5_layout.hpp"
#include "lox/io/hdf5_type.hpp"
#include "lox/io/other_files.hpp"
#include "lox/io/safetensors.hpp"

#include <algorithm>

namespace lox {
namespace {

constexpr std::uint64_t alignment = std::uint64_t{1} << 20;

Hdf5Handle property_list(hid_t kind) {
  return {H5Pcreate(kind), H5Pclose, "H5Pcreate"};
}

/// A file in the old format: newer ones mark themselves as open and cannot be opened after a kill.
Hdf5Handle create_file(const fs::path& path) {
  const Hdf5Handle creation = property_list(H5P_FILE_CREATE);
  const Hdf5Handle access = property_list(H5P_FILE_ACCESS);
  hdf5_check(H5Pset_obj_track_times(creation.get(), false), "H5Pset_obj_track_times");
  hdf5_check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_EARLIEST, H5F_LIBVER_V18), "H5Pset_libver_bounds");
  hdf5_check(H5Pset_alignment(access.get(), alignment, alignment), "H5Pset_alignment");
  hdf5_check(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), "H5Pset_fclose_degree");
  return {H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.get(), access.get()), H5Fclose, "H5Fcreate"};
}

Hdf5Handle create_group(hid_t parent, const char* name) {
  const Hdf5Handle creation = property_list(H5P_GROUP_CREATE);
  hdf5_check(H5Pset_obj_track_times(creation.get(), false), "H5Pset_obj_track_times");
  return {H5Gcreate2(parent, name, H5P_DEFAULT, creation.get(), H5P_DEFAULT), H5Gclose, "H5Gcreate2"};
}

Hdf5Handle create_space(const std::vector<std::int64_t>& shape) {
  if (shape.empty()) return {H5Screate(H5S_SCALAR), H5Sclose, "H5Screate"};
  const std::vector<hsize_t> sizes(shape.begin(), shape.end());
  return {H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr), H5Sclose,
          "H5Screate_simple"};
}

/// A dataset whose place in the file is settled now and whose bytes are left as they are.
Hdf5Handle create_dataset(hid_t parent, const std::string& link, hid_t type,
                          const std::vector<std::int64_t>& shape) {
  const Hdf5Handle linking = property_list(H5P_LINK_CREATE);
  const Hdf5Handle creation = property_list(H5P_DATASET_CREATE);
  hdf5_check(H5Pset_char_encoding(linking.get(), H5T_CSET_UTF8), "H5Pset_char_encoding");
  hdf5_check(H5Pset_layout(creation.get(), H5D_CONTIGUOUS), "H5Pset_layout");
  hdf5_check(H5Pset_alloc_time(creation.get(), H5D_ALLOC_TIME_EARLY), "H5Pset_alloc_time");
  hdf5_check(H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER), "H5Pset_fill_time");
  hdf5_check(H5Pset_obj_track_times(creation.get(), false), "H5Pset_obj_track_times");
  const Hdf5Handle space = create_space(shape);
  return {H5Dcreate2(parent, link.c_str(), type, space.get(), linking.get(), creation.get(), H5P_DEFAULT),
          H5Dclose, "H5Dcreate2"};
}

void write_attribute(hid_t object, const char* name, hid_t type, const std::vector<std::int64_t>& shape,
                     hid_t memory_type, const void* value) {
  const Hdf5Handle space = create_space(shape);
  const Hdf5Handle attribute(H5Acreate2(object, name, type, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
                             "H5Acreate2");
  hdf5_check(H5Awrite(attribute.get(), memory_type, value), "H5Awrite");
}

/// Of variable length, since that is what h5py shows as str.
void write_text_attribute(hid_t object, const char* name, const std::string& text) {
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "H5Tcopy");
  hdf5_check(H5Tset_size(type.get(), H5T_VARIABLE), "H5Tset_size");
  hdf5_check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "H5Tset_cset");
  const char* const value = text.c_str();
  write_attribute(object, name, type.get(), {}, type.get(), &value);
}

Extent place_of(const Hdf5Handle& dataset, std::uint64_t bytes) {
  if (bytes == 0) return {};
  const haddr_t offset = H5Dget_offset(dataset.get());
  if (offset == HADDR_UNDEF) throw Hdf5Error("H5Dget_offset");
  return {0, offset, bytes};
}

Extent create_tensor(hid_t group, const std::string& link, const TensorInfo& tensor) {
  if (tensor.shape.size() > H5S_MAX_RANK) {
    fail(ExitCode::bad_input, "tensor {}: has {} dimensions, HDF5 holds up to {}", tensor.name,
         tensor.shape.size(), H5S_MAX_RANK);
  }
  const std::uint64_t bytes = checked_bytes(tensor.dtype, tensor.shape, "", tensor.name);
  const Hdf5Handle type = hdf5_type_of(tensor.dtype);
  const std::vector<std::int64_t> packed{static_cast<std::int64_t>(bytes)};
  const Hdf5Handle dataset =
      create_dataset(group, link, type.get(), is_packed(tensor.dtype) ? packed : tensor.shape);
  write_text_attribute(dataset.get(), "dtype", std::string(dtype_name(tensor.dtype)));
  if (link != tensor.name) write_text_attribute(dataset.get(), "name", tensor.name);
  if (is_packed(tensor.dtype)) {
    write_attribute(dataset.get(), "shape", H5T_STD_I64LE, {static_cast<std::int64_t>(tensor.shape.size())},
                    H5T_NATIVE_INT64, tensor.shape.data());
  }
  return place_of(dataset, bytes);
}

Extent create_other_file(hid_t group, const std::string& link, const OtherFile& file) {
  const Hdf5Handle dataset =
      create_dataset(group, link, H5T_STD_U8LE, {static_cast<std::int64_t>(file.extent.bytes)});
  if (link != file.name) write_text_attribute(dataset.get(), "name", file.name);
  return place_of(dataset, file.extent.bytes);
}

void create_layout(hid_t file, const std::string& text) {
  const Hdf5Handle dataset =
      create_dataset(file, "layout", H5T_STD_U8LE, {static_cast<std::int64_t>(text.size())});
  hdf5_check(H5Dwrite(dataset.get(), H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, text.data()), "H5Dwrite");
}

template <class Item>
std::vector<std::string> links_of(const std::vector<Item>& items) {
  std::vector<std::string> names;
  for (const Item& item : items) names.push_back(item.name);
  return hdf5_link_names(names);
}

/// The whole file but for the bytes of tensors and other files.
void create_structure(const Checkpoint& like, const std::vector<Shard>& shards, Checkpoint& made) {
  Hdf5Handle file = create_file(made.path);
  const std::int32_t version = hdf5_layout_version;
  write_attribute(file.get(), "lox_format", H5T_STD_I32LE, {}, H5T_NATIVE_INT32, &version);
  create_layout(file.get(), hdf5_layout_text(shards, like.shards.empty()));
  {
    const Hdf5Handle group = create_group(file.get(), "tensors");
    const std::vector<std::string> links = links_of(like.tensors);
    for (std::size_t i = 0; i < links.size(); ++i) {
      made.tensors[i].extent = create_tensor(group.get(), links[i], like.tensors[i]);
      made.tensors[i].dataset.clear();
      made.tensors[i].parts.reset();
    }
  }
  {
    const Hdf5Handle group = create_group(file.get(), "files");
    const std::vector<std::string> links = links_of(like.other_files);
    for (std::size_t i = 0; i < links.size(); ++i) {
      made.other_files[i].extent = create_other_file(group.get(), links[i], like.other_files[i]);
    }
  }
  file.close();
}

}  // namespace

Checkpoint create_hdf5(const Checkpoint& like, const fs::path& path, Space space) {
  const std::vector<Shard> shards =
      like.shards.empty() ? make_shards(like.tensors, shard_limit) : like.shards;
  (void)place_tensors(like.tensors, shards);
  for (const OtherFile& file : like.other_files) check_other_file_name(file.name, like.path);
  Checkpoint made;
  made.format = Format::hdf5;
  made.path = path;
  made.files = {path};
  made.tensors = like.tensors;
  made.other_files = like.other_files;
  made.shards = like.shards;
  try {
    const Hdf5Lock lock;
    create_structure(like, shards, made);
  } catch (const Hdf5Error& error) {
    fail(ExitCode::io, "{}: cannot make this HDF5 file: {}", path, error.what());
  }
  File file = File::open_write(path);
  file.reserve(file.size(), space);
  file.sync();
  return made;
}

}  // namespace lox
