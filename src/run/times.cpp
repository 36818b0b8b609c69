// SPDX-License-Identifier: MIT
#include "lox/run/times.hpp"

#include <array>

namespace lox {

WorkTimes sum_times(const Comm& comm, const WorkTimes& mine) {
  WorkTimes all = mine;
  const std::array<double*, 9> fields{&all.solving,
                                      &all.waiting,
                                      &all.idle,
                                      &all.reading,
                                      &all.writing,
                                      &all.grid.products,
                                      &all.grid.communication,
                                      &all.grid.total,
                                      &all.redistribution};
  std::array<double, fields.size()> sums{};
  for (std::size_t i = 0; i < fields.size(); ++i) sums[i] = *fields[i];
  comm.sum(sums);
  for (std::size_t i = 0; i < fields.size(); ++i) *fields[i] = sums[i];
  return all;
}

}  // namespace lox
