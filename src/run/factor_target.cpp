// SPDX-License-Identifier: MIT
#include "lox/run/factor_target.hpp"

#include "lox/base/error.hpp"

#include <array>
#include <cstring>

namespace lox {
namespace {

enum class Half { high, low };

/// The columns as rows of k entries of a dtype: what float holds of them, or what it rounds away.
Buffer rows_of(const Small& columns, Index k, Half half, DType dtype) {
  RowMajorDoubles rows = RowMajorDoubles::Zero(columns.rows(), k);
  auto filled = rows.leftCols(columns.cols());
  filled = columns.cast<float>().cast<double>();
  if (half == Half::low) filled = (columns - filled).eval();
  const auto count = static_cast<std::size_t>(rows.size());
  Buffer buffer(count * element_bytes(dtype));
  from_double(dtype, rows.data(), count, buffer.data());
  return buffer;
}

}  // namespace

bool FactorTarget::wants_delta(const std::string& tensor) const {
  return table_.find(tensor)[static_cast<std::size_t>(FactorPart::delta)] >= 0;
}

std::vector<Buffer> FactorTarget::parts(const std::string& tensor, const Solved& solved,
                                        std::span<const float> delta) const {
  const Factors& f = solved.factors;
  const Small sigma =
      Eigen::Map<const Eigen::RowVectorXd>(f.sigma.data(), static_cast<Index>(f.sigma.size()));
  const FactorIndices indices = table_.find(tensor);
  const std::array<const Small*, 3> sides{&f.u, &sigma, &f.v};
  std::vector<Buffer> parts(factor_parts);
  for (std::size_t part = 0; part < factor_parts; ++part) {
    if (indices[part] < 0) continue;
    if (static_cast<FactorPart>(part) == FactorPart::delta) {
      parts[part] = Buffer(delta.size_bytes());
      std::memcpy(parts[part].data(), delta.data(), delta.size_bytes());
    } else {
      parts[part] = rows_of(*sides[part % sides.size()], k_, part < sides.size() ? Half::high : Half::low,
                            factor_dtype(static_cast<FactorPart>(part)));
    }
  }
  return parts;
}

void FactorTarget::write(const std::string& tensor, std::int64_t matrix, const std::vector<Buffer>& parts,
                         Record& record) {
  const FactorIndices indices = table_.find(tensor);
  for (std::size_t part = 0; part < factor_parts; ++part) {
    if (indices[part] < 0) continue;
    const std::uint64_t first = static_cast<std::uint64_t>(matrix) * parts[part].size();
    writer_.put(indices[part], first, first + parts[part].size(), first, parts[part].bytes(), record);
  }
}

}  // namespace lox
