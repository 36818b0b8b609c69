// SPDX-License-Identifier: MIT
#include "lox/task/reference_factors.hpp"

#include "lox/base/buffer.hpp"
#include "lox/task/reference_svd.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

/// Of the larger singular values, what storing vectors in float adds to the residual of a triplet.
constexpr double float_share = 0x1p-22;

double off_orthonormal(const Small& vectors) {
  const Small gram = vectors.transpose() * vectors;
  return (gram - Small::Identity(gram.rows(), gram.cols())).cwiseAbs().maxCoeff();
}

/// A difference is rounded once; a sum of products has its order, too.
bool is_delta(const RowMajorMatrix& stored, const RowMajorMatrix& delta, bool exact) {
  if (exact) return stored == delta;
  return (stored - delta).cwiseAbs().maxCoeff() <= 0x1p-22F * delta.cwiseAbs().maxCoeff();
}

}  // namespace

FactorsOfStore::FactorsOfStore(const Checkpoint& store)
    : store_(store), storage_(store, FileStorage::Access::read), table_(store) {}

bool FactorsOfStore::has(const std::string& tensor) const {
  return table_.find(tensor).front() >= 0;
}

RowMajorDoubles FactorsOfStore::part(const std::string& name, std::int64_t number, Index rows, Index cols) {
  const auto tensor = std::ranges::find(store_.tensors, name, &TensorInfo::name);
  RowMajorDoubles values(rows, cols);
  const auto count = static_cast<std::size_t>(values.size());
  Buffer stored(count * element_bytes(tensor->dtype));
  storage_.read(*tensor, static_cast<std::uint64_t>(number) * stored.size(), stored.bytes());
  to_double(tensor->dtype, stored.data(), count, values.data());
  return values;
}

StoredFactors FactorsOfStore::read(const std::string& tensor, std::int64_t number, Index m, Index n) {
  const FactorIndices indices = table_.find(tensor);
  const Index k = store_.tensors[static_cast<std::size_t>(indices.front())].shape.back();
  const auto both = [&](const char* name, Index rows) -> Small {
    const std::string plain = tensor + "." + name;
    Small values = part(plain, number, rows, k);
    const bool has_low = indices[static_cast<std::size_t>(FactorPart::u_low)] >= 0;
    if (has_low) values += part(plain + "_low", number, rows, k);
    return values;
  };
  StoredFactors factors{both("u", m), both("s", 1).transpose(), both("v", n), {}};
  if (indices[static_cast<std::size_t>(FactorPart::delta)] >= 0) {
    factors.delta = part(tensor + ".delta", number, m, n).cast<float>();
  }
  return factors;
}

std::string judge_factors(const RowMajorMatrix& delta, const StoredFactors& factors, double tolerance,
                          bool exact) {
  if (!factors.u.allFinite() || !factors.v.allFinite() || !factors.sigma.allFinite())
    return "holds NaN or Inf";
  if (factors.delta.size() > 0 && !is_delta(factors.delta, delta, exact)) return "holds another Delta";
  const Index least = std::min(delta.rows(), delta.cols());
  const Index wanted = std::min(factors.sigma.size(), least);
  const Eigen::VectorXd& sigma = factors.sigma;
  if ((sigma.tail(sigma.size() - wanted).array() != 0).any()) {
    return "has triplets that are not zero beyond the smaller side";
  }
  const ReferenceSvd right = reference_svd(RowMajorView(delta.data(), delta.rows(), delta.cols()), wanted,
                                           [](const Eigen::VectorXd&) { return Index{1}; });
  const double largest = right.sigma.size() > 0 ? right.sigma[0] : 0;
  Index count = 0;
  while (count < wanted && sigma[count] > 0) ++count;
  for (Index i = 0; i < wanted; ++i) {
    const double slack = 2 * tolerance * right.sigma[i] + float_share * largest;
    if (std::abs(sigma[i] - right.sigma[i]) <= slack) continue;
    return fmt::format("singular value {} is {:.6g}, not {:.6g}", i + 1, sigma[i], right.sigma[i]);
  }
  if (count == 0) return "";
  const Small u = factors.u.leftCols(count);
  const Small v = factors.v.leftCols(count);
  const auto a = delta.cast<double>();
  const Small left = a * v - u * sigma.head(count).asDiagonal();
  const Small back = a.transpose() * u - v * sigma.head(count).asDiagonal();
  for (Index i = 0; i < count; ++i) {
    const double residual = std::max(left.col(i).norm(), back.col(i).norm());
    if (residual <= 1.01 * tolerance * sigma[i] + float_share * largest) continue;
    return fmt::format("triplet {} has a residual of {:.2e} of its singular value", i + 1,
                       residual / sigma[i]);
  }
  const double off = std::max(off_orthonormal(u), off_orthonormal(v));
  if (off > 1.01 * tolerance + float_share)
    return fmt::format("its vectors are {:.2e} from orthonormal", off);
  return "";
}

}  // namespace lox
