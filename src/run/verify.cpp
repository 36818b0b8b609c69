// SPDX-License-Identifier: MIT
#include "lox/run/verify.hpp"

#include "lox/base/buffer.hpp"
#include "lox/base/error.hpp"
#include "lox/base/random.hpp"
#include "lox/linalg/svd.hpp"
#include "lox/plan/plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

namespace lox {
namespace {

/// How far an output is from what it should be.
struct Distance {
  double identical = 1;     ///< share of entries
  double worst = 0;         ///< largest |difference| over what is allowed for its entry
  bool unique = true;       ///< is Delta_k determined? not if s_k = s_k+1
  double energy_error = 0;  ///< of <W_out - W_aligned, Delta>, relative
};

constexpr double identical_wanted = 0.998;  // of the entries of a 16-bit tensor

class Verifier {
 public:
  Verifier(const Job& job, const Checkpoint& base, const Checkpoint& aligned, const Checkpoint& hardened)
      : job_(job),
        base_(base, Storage::Access::read),
        aligned_(aligned, Storage::Access::read),
        hardened_(hardened, Storage::Access::read) {}

  /// Index of the first byte that differs, or nothing.
  std::optional<std::uint64_t> first_difference(const TensorInfo& aligned, const TensorInfo& hardened) {
    constexpr std::uint64_t at_once = std::uint64_t{32} << 20;
    const std::uint64_t all = aligned.extent.bytes;
    Buffer ours(std::min(at_once, all));
    Buffer theirs(std::min(at_once, all));
    for (std::uint64_t first = 0; first < all; first += at_once) {
      const std::size_t count = std::min(at_once, all - first);
      aligned_.read(aligned, first, ours.bytes().first(count));
      hardened_.read(hardened, first, theirs.bytes().first(count));
      if (std::memcmp(ours.data(), theirs.data(), count) == 0) continue;
      const auto differs = std::mismatch(ours.data(), ours.data() + count, theirs.data());
      return first + static_cast<std::uint64_t>(differs.first - ours.data());
    }
    return std::nullopt;
  }

  Distance compare(const WorkItem& item, const TensorInfo& base, const TensorInfo& aligned,
                   const TensorInfo& hardened);

 private:
  Buffer read(Storage& storage, const TensorInfo& tensor, const WorkItem& item) {
    Buffer bytes(static_cast<std::size_t>(item.rows * item.cols * dtype_bits(tensor.dtype) / 8));
    storage.read(tensor, static_cast<std::uint64_t>(item.matrix) * bytes.size(), bytes.bytes());
    return bytes;
  }
  const Job& job_;
  Storage base_;
  Storage aligned_;
  Storage hardened_;
};

Distance Verifier::compare(const WorkItem& item, const TensorInfo& base, const TensorInfo& aligned,
                           const TensorInfo& hardened) {
  using RowsInDouble = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Buffer aligned_bytes = read(aligned_, aligned, item);
  const Buffer hardened_bytes = read(hardened_, hardened, item);
  RowMajorMatrix delta(item.rows, item.cols);
  const auto row_of = [&](const Buffer& bytes, DType dtype, Index row, double* to) {
    const auto width = static_cast<std::size_t>(dtype_bits(dtype)) / 8;
    to_double(dtype, bytes.data() + static_cast<std::size_t>(row * item.cols) * width,
              static_cast<std::size_t>(item.cols), to);
  };
  Eigen::RowVectorXd a(item.cols);
  Eigen::RowVectorXd b(item.cols);
  {
    const Buffer base_bytes = read(base_, base, item);
    for (Index row = 0; row < item.rows; ++row) {
      row_of(aligned_bytes, aligned.dtype, row, a.data());
      row_of(base_bytes, base.dtype, row, b.data());
      delta.row(row) = (a - b).cast<float>();
    }
  }
  const RowMajorView view(delta.data(), delta.rows(), delta.cols());
  const Index least = std::min(item.rows, item.cols);
  const bool full = job_.k == 0 || job_.k >= least;
  Factors factors;
  Distance distance;
  if (!full && !delta.isZero(0)) {
    factors = exact_svd(view, job_.k + 1);
    const auto found = static_cast<Index>(factors.sigma.size());
    if (found > job_.k) {
      const auto k = static_cast<std::size_t>(job_.k);
      distance.unique = factors.sigma[k - 1] - factors.sigma[k] > 1e-4 * factors.sigma[0];
    }
    factors.v.conservativeResize(Eigen::NoChange, std::min<Index>(found, job_.k));
  }
  // The edit as Delta V V^T: no left vectors, no singular values, and all in double.
  const Small v = factors.v.cast<double>();
  RowsInDouble edit(1, item.cols);
  std::int64_t identical = 0;
  double edit_squared = 0;
  double expected_energy = 0;
  double found_energy = 0;
  std::vector<double> differences;
  std::vector<std::byte> rounded(static_cast<std::size_t>(item.cols * dtype_bits(hardened.dtype) / 8));
  Eigen::RowVectorXd expected(item.cols);
  double worst_in_ulps = 0;  // where more than one
  double worst_difference = 0;
  for (Index row = 0; row < item.rows; ++row) {
    const Eigen::RowVectorXd d = delta.row(row).cast<double>();
    if (full) {
      edit = job_.coef * d;
    } else if (v.size() > 0) {
      edit = job_.coef * ((d * v) * v.transpose());
    } else {
      edit.setZero();
    }
    row_of(aligned_bytes, aligned.dtype, row, a.data());
    expected = a + edit;
    from_double(hardened.dtype, expected.data(), static_cast<std::size_t>(item.cols), rounded.data());
    to_double(hardened.dtype, rounded.data(), static_cast<std::size_t>(item.cols), expected.data());
    row_of(hardened_bytes, hardened.dtype, row, b.data());
    edit_squared += edit.squaredNorm();
    expected_energy += (expected - a).dot(d);
    found_energy += (b - a).dot(d);
    for (Index i = 0; i < item.cols; ++i) {
      const double difference = std::abs(b[i] - expected[i]);
      if (difference == 0) {
        ++identical;
        continue;
      }
      const double ulps = difference / ulp(hardened.dtype, std::max(std::abs(b[i]), std::abs(expected[i])));
      if (ulps > 1 + 1e-9 || !(difference < 1e300)) {
        worst_in_ulps = std::max(worst_in_ulps, std::isfinite(ulps) ? ulps : 1e300);
        worst_difference = std::max(worst_difference, std::isfinite(difference) ? difference : 1e300);
      }
    }
  }
  const double entries = static_cast<double>(item.rows) * static_cast<double>(item.cols);
  const double rms = std::sqrt(edit_squared / entries);
  distance.identical = static_cast<double>(identical) / entries;
  if (worst_in_ulps > 0) distance.worst = rms > 0 ? worst_difference / (1e-3 * rms) : worst_in_ulps;
  if (expected_energy != 0) distance.energy_error = std::abs(found_energy / expected_energy - 1);
  return distance;
}

/// Which matrices to check: `sample` of them, spread by a hash of their names.
std::vector<const WorkItem*> choose(const Plan& plan, const Checkpoint& aligned, std::int64_t sample) {
  std::vector<std::pair<std::uint64_t, const WorkItem*>> order;
  for (const WorkItem& item : plan.items) {
    if (item.action == Action::copy) continue;
    const std::string& name = aligned.tensors[static_cast<std::size_t>(item.tensor)].name;
    order.emplace_back(stream_key(static_cast<std::uint64_t>(item.matrix), name), &item);
  }
  std::sort(order.begin(), order.end());
  if (sample > 0 && static_cast<std::size_t>(sample) < order.size())
    order.resize(static_cast<std::size_t>(sample));
  std::vector<const WorkItem*> chosen;
  for (const auto& [hash, item] : order) chosen.push_back(item);
  return chosen;
}

std::string judge(const Distance& d, DType dtype, bool full) {
  if (!d.unique) {
    return d.energy_error <= 1e-3 ? "" : fmt::format("its part along Delta is off by {:.1e}", d.energy_error);
  }
  if (d.worst > 1) return fmt::format("an entry is off by {:.2g} times what rounding allows", d.worst);
  if (dtype_bits(dtype) == 16 && !full && d.identical < identical_wanted) {
    return fmt::format("only {:.3f}% of the entries are as expected", 100 * d.identical);
  }
  return "";
}

}  // namespace

ExitCode verify(const Comm& comm, const Job& job, std::int64_t sample, const Log& log) {
  Checkpoint base;
  Checkpoint aligned;
  Checkpoint hardened;
  on_root(comm, [&] {
    base = open_checkpoint(job.base);
    aligned = open_checkpoint(job.aligned);
    hardened = open_checkpoint(job.output);
    make_plan(base, aligned, job, {});
    make_plan(aligned, hardened, job, {});  // names, shapes and dtypes of the result
  });
  for (Checkpoint* table : {&base, &aligned, &hardened}) broadcast(comm, *table);
  const Plan plan = make_plan(base, aligned, job, {});
  std::map<std::string, const TensorInfo*> result;
  for (const TensorInfo& tensor : hardened.tensors) result.emplace(tensor.name, &tensor);

  Verifier verifier(job, base, aligned, hardened);
  std::string failures;
  double identical = 1;
  std::int64_t checked = 0;
  std::int64_t copied = 0;
  const std::vector<const WorkItem*> chosen = choose(plan, aligned, sample);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (static_cast<int>(i % static_cast<std::size_t>(comm.size())) != comm.rank()) continue;
    const WorkItem& item = *chosen[i];
    const auto t = static_cast<std::size_t>(item.tensor);
    const TensorInfo& tensor = aligned.tensors[t];
    const Distance d = verifier.compare(item, base.tensors[static_cast<std::size_t>(plan.base_of[t])], tensor,
                                        *result.at(tensor.name));
    const bool full = job.k == 0 || job.k >= std::min(item.rows, item.cols);
    const std::string complaint = judge(d, tensor.dtype, full);
    if (!complaint.empty()) {
      failures += fmt::format("tensor '{}' matrix {}: {}\n", printable(tensor.name), item.matrix, complaint);
    }
    if (d.unique) identical = std::min(identical, d.identical);
    ++checked;
  }
  std::size_t turn = 0;
  for (const WorkItem& item : plan.items) {
    if (item.action != Action::copy) continue;
    if (static_cast<int>(turn++ % static_cast<std::size_t>(comm.size())) != comm.rank()) continue;
    const TensorInfo& tensor = aligned.tensors[static_cast<std::size_t>(item.tensor)];
    const auto differs = verifier.first_difference(tensor, *result.at(tensor.name));
    if (differs)
      failures += fmt::format("tensor '{}': byte {} is not that of the aligned model\n",
                              printable(tensor.name), *differs);
    ++copied;
  }

  std::string all;
  for (const std::string& text : comm.gather(failures)) all += text;
  checked = comm.sum(checked);
  copied = comm.sum(copied);
  identical = -comm.max(-identical);
  all = comm.broadcast(all);
  if (comm.is_root()) {
    fmt::print("{}", all);
    log.info("{} of {} edited matrices against an exact SVD: at least {:.4f}% of the entries identical",
             checked,
             std::count_if(plan.items.begin(), plan.items.end(),
                           [](const WorkItem& i) { return i.action == Action::edit; }),
             100 * identical);
    log.info("{} copied tensors byte by byte", copied);
    log.info("{}", all.empty() ? "verified" : "NOT what it should be");
  }
  return all.empty() ? ExitCode::done : ExitCode::not_certified;
}

}  // namespace lox
