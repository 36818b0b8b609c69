// SPDX-License-Identifier: MIT
#include "linalg/adversary_recipe.hpp"

#include <bit>

#include <Eigen/SVD>
#include <fmt/format.h>

namespace lox::adversary {
namespace {

/// A vector orthogonal to the columns of `start`, to 1e-14 also in floats: a few small entries at the end
/// undo the rounding of the others.
Small orthogonal_to(Random& g, const Small& start, double length) {
  const Index few = start.cols();
  const Index most = start.rows() - few;
  const Small top = start.topRows(most);
  const Small q =
      Eigen::HouseholderQR<Small>(top).householderQ() * Small::Identity(most, std::min(few, most));
  Small x = Small::Zero(start.rows(), 1);
  x.topRows(most) = g.noise(most, 1);
  for (int again = 0; again < 2; ++again) x.topRows(most) -= q * (q.transpose() * x.topRows(most));
  x = (x * (length / x.norm())).cast<float>().cast<double>().eval();
  const Small off = start.transpose() * x;
  const Small bottom = start.bottomRows(few).transpose();
  x.bottomRows(few) = -bottom.jacobiSvd(Eigen::ComputeFullU | Eigen::ComputeFullV).solve(off);
  return x;
}

/// One large row orthogonal to what a solver may start from, the rest easy to finish without it.
Small hides_from_start(Random& g, const Shape& drawn) {
  const bool transposed = g.chance(0.3);
  const Shape s = transposed ? Shape{drawn.n, drawn.m, drawn.k} : drawn;
  if (s.m < 2 || s.n < 4) return g.noise(drawn.m, drawn.n);
  const Index columns = std::min<Index>(g.pick<Index>({1, 8, 8, 16}), (s.n - 1) / 2);
  Small start = known_start(s.n, columns, 0);
  const double kind = g.uniform();
  if (kind < 0.2) start = Small::Ones(s.n, 1);
  if (kind > 0.8) start = Small::Identity(s.n, columns);
  const Small hidden = orthogonal_to(g, start, 1 + g.power_of_ten(-2, g.pick({1, 3})));
  const Index rank = std::min({g.integer(1, 12), s.m - 1, s.n});
  const double decay = g.uniform(0.2, 1);
  Small rest = rotated(g, {s.m - 1, s.n, s.k}, spectrum(rank, [&](double i) { return std::pow(decay, i); }));
  rest -= (rest * hidden) * hidden.transpose() / hidden.squaredNorm();
  if (g.chance(0.3)) rest += g.noise(s.m - 1, s.n, g.power_of_ten(-6, -2));
  Small a(s.m, s.n);
  a << rest, hidden.transpose();
  return transposed ? Small(a.transpose()) : a;
}

Shape draw_shape(Random& g) {
  Shape s;
  const auto log_uniform = [&](double low, double high) {
    return static_cast<Index>(low * std::pow(high / low, g.uniform()) + 0.5);
  };
  const double style = g.uniform();
  if (style < 0.5) {  // where the Krylov method is chosen
    s.m = g.integer(129, 400);
    s.n = g.integer(129, 400);
  } else if (style < 0.8) {
    s.m = log_uniform(2, 400);
    s.n = log_uniform(2, 400);
  } else if (style < 0.9) {
    s.m = g.integer(2, 8);
    s.n = g.integer(2, 8);
  } else {
    s.m = g.integer(1, 4);
    s.n = g.integer(200, 400);
    if (g.chance(0.5)) std::swap(s.m, s.n);
  }
  if (g.chance(0.2)) s.n = s.m;
  s.k = g.chance(0.5) ? g.integer(1, 10) : g.integer(1, 50);
  if (g.chance(0.7)) s.k = std::min(s.k, std::max<Index>(s.least() / 3, 1));
  return s;
}

/// To nearest, ties to even.
float to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U);
}

}  // namespace

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all{
      {"permutation", [](Random& g, const Shape& s) { return scattered(g, s, Spectrum(400, 1.0)); }},
      {"scattered clusters", [](Random& g, const Shape& s) { return scattered(g, s, clusters(g, s)); }},
      {"rotated clusters", [](Random& g, const Shape& s) { return rotated(g, s, clusters(g, s)); }},
      {"near ties", [](Random& g, const Shape& s) { return rotated(g, s, near_ties(g, s)); }},
      {"scattered near ties", [](Random& g, const Shape& s) { return scattered(g, s, near_ties(g, s)); }},
      {"hadamard", hadamard},
      {"identity blocks", identity_blocks},
      {"one above equals", one_above_equals},
      {"outlier", outlier},
      {"spike", spike},
      {"low rank", low_rank},
      {"low rank and dust", low_rank_and_dust},
      {"sparse ulps", sparse_ulps},
      {"noise", [](Random& g, const Shape& s) { return g.noise(s.m, s.n); }},
      {"planted in noise", planted_in_noise},
      {"power law", power_law},
      {"geometric", geometric},
      {"scaled blocks", scaled_blocks},
      {"repeated", repeated},
      {"hides from start", hides_from_start},
      {"graded", graded},
      {"lone entry", lone_entry},
      {"constant", constant},
      {"signs", signs},
      {"integers", integers},
  };
  return all;
}

std::string Recipe::text() const {
  constexpr std::string_view roundings[] = {"F32", "BF16", "difference of BF16"};
  return fmt::format("LOX_ADVERSARY_SEED={} LOX_ADVERSARY_ONLY={}: {}, {} x {}, k = {}, {}, 2^{}{}", seed,
                     number, kinds()[kind].name, shape.m, shape.n, shape.k,
                     roundings[static_cast<int>(rounding)], exponent, wide ? ", wide" : "");
}

Recipe recipe_of(std::uint64_t seed, std::uint64_t number) {
  Random g(seed, 2 * number);
  Recipe r{seed, number, static_cast<std::size_t>(number % kinds().size()), draw_shape(g)};
  r.rounding = g.pick({Rounding::single, Rounding::single, Rounding::bf16, Rounding::difference});
  if (kinds()[r.kind].name == "hides from start") r.rounding = Rounding::single;
  if (g.chance(0.3)) r.exponent = static_cast<int>(g.integer(-38, 30));
  r.wide = can_be_wide && g.chance(0.3);
  return r;
}

RowMajorMatrix matrix_of(const Recipe& r) {
  Random g(r.seed, 2 * r.number + 1);
  const Small exact = kinds()[r.kind].make(g, r.shape);
  RowMajorMatrix a = exact.cast<float>();
  if (r.rounding == Rounding::bf16) a = a.unaryExpr(&to_bf16);
  if (r.rounding == Rounding::difference) {
    // Steps of a BF16 near 1 are 2^-7: most of what is smaller than half of that is lost.
    const double scale = g.power_of_ten(-2, 0.5) / std::max(exact.cwiseAbs().maxCoeff(), 1e-30);
    for (Index i = 0; i < a.size(); ++i) {
      const float weight = to_bf16(static_cast<float>(g.normal()));
      a.data()[i] = to_bf16(weight + static_cast<float>(scale) * a.data()[i]) - weight;
    }
  }
  return a * std::ldexp(1.0F, r.exponent);
}

}  // namespace lox::adversary
