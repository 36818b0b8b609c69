// SPDX-License-Identifier: MIT
#include "lox/linalg/dist_svd.hpp"

#include "lox/base/random.hpp"
#include "lox/base/timer.hpp"
#include "lox/linalg/krylov.hpp"
#include "lox/linalg/thin_product.hpp"

#include <algorithm>
#include <cstring>

namespace lox {
namespace {

/// A (m x n), held as T = A^T (n x m) on the grid, as a Krylov operator. T's rows, and so right vectors, are
/// dealt over grid rows; T's columns, and so left vectors, over grid columns. Panels are repeated along the
/// other direction: a product is one local product and one sum along a grid row or column, and nothing is
/// ever transposed or broadcast.
class GridOperator {
 public:
  static constexpr bool one_pass = false;  // A x is known only after a sum over ranks
  GridOperator(const DistMatrix& transposed, GridTimes& times) : t_(transposed), times_(times) {}

  Index rows() const { return t_.cols(); }
  Index cols() const { return t_.rows(); }
  template <class P>
  void apply(const P& x, P& y) {
    product([&] { multiply(local(), x, y); });
    communicate([&] { sum_panel(t_.grid().col_comm(), y); });
  }
  template <class P>
  void apply_adjoint(const P& x, P& y) {
    product([&] { multiply_adjoint(local(), x, y); });
    communicate([&] { sum_panel(t_.grid().row_comm(), y); });
  }
  template <class P>
  void apply_both(const P& x, P& y, const P& u, P& z) {
    apply(x, y);
    apply_adjoint(u, z);
  }
  void sum(Side side, std::span<double> numbers) {
    communicate([&] {
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, numbers.data(), static_cast<int>(numbers.size()), MPI_DOUBLE,
                              MPI_SUM, side == Side::left ? t_.grid().row_comm() : t_.grid().col_comm()),
                "MPI_Allreduce");
    });
  }
  bool should_stop() {
    int urgency = stop_urgency();
    communicate([&] {
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, &urgency, 1, MPI_INT, MPI_MAX, t_.grid().row_comm()),
                "MPI_Allreduce");
      check_mpi(MPI_Allreduce(MPI_IN_PLACE, &urgency, 1, MPI_INT, MPI_MAX, t_.grid().col_comm()),
                "MPI_Allreduce");
    });
    return urgency >= 2;
  }
  Panel random_panel(Index columns, std::uint64_t key) const {
    Panel panel(t_.local_rows(), columns);
    for (Index j = 0; j < columns; ++j) {
      for (Index i = 0; i < panel.rows(); ++i) {
        panel(i, j) = gaussian_at(key, static_cast<std::uint64_t>(j * t_.rows() + t_.global_row(i)));
      }
    }
    return panel;
  }

  /// This process's rows of whole left or right vectors, and back (zero where other processes hold the rows;
  /// only one process of those that repeat a row fills it in).
  Small local_part(Side side, const Small& whole) const {
    Small part(side == Side::left ? t_.local_cols() : t_.local_rows(), whole.cols());
    for (Index i = 0; i < part.rows(); ++i) part.row(i) = whole.row(global(side, i));
    return part;
  }
  Small whole(Side side, const Small& part, Index columns) const {
    Small all = Small::Zero(side == Side::left ? rows() : cols(), columns);
    const ProcessGrid& grid = t_.grid();
    if (grid.is_active() && (side == Side::left ? grid.row() : grid.col()) == 0) {
      for (Index i = 0; i < part.rows(); ++i) all.row(global(side, i)) = part.row(i);
    }
    sum_panel(grid.comm().get(), all);
    return all;
  }

 private:
  /// This process's part of A: the bytes of its part of T, read by rows.
  RowMajorView local() const { return {t_.local().data(), t_.local_cols(), t_.local_rows()}; }
  Index global(Side side, Index local) const {
    return side == Side::left ? t_.global_col(local) : t_.global_row(local);
  }
  template <class Action>
  void timed(double& total, Action&& action) {
    const Timer start;
    action();
    total += start.seconds();
  }
  template <class Action>
  void product(Action&& action) {
    timed(times_.products, action);
  }
  template <class Action>
  void communicate(Action&& action) {
    timed(times_.communication, action);
  }
  const DistMatrix& t_;
  GridTimes& times_;
};

/// What rank 0 knows of the result, on all ranks: those outside the grid took no part in it.
struct Outcome {
  Certificate certificate;
  Missed missed;
  std::int64_t iterations = 0;
  std::int64_t rank = 0;
  std::int64_t settled = 1;
  std::int64_t good = 0;     ///< certified, and proved to be the largest
  std::int64_t stopped = 0;  ///< dropped on a signal
  double next = 0;           ///< s_k+1, where the exact method knows it
};

template <class T>
void share(const Comm& comm, std::vector<T>& all) {
  const auto* const bytes = reinterpret_cast<const char*>(all.data());
  const std::string text = comm.broadcast(std::string(bytes, bytes + all.size() * sizeof(T)));
  all.resize(text.size() / sizeof(T));
  if (!all.empty()) std::memcpy(all.data(), text.data(), text.size());
}

void share(const Comm& comm, Outcome& outcome, std::vector<double>& sigma) {
  outcome.rank = static_cast<std::int64_t>(sigma.size());
  std::vector<Outcome> one{outcome};
  share(comm, one);
  outcome = one.front();
  share(comm, sigma);
}

/// A matrix so small that each rank can hold it: rank 0 solves it alone. p?gesvd loses digits of such flat
/// matrices, and waits for ever on some.
bool is_small(const DistMatrix& t) {
  constexpr Index entries = Index{1} << 22;
  return t.rows() * t.cols() <= entries && std::min(t.rows(), t.cols()) <= 1024;
}

void broadcast(const Comm& comm, Small& panel) {
  std::string bytes;
  if (comm.is_root()) {
    bytes.assign(reinterpret_cast<const char*>(panel.data()),
                 static_cast<std::size_t>(panel.size()) * sizeof(double));
  }
  bytes = comm.broadcast(std::move(bytes));
  if (!bytes.empty()) std::memcpy(panel.data(), bytes.data(), bytes.size());
}

Factors exact_on_one(const DistMatrix& t, Index k, double* next) {
  const Comm& comm = t.grid().comm();
  const Panel whole = t.gather(t.cols(), false);
  Factors factors;
  if (comm.is_root()) factors = exact_svd(RowMajorView(whole.data(), t.cols(), t.rows()), k, next);
  Outcome outcome;
  if (next != nullptr) outcome.next = *next;
  share(comm, outcome, factors.sigma);
  if (next != nullptr) *next = outcome.next;
  factors.u.resize(t.cols(), outcome.rank);
  factors.v.resize(t.rows(), outcome.rank);
  broadcast(comm, factors.u);
  broadcast(comm, factors.v);
  return factors;
}

/// By p?gesvd of the transpose: T = u diag(sigma) vt, so that A's right vectors are u and its left ones vt^T.
Factors exact_on_grid(const DistMatrix& t, Index k, double* next) {
  const Index least = std::min(t.rows(), t.cols());
  DistMatrix copy(t.grid(), t.rows(), t.cols(), t.block());
  DistMatrix u(t.grid(), t.rows(), least, t.block());
  DistMatrix vt(t.grid(), least, t.cols(), t.block());
  std::vector<float> all;
  if (t.grid().is_active()) {
    std::copy_n(t.data(), t.local_rows() * t.local_cols(), copy.data());
    scalapack::gesvd(t.rows(), t.cols(), copy.data(), copy.descriptor(), all, u.data(), u.descriptor(),
                     vt.data(), vt.descriptor());
  }
  Factors factors;
  constexpr double noise =
      10 * arithmetic<float>.value;  // QR iteration in float leaves more of it than a product does
  for (const float sigma : all) {
    if (static_cast<Index>(factors.sigma.size()) == k || sigma == 0 || sigma <= noise * all.front()) break;
    factors.sigma.push_back(static_cast<double>(sigma));
  }
  Outcome outcome;
  const auto wanted = static_cast<std::size_t>(k);
  if (next != nullptr && factors.sigma.size() == wanted && all.size() > wanted) {
    outcome.next = static_cast<double>(all[wanted]);
  }
  share(t.grid().comm(), outcome, factors.sigma);
  if (next != nullptr) *next = outcome.next;
  factors.u = vt.gather(outcome.rank, true).cast<double>();
  factors.v = u.gather(outcome.rank, false).cast<double>();
  return factors;
}

}  // namespace

bool prefers_exact_on_grid(Index rows, Index cols) {
  return std::min(rows, cols) <= 128 && rows * cols <= Index{1} << 22;
}

SvdResult dist_svd(const DistMatrix& t, const SvdOptions& options, GridTimes* times,
                   const std::function<void()>& before_exact) {
  const Timer start;
  const Comm& comm = t.grid().comm();
  GridTimes mine;
  GridOperator op(t, mine);
  SvdResult result;
  Outcome outcome;
  if (options.method == Method::krylov && !prefers_exact_on_grid(op.rows(), op.cols())) {
    KrylovResult found;
    if (t.grid().is_active()) {
      try {
        found = krylov_svd(op, krylov_options(options));
        outcome = {found.certificate,     found.missed,           found.iterations, 0,
                   found.settled ? 1 : 0, found.converged ? 1 : 0};
        result.residuals = std::move(found.residuals);
        result.unsettled = std::move(found.unsettled);
      } catch (const Stopped&) {
        outcome.stopped = 1;
      }
    }
    share(comm, outcome, found.sigma);
    if (outcome.stopped != 0) throw Stopped();
    if (outcome.good != 0) {
      result.factors.u = op.whole(Side::left, found.u, outcome.rank);
      result.factors.v = op.whole(Side::right, found.v, outcome.rank);
      result.factors.sigma = std::move(found.sigma);
      share(comm, result.residuals);
      share(comm, result.unsettled);
    }
  }
  if (outcome.good == 0) {
    result.method = Method::exact;
    if (before_exact && !is_small(t)) before_exact();
    const bool every = options.every_k != EveryK::ignored;
    double next = 0;
    double* const asked = every ? &next : nullptr;
    result.factors = is_small(t) ? exact_on_one(t, options.k, asked) : exact_on_grid(t, options.k, asked);
    const std::int64_t iterations = outcome.iterations;
    outcome = {};
    if (t.grid().is_active()) {
      outcome.certificate =
          measure_certificate<double>(op, op.local_part(Side::left, result.factors.u), result.factors.sigma,
                                      op.local_part(Side::right, result.factors.v), &result.residuals);
    }
    outcome.iterations = iterations;
    share(comm, outcome, result.factors.sigma);
    share(comm, result.residuals);
    if (every) {
      result.unsettled =
          unsettled_by_residuals(result.factors.sigma, next, result.residuals, options.delta_error);
      outcome.settled = result.unsettled.empty() || result.unsettled.back().k != options.k ? 1 : 0;
    }
  }
  result.certificate = outcome.certificate;
  result.missed = outcome.missed;
  result.settled = outcome.settled != 0;
  result.iterations = static_cast<int>(outcome.iterations);
  mine.total = start.seconds();
  if (times != nullptr) *times = mine;
  return result;
}

}  // namespace lox
