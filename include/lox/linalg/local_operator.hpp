// SPDX-License-Identifier: MIT
#pragma once
#include "lox/base/random.hpp"
#include "lox/base/stop.hpp"
#include "lox/linalg/orthonormalise.hpp"
#include "lox/linalg/thin_product.hpp"

namespace lox {

/// A matrix in this rank's memory as a Krylov operator.
class LocalOperator {
 public:
  static constexpr bool one_pass = true;
  explicit LocalOperator(const RowMajorView& matrix) : matrix_(matrix) {}
  Index rows() const { return matrix_.rows(); }
  Index cols() const { return matrix_.cols(); }
  template <class P>
  void apply(const P& x, P& y) const {
    multiply(matrix_, x, y);
  }
  template <class P>
  void apply_adjoint(const P& x, P& y) const {
    multiply_adjoint(matrix_, x, y);
  }
  template <class P>
  void apply_both(const P& x, P& y, const P& u, P& z) const {
    multiply_both(matrix_, x, y, u, z);
  }
  bool should_stop() const { return stop_urgency() >= 2; }
  void sum(Side, std::span<double>) const {}
  Panel random_panel(Index columns, std::uint64_t key) const {
    Panel panel(cols(), columns);
    for (Index i = 0; i < panel.size(); ++i)
      panel.data()[i] = gaussian_at(key, static_cast<std::uint64_t>(i));
    return panel;
  }

 private:
  RowMajorView matrix_;
};

}  // namespace lox
