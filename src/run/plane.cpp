// SPDX-License-Identifier: MIT
#include "lox/run/plane.hpp"

#include "lox/base/checksum.hpp"
#include "lox/base/error.hpp"
#include "lox/base/random.hpp"
#include "lox/linalg/delta.hpp"
#include "lox/plan/landscape_plan.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

RowMajorDoubles in_double(DType dtype, const Buffer& bytes, Index first, Index count, Index cols) {
  RowMajorDoubles values(count, cols);
  const auto start = static_cast<std::size_t>(first * cols) * element_bytes(dtype);
  to_double(dtype, bytes.data() + start, static_cast<std::size_t>(values.size()), values.data());
  return values;
}

double dot(const RowMajorDoubles& x, const RowMajorDoubles& y) {
  return x.size() == 0 || y.size() == 0 ? 0 : x.cwiseProduct(y).sum();
}

}  // namespace

const TensorInfo& PlaneReader::tensor(const Item& item, std::size_t model) const {
  const std::size_t place = model == 0 ? 0 : first_other + model - 1;
  return models_[model].table->tensors[static_cast<std::size_t>(item.matrix.tensors[place])];
}

bool PlaneReader::has_factors(const Item& item) {
  return item.matrix.tensors.size() > first_factor && item.matrix.tensors[first_factor] >= 0;
}

void PlaneReader::read_bytes(const Item& item, std::uint64_t first, std::span<std::byte> to) const {
  models_.front().storage->read(tensor(item, 0), first, to);
}

PlaneRows PlaneReader::read(const Item& item) const {
  PlaneRows rows;
  const auto entries = static_cast<std::size_t>(item.rows.count * item.matrix.cols);
  for (std::size_t m = 0; m < models_.size(); ++m) {
    const TensorInfo& info = tensor(item, m);
    const std::uint64_t start = row_offset(item.matrix, info.dtype, item.rows.first);
    Buffer bytes(entries * element_bytes(info.dtype));
    models_[m].storage->read(info, start, bytes.bytes());
    if (const auto bad = find_non_finite(info.dtype, bytes.data(), entries)) {
      fail(ExitCode::bad_input, "{}: tensor '{}' of the {} model holds NaN or Inf at index {}; repair it",
           models_[m].table->path, info.name, models_[m].name, start / element_bytes(info.dtype) + *bad);
    }
    if (m == 0) {
      rows.aligned = std::move(bytes);
    } else {
      rows.others.push_back(std::move(bytes));
    }
  }
  if (!has_factors(item)) return rows;
  rows.factors = factors_.read(item);
  rows.delta = factors_.read_delta(item);
  return rows;
}

/// Numbers that depend on the tensor's name, the entry and the seed alone.
RowMajorDoubles PlaneReader::random_rows(const Item& item, Index first, Index count) const {
  const std::string& name = tensor(item, 0).name;
  const std::uint64_t key = mix64(plane_.seed ^ checksum(std::as_bytes(std::span(name))));
  const Index start = (item.matrix.number * item.matrix.rows + item.rows.first + first) * item.matrix.cols;
  RowMajorDoubles values(count, item.matrix.cols);
  for (Index i = 0; i < values.size(); ++i) {
    values.data()[i] = static_cast<double>(normal_at(key, static_cast<std::uint64_t>(start + i)));
  }
  return values;
}

PlaneBlock PlaneReader::block(const Item& item, const PlaneRows& rows, Index first, Index count) const {
  const Index cols = item.matrix.cols;
  PlaneBlock block;
  block.aligned = in_double(tensor(item, 0).dtype, rows.aligned, first, count, cols);
  for (std::size_t m = 0; m < rows.others.size(); ++m) {
    block.displacements.push_back(in_double(tensor(item, m + 1).dtype, rows.others[m], first, count, cols) -
                                  block.aligned);
  }
  const Factors& f = rows.factors.factors;
  if (!rows.delta.floats().empty()) {
    block.along = in_double(DType::F32, rows.delta, first, count, cols);
  } else if (f.u.cols() > 0) {
    const Small scaled = f.u.middleRows(first, count) *
                         Eigen::Map<const Eigen::VectorXd>(f.sigma.data(), f.u.cols()).asDiagonal();
    block.along = scaled * f.v.transpose();
  }
  if (plane_.random) {
    block.direction = random_rows(item, first, count);
  } else {
    const auto displacement = [&](int model) -> const RowMajorDoubles& {
      return block.displacements[static_cast<std::size_t>(model)];
    };
    block.direction = displacement(plane_.tuned);
    if (plane_.hardened >= 0) {
      block.direction =
          0.5 * (block.direction + (displacement(plane_.hardened_tuned) - displacement(plane_.hardened)));
    }
  }
  return block;
}

std::vector<double> plane_products(const PlaneBlock& block) {
  std::vector<double> products{dot(block.along, block.along), dot(block.along, block.direction),
                               dot(block.direction, block.direction)};
  for (const RowMajorDoubles& m : block.displacements) {
    for (const double product : {dot(m, m), dot(m, block.along), dot(m, block.direction)})
      products.push_back(product);
  }
  return products;
}

Plane plane_of(const std::vector<double>& products) {
  Plane plane;
  plane.along_norm = std::sqrt(products[0]);
  plane.direction_norm = std::sqrt(products[2]);
  plane.direction_along = products[1] / plane.along_norm;
  plane.across_norm = std::sqrt(std::max(0.0, products[2] - plane.direction_along * plane.direction_along));
  return plane;
}

Plane::Position Plane::position(double square, double with_along, double with_direction) const {
  Position position;
  position.a = with_along / along_norm;
  position.b = (with_direction - direction_along * position.a) / across_norm;
  position.distance = std::sqrt(square);
  position.outside = std::sqrt(std::max(0.0, square - position.a * position.a - position.b * position.b));
  return position;
}

std::pair<double, double> Plane::shares(double a, double b) const {
  const double direction = b / across_norm;
  return {(a - direction * direction_along) / along_norm, direction};
}

}  // namespace lox
