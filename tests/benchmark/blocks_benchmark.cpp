// SPDX-License-Identifier: MIT
// Iterations and seconds of the Krylov method by block size, one thread, on spectra of different kinds.
// Prints JSON, a line for each run; used by jobs/bench.sh blocks.
#include "lox/base/timer.hpp"
#include "lox/linalg/krylov.hpp"
#include "lox/linalg/libraries.hpp"
#include "lox/linalg/local_operator.hpp"

#include "linalg/spectra.hpp"
#include <fmt/core.h>

namespace lox {
namespace {

constexpr Index rows = 8192;
constexpr Index cols = 4096;

/// Noise whose largest singular value is about 1, and `rank` singular values s(i) in front of it.
template <class Sigma>
RowMajorMatrix spectrum(Index rank, Sigma sigma) {
  const float edge = std::sqrt(static_cast<float>(rows)) + std::sqrt(static_cast<float>(cols));
  RowMajorMatrix left = noise(rows, rank, 1, 2) / std::sqrt(static_cast<float>(rows));
  const RowMajorMatrix right = noise(rank, cols, 1, 3) / std::sqrt(static_cast<float>(cols));
  for (Index i = 0; i < rank; ++i) left.col(i) *= sigma(static_cast<float>(i + 1));
  RowMajorMatrix matrix = noise(rows, cols, 1, 1) / edge;
  matrix.noalias() += left * right;
  return matrix;
}

void run(const char* name, const RowMajorMatrix& matrix) {
  for (const Index k : {6, 100, 200}) {
    for (const Index block : {8, 16, 32, 48}) {
      LocalOperator op(RowMajorView(matrix.data(), rows, cols));
      KrylovOptions options;
      options.k = k;
      options.block = block;
      options.max_iterations = 600;
      options.basis = std::max<Index>(10 * block, 2 * k + 2 * block);
      double best = 1e9;
      KrylovResult result;
      for (int repeat = 0; repeat < 3; ++repeat) {
        const Timer timer;
        result = krylov_svd(op, options);
        best = std::min(best, timer.seconds());
      }
      fmt::print(
          "{{\"spectrum\": \"{}\", \"k\": {}, \"block\": {}, \"iterations\": {}, \"seconds\": {:.4f}, "
          "\"converged\": {}}}\n",
          name, k, block, result.iterations, best, result.converged);
    }
  }
}

}  // namespace
}  // namespace lox

int main() {
  using namespace lox;
  set_threads(1);
  run("planted", spectrum(24, [](float i) { return 8 / i; }));
  run("power law", spectrum(400, [](float i) { return 20 / std::sqrt(i); }));
  run("noise", spectrum(0, [](float) { return 0.0F; }));
}
