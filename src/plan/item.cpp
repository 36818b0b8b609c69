// SPDX-License-Identifier: MIT
#include "lox/plan/item.hpp"

namespace lox {

std::string_view action_name(Action action) {
  switch (action) {
    case Action::copy:
      return "copied";
    case Action::edit:
      return "edited";
    case Action::factor:
      return "factored";
    case Action::analyse:
      return "analysed";
  }
  return "?";
}
std::string_view where_name(Where where) {
  return where == Where::local ? "local" : "grid";
}

std::uint64_t bytes_moved(const Item& item) {
  if (item.action == Action::copy) return 2 * item.bytes;
  if (item.method == Method::lora) return 2 * item.bytes;
  const auto entries = static_cast<std::uint64_t>(item.matrix.rows * item.matrix.cols);
  const std::uint64_t base = entries * element_bytes(item.base_dtype);
  // On the grid aligned rows are read twice: for the delta, and to be edited when the factors are known.
  const std::uint64_t reads = item.where == Where::grid && item.method != Method::full ? 2 : 1;
  return (reads + 1) * item.bytes + base;
}

}  // namespace lox
