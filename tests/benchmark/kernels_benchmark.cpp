// SPDX-License-Identifier: MIT
// The loops over weights, with Google Benchmark; jobs/bench.sh kernels makes a table of it. One 4096 x 4096
// matrix: what passes through the processor for every weight of a model.
#include "lox/base/buffer.hpp"
#include "lox/base/random.hpp"
#include "lox/linalg/delta.hpp"
#include "lox/linalg/extrapolate.hpp"
#include "lox/linalg/libraries.hpp"
#include "lox/linalg/orthonormalise.hpp"
#include "lox/linalg/thin_product.hpp"

#include "linalg/spectra.hpp"
#include <benchmark/benchmark.h>

namespace lox {
namespace {

constexpr Index n = 4096;
constexpr auto entries = static_cast<std::size_t>(n * n);

Buffer random_weights(DType dtype, std::uint64_t key) {
  Buffer floats(entries * sizeof(float));
  for (std::size_t i = 0; i < entries; ++i) floats.floats()[i] = 0.02F * normal_at(key, i);
  Buffer weights(entries * element_bytes(dtype));
  from_float(dtype, floats.floats().data(), entries, weights.data());
  return weights;
}

Panel random_panel(Index cols) {
  return noise(n, cols, 1, 7);
}

void count(benchmark::State& state, std::size_t bytes, double flops = 0) {
  state.SetBytesProcessed(static_cast<std::int64_t>(bytes) * state.iterations());
  if (flops > 0) {
    state.counters["flops"] =
        benchmark::Counter(flops * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  }
}

void bf16_to_float(benchmark::State& state) {
  const Buffer from = random_weights(DType::BF16, 1);
  Buffer to(entries * sizeof(float));
  for (auto _ : state) to_float(DType::BF16, from.data(), entries, to.floats().data());
  count(state, 6 * entries);
}
BENCHMARK(bf16_to_float);

void float_to_bf16(benchmark::State& state) {
  Buffer from = random_weights(DType::F32, 1);
  Buffer to(entries * 2);
  for (auto _ : state) from_float(DType::BF16, from.floats().data(), entries, to.data());
  count(state, 6 * entries);
}
BENCHMARK(float_to_bf16);

void delta_of_bf16(benchmark::State& state) {
  const Buffer base = random_weights(DType::BF16, 1);
  const Buffer aligned = random_weights(DType::BF16, 2);
  Buffer delta(entries * sizeof(float));
  for (auto _ : state) subtract(DType::BF16, aligned.data(), DType::BF16, base.data(), delta.floats());
  count(state, 8 * entries);
}
BENCHMARK(delta_of_bf16);

enum class Product { forward, adjoint, both, forward_by_blas, adjoint_by_blas };

void thin_product(benchmark::State& state, Product product, Index columns) {
  Buffer delta = random_weights(DType::F32, 3);
  const RowMajorView a(delta.floats().data(), n, n);
  const Panel x = random_panel(columns);
  Panel y(n, columns);
  Panel z(n, columns);
  for (auto _ : state) {
    switch (product) {
      case Product::forward:
        multiply(a, x, y);
        break;
      case Product::adjoint:
        multiply_adjoint(a, x, z);
        break;
      case Product::both:
        multiply_both(a, x, y, y, z);
        break;
      case Product::forward_by_blas:
        y.noalias() = a * x;
        break;
      case Product::adjoint_by_blas:
        z.noalias() = a.transpose() * x;
        break;
    }
  }
  const double products = product == Product::both ? 2 : 1;
  count(state, 4 * entries, products * 2 * static_cast<double>(columns) * static_cast<double>(entries));
}
BENCHMARK_CAPTURE(thin_product, A_x_8_columns, Product::forward, 8);
BENCHMARK_CAPTURE(thin_product, adjoint_8_columns, Product::adjoint, 8);
BENCHMARK_CAPTURE(thin_product, both_in_one_pass_8_columns, Product::both, 8);
BENCHMARK_CAPTURE(thin_product, A_x_16_columns, Product::forward, 16);
BENCHMARK_CAPTURE(thin_product, adjoint_16_columns, Product::adjoint, 16);
BENCHMARK_CAPTURE(thin_product, both_in_one_pass_16_columns, Product::both, 16);
BENCHMARK_CAPTURE(thin_product, A_x_by_the_BLAS_16_columns, Product::forward_by_blas, 16);
BENCHMARK_CAPTURE(thin_product, adjoint_by_the_BLAS_16_columns, Product::adjoint_by_blas, 16);

void extrapolate_bf16_k_6(benchmark::State& state) {
  Buffer weights = random_weights(DType::BF16, 1);
  const Small u = random_panel(6).cast<double>();
  const std::vector<double> sigma(6, 1e-6);
  for (auto _ : state) extrapolate(DType::BF16, weights.bytes(), u, sigma, u, 1.25);
  count(state, 4 * entries, 2.0 * 6 * static_cast<double>(entries));
}
BENCHMARK(extrapolate_bf16_k_6);

struct OneRank {
  void sum(Side, std::span<double>) const {}
};

/// Of 8 columns against a basis of 48, as in the sixth iteration.
void orthonormalise_8_against_48(benchmark::State& state) {
  OneRank alone;
  Panel basis = random_panel(48);
  extend(alone, Side::left, basis.leftCols(0), basis, 1e-6);
  const Panel fresh = random_panel(8);
  for (auto _ : state) {
    Panel panel = fresh;
    benchmark::DoNotOptimize(extend(alone, Side::left, basis, panel, 1e-6));
  }
  count(state, static_cast<std::size_t>(n) * (48 + 8) * sizeof(float));
}
BENCHMARK(orthonormalise_8_against_48);

}  // namespace
}  // namespace lox

BENCHMARK_MAIN();
