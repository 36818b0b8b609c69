// SPDX-License-Identifier: MIT
#pragma once
// A small pair of models, and what hardening must make of it, in double.
#include "lox/base/dtype.hpp"
#include "lox/base/random.hpp"
#include "lox/io/storage.hpp"

#include <string>
#include <vector>

#include <Eigen/SVD>

namespace lox::testing {

using Dense = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
};
inline const std::vector<Tensor> tensors_of_the_pair{
    {"embed", {96, 40}}, {"experts", {2, 30, 50}}, {"norm", {40}}, {"up", {60, 90}}};

/// Entries in double of one half of the pair: weights of 0.02, the aligned ones with a decaying difference.
inline std::vector<double> entries(const Tensor& tensor, bool aligned) {
  std::int64_t count = 1;
  for (const std::int64_t size : tensor.shape) count *= size;
  const std::uint64_t key = stream_key(1, tensor.name);
  const std::int64_t cols = tensor.shape.back();
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    double value = 0.02 * static_cast<double>(normal_at(key, at));
    for (std::uint64_t r = 0; aligned && r < 20; ++r) {
      value += 2e-3 / static_cast<double>(r + 1) *
               static_cast<double>(normal_at(key + r + 1, static_cast<std::uint64_t>(i / cols))) *
               static_cast<double>(normal_at(key + r + 100, static_cast<std::uint64_t>(i % cols)));
    }
    values.push_back(value);
  }
  std::vector<std::byte> stored(values.size() * 2);
  from_double(DType::BF16, values.data(), values.size(), stored.data());
  to_double(DType::BF16, stored.data(), values.size(), values.data());
  return values;
}

/// One half as a folder of safetensors with a configuration beside it.
inline void put_half(const fs::path& folder, bool aligned) {
  Checkpoint like;
  for (const Tensor& tensor : tensors_of_the_pair) {
    TensorInfo info{tensor.name, DType::BF16, tensor.shape, {}, ""};
    info.extent.bytes = static_cast<std::uint64_t>(info.elements()) * 2;
    like.tensors.push_back(info);
  }
  const std::string config = "{\"hidden_size\": 40}";
  like.other_files = {{"config.json", {0, 0, config.size()}}};
  const Checkpoint made = create_checkpoint(like, folder, Format::safetensors_directory);
  FileStorage storage(made, FileStorage::Access::write);
  for (std::size_t i = 0; i < made.tensors.size(); ++i) {
    const std::vector<double> values = entries(tensors_of_the_pair[i], aligned);
    std::vector<std::byte> stored(values.size() * 2);
    from_double(DType::BF16, values.data(), values.size(), stored.data());
    storage.write(made.tensors[i].extent, 0, stored);
  }
  storage.write(made.other_files[0].extent, 0, std::as_bytes(std::span(config)));
}

/// The entries of a tensor of a checkpoint on disk.
inline std::vector<double> stored_entries(const Checkpoint& model, const std::string& name) {
  FileStorage storage(model, FileStorage::Access::read);
  for (const TensorInfo& tensor : model.tensors) {
    if (tensor.name != name) continue;
    std::vector<std::byte> stored(tensor.extent.bytes);
    storage.read(tensor, 0, stored);
    std::vector<double> values(static_cast<std::size_t>(tensor.elements()));
    to_double(tensor.dtype, stored.data(), values.size(), values.data());
    return values;
  }
  return {};
}

/// W + coef times the best rank-k part of W - W_base, by Eigen's SVD in double. k = 0: all of it.
inline std::vector<double> hardened_entries(const Tensor& tensor, Eigen::Index k, double coef) {
  const std::vector<double> base = entries(tensor, false);
  std::vector<double> result = entries(tensor, true);
  if (tensor.shape.size() < 2) return result;
  const Eigen::Index rows = tensor.shape[tensor.shape.size() - 2];
  const Eigen::Index cols = tensor.shape.back();
  for (std::size_t at = 0; at < result.size(); at += static_cast<std::size_t>(rows * cols)) {
    Eigen::Map<Dense> aligned(result.data() + at, rows, cols);
    const Eigen::Map<const Dense> before(base.data() + at, rows, cols);
    const Dense delta = aligned - before;
    if (k == 0) {
      aligned += coef * delta;
      continue;
    }
    const Eigen::JacobiSVD<Dense> svd(delta, Eigen::ComputeThinU | Eigen::ComputeThinV);
    aligned += coef * svd.matrixU().leftCols(k) * svd.singularValues().head(k).asDiagonal() *
               svd.matrixV().leftCols(k).transpose();
  }
  return result;
}

}  // namespace lox::testing
