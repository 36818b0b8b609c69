// SPDX-License-Identifier: MIT
#pragma once
#include "lox/run/apply_steps.hpp"
#include "lox/run/row_reader.hpp"

#include <cstdint>
#include <vector>

namespace lox {

/// What spans the plane of a landscape: D, the aligned model's Delta_k, zero where a tensor has no factors,
/// and G: T - A of a tuned model, the mean of that and HT - H, or random numbers. Their numbers among the
/// other models; -1: none.
struct PlaneModels {
  int tuned = -1;
  int hardened = -1;
  int hardened_tuned = -1;
  bool random = false;     ///< G: independent, approximately normal numbers
  std::uint64_t seed = 0;  ///< of them
};

/// Some rows of all models, as they were read.
struct PlaneRows {
  Buffer aligned;
  std::vector<Buffer> others;
  Solved factors;  ///< of these rows; no columns where there are none
  Buffer delta;    ///< floats: Delta of these rows, where it is taken as it is
};

/// Some of these rows in double.
struct PlaneBlock {
  RowMajorDoubles aligned;
  RowMajorDoubles along;                       ///< D; no entries where it is zero
  RowMajorDoubles direction;                   ///< G
  std::vector<RowMajorDoubles> displacements;  ///< of the other models from the aligned one
};

/// Reads rows of models, and of what spans their plane. Thread-safe.
class PlaneReader {
 public:
  /// `models`: the aligned one, then the others. All outlive it.
  PlaneReader(std::vector<OpenModel> models, const FactorReader& factors, PlaneModels plane)
      : models_(std::move(models)), factors_(factors), plane_(plane) {}

  std::size_t others() const { return models_.size() - 1; }
  const TensorInfo& tensor(const Item& item, std::size_t model) const;
  static bool has_factors(const Item& item);

  /// The item's rows. Throws Error(bad_input) for NaN and Inf, naming model and tensor.
  PlaneRows read(const Item& item) const;
  /// Bytes of a whole tensor of the aligned model.
  void read_bytes(const Item& item, std::uint64_t first, std::span<std::byte> to) const;
  /// Rows [first, first + count) of those that were read.
  PlaneBlock block(const Item& item, const PlaneRows& rows, Index first, Index count) const;

 private:
  RowMajorDoubles random_rows(const Item& item, Index first, Index count) const;
  std::vector<OpenModel> models_;
  const FactorReader& factors_;
  PlaneModels plane_;
};

/// Scalar products over some rows: <D, D>, <D, G>, <G, G>, then for each other model, M its displacement,
/// <M, M>, <M, D>, <M, G>.
std::vector<double> plane_products(const PlaneBlock& block);

/// The plane that sums of such products tell: d1 = D / |D|, d2 = (G - <G, d1> d1) / |..|.
struct Plane {
  double along_norm = 0;       ///< |D|
  double direction_norm = 0;   ///< |G|
  double direction_along = 0;  ///< <G, d1>
  double across_norm = 0;      ///< |G - <G, d1> d1|

  /// A model whose displacement has these products with itself, D and G.
  struct Position {
    double a = 0;
    double b = 0;
    double distance = 0;  ///< |M|
    double outside = 0;   ///< |M - a d1 - b d2|
  };
  Position position(double square, double with_along, double with_direction) const;
  /// a d1 + b d2 = first * D + second * G.
  std::pair<double, double> shares(double a, double b) const;
};
Plane plane_of(const std::vector<double>& products);

}  // namespace lox
