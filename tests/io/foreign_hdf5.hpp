// SPDX-License-Identifier: MIT
#pragma once
// HDF5 files that lox did not write.
#include "lox/io/checkpoint.hpp"

#include <hdf5.h>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace lox::testing {

using Shape = std::vector<hsize_t>;

/// A file made by the library itself, for a test to fill.
class ForeignFile {
 public:
  explicit ForeignFile(const fs::path& path)
      : path_(path),
        id_(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)),
        links_(H5Pcreate(H5P_LINK_CREATE)),
        properties_(H5Pcreate(H5P_DATASET_CREATE)) {
    H5Pset_create_intermediate_group(links_, 1);
  }
  ~ForeignFile() { close(); }

  hid_t id() const { return id_; }
  hid_t properties() const { return properties_; }
  /// A dataset of these elements, stored as `type`.
  void add(const char* name, hid_t type, const Shape& shape, hid_t memory, const void* data,
           const char* dtype = nullptr) {
    const hid_t space = shape.empty()
                            ? H5Screate(H5S_SCALAR)
                            : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t set = H5Dcreate2(id_, name, type, space, links_, properties_, H5P_DEFAULT);
    ASSERT_GE(set, 0) << name;
    if (data != nullptr) H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    if (dtype != nullptr) add_text(set, dtype);
    H5Dclose(set);
    H5Sclose(space);
  }
  Checkpoint open() {
    close();
    return open_checkpoint(path_);
  }

 private:
  static void add_text(hid_t set, const char* text) {
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, std::string_view(text).size() + 3);  // with padding
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(set, "dtype", type, space, H5P_DEFAULT, H5P_DEFAULT);
    std::string padded(text);
    padded.resize(padded.size() + 3, '\0');
    H5Awrite(attribute, type, padded.data());
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
  }
  void close() {
    if (id_ < 0) return;
    H5Pclose(properties_);
    H5Pclose(links_);
    H5Fclose(id_);
    id_ = -1;
  }
  fs::path path_;
  hid_t id_;
  hid_t links_;
  hid_t properties_;
};

}  // namespace lox::testing
