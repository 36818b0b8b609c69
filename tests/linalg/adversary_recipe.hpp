// SPDX-License-Identifier: MIT
// Which adversary, of which shape, rounded how: all drawn from a seed and a number.
#pragma once
#include "linalg/adversary.hpp"
#include "linalg/adversary_solver.hpp"

namespace lox::adversary {

struct Kind {
  std::string_view name;
  std::function<Small(Random&, const Shape&)> make;
};

const std::vector<Kind>& kinds();

enum class Rounding { single, bf16, difference };

struct Recipe {
  std::uint64_t seed = 0;
  std::uint64_t number = 0;
  std::size_t kind = 0;
  Shape shape;
  Rounding rounding = Rounding::single;
  int exponent = 0;  ///< times 2^exponent
  bool wide = false;

  std::string text() const;
};

/// The kinds take turns.
Recipe recipe_of(std::uint64_t seed, std::uint64_t number);

RowMajorMatrix matrix_of(const Recipe& r);

}  // namespace lox::adversary
