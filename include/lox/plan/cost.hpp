// SPDX-License-Identifier: MIT
#pragma once
#include "lox/plan/item.hpp"

#include <cstdint>
#include <map>
#include <tuple>

namespace lox {

/// What an item costs each rank that works on it.
struct Cost {
  std::uint64_t memory = 0;        ///< bytes held at the worst moment, beyond what the program needs anyway
  std::uint64_t exact_memory = 0;  ///< the same if the exact method takes over from the Krylov method
  double flops = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  double seconds = 0;
  double first_read = 0;  ///< seconds more if a rank begins with it: reading with nothing to solve
};

/// Bytes of files a second that a rank moves, beside the arithmetic: of one thread, on two cores that share a
/// disk, from docs/benchmarks.md (jobs/bench.sh). Plans decide by it; only what they foretell knows another.
constexpr double rank_bandwidth = 4.5e8;

/// The same item, solved by the exact method.
Item by_exact_method(Item item);

/// Bytes of a matrix' rows that are worked on at a time where its factors are known.
inline constexpr std::uint64_t stretch_bytes = std::uint64_t{256} << 20;

/// What copying an item holds.
std::uint64_t copy_memory(const Item& item);

/// By one rank alone. The memory formula is in docs/architecture.md and kept by a test.
Cost local_cost(const Item& item, double bandwidth = rank_bandwidth);
/// By `ranks` ranks together; figures are per rank.
Cost grid_cost(const Item& item, int ranks, double bandwidth = rank_bandwidth);

/// The costs of a plan's items, each kind of item worked out once: a mixture of experts has tens of thousands
/// of one kind.
class CostTable {
 public:
  explicit CostTable(int ranks, double bandwidth = rank_bandwidth) : ranks_(ranks), bandwidth_(bandwidth) {}
  /// Where the item is done, by its method.
  Cost of(const Item& item);

 private:
  using Kind =
      std::tuple<Index, Index, DType, DType, bool, bool, Index, double, Method, Where, int, std::uint64_t>;
  int ranks_;
  double bandwidth_;
  std::map<Kind, Cost> known_;
};

/// What the factors of an adapter take for one matrix, with all that is made of them.
std::uint64_t adapter_bytes(const MatrixRef& matrix, std::int64_t rank);

/// Of a matrix that verify holds against an edit formed anew in double.
Cost check_cost(const Item& item);
/// Seconds to move bytes of files.
double file_seconds(double bytes, double bandwidth = rank_bandwidth);

/// What a rank holds beside its items: MPI, the libraries, tables.
constexpr std::uint64_t program_memory = std::uint64_t{128} << 20;

/// Bytes of delta that a rank of a grid reads and redistributes at a time.
constexpr std::uint64_t grid_band_bytes = std::uint64_t{32} << 20;

}  // namespace lox
