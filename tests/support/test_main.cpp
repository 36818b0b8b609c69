// SPDX-License-Identifier: MIT
// The main of every test program: MPI around GoogleTest. Failures of any rank fail the run; only rank 0
// prints the successes.
#include "lox/base/mpi.hpp"

#include <optional>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lox {

// Present in programs that open HDF5 files; those of the layers below do without.
[[gnu::weak]] std::optional<int> run_if_sandboxed_reader(int argc, const char* const* argv);

}  // namespace lox

int main(int argc, char** argv) {
  if (lox::run_if_sandboxed_reader != nullptr) {
    if (const auto code = lox::run_if_sandboxed_reader(argc, argv)) return *code;
  }
  const lox::MpiSession mpi(&argc, &argv);
  testing::InitGoogleTest(&argc, argv);
  const lox::Comm comm = lox::Comm::world();
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  if (!comm.is_root()) {
    // GoogleTest's printer would repeat everything; failures are printed by this one.
    class FailuresOnly : public testing::EmptyTestEventListener {
      void OnTestPartResult(const testing::TestPartResult& result) override {
        if (!result.failed()) return;
        fmt::print(stderr, "[ RANK {} ] {}:{}\n{}\n", lox::Comm::world().rank(),
                   result.file_name() != nullptr ? result.file_name() : "?", result.line_number(),
                   result.message());
      }
    };
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailuresOnly);
  }
  const int failed = RUN_ALL_TESTS();
  return comm.sum(std::int64_t{failed}) != 0 ? 1 : 0;
}
