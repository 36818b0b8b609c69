// SPDX-License-Identifier: MIT
#pragma once
// Records for tests.
#include "lox/run/record.hpp"

#include <string>

namespace lox::testing {

/// A record with a value of its own in each field.
inline Record edited(const std::string& name, std::int64_t matrix = 0) {
  Record r;
  r.key = {name, matrix, Action::edit, 24};
  r.spectrum.where = Where::grid;
  r.spectrum.method = Method::exact;
  r.spectrum.k = 3;
  r.spectrum.sigma = {3.25, 0.1, 1e-300};
  r.spectrum.certificate = {1.0 / 3, 2.0 / 7};
  r.spectrum.missed = {0.3, 1e-9};
  r.spectrum.settled = false;
  r.spectrum.iterations = 7;
  r.spectrum.delta_norm = 4.5;
  r.edits = {{5.625, 30.1, 23}};
  r.timing = {0.1, 0.2, 0.3, 96, 48};
  r.pieces = {{0, 3, 0, 24, UINT64_MAX}, {0, 3, 24, 24, 1}};
  return r;
}

inline Record copied(const std::string& name) {
  Record r;
  r.key = {name, 0, Action::copy, 6};
  r.timing = {0.5, 0, 0, 12, 12};
  r.pieces = {{0, 1, 0, 12, 99}};
  return r;
}

}  // namespace lox::testing
