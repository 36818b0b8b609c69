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

void take_rows(RowRange rows, Item& item) {
  item.rows = rows;
  item.bytes = static_cast<std::uint64_t>(rows.count * item.matrix.cols) * element_bytes(item.dtype);
}

DType held_dtype(const Item& item) {
  return item.quantised ? DType::F32 : item.dtype;
}

std::uint64_t held_bytes(const Item& item) {
  return item.bytes / element_bytes(item.dtype) * element_bytes(held_dtype(item));
}

std::uint64_t stored_bytes(const Item& item) {
  return item.quantised ? item.bytes / element_bytes(item.dtype) : item.bytes;
}

std::uint64_t base_stored_bytes(const Item& item) {
  const auto entries = static_cast<std::uint64_t>(item.matrix.rows * item.matrix.cols);
  return item.base_quantised ? entries : entries * element_bytes(item.base_dtype);
}

std::uint64_t bytes_moved(const Item& item) {
  if (item.action == Action::copy || item.method == Method::lora) return stored_bytes(item) + item.bytes;
  // On the grid aligned rows are read twice: for the delta, and to be edited when the factors are known.
  const std::uint64_t reads = item.where == Where::grid && item.method != Method::full ? 2 : 1;
  return reads * stored_bytes(item) + item.bytes + base_stored_bytes(item);
}

}  // namespace lox
