// SPDX-License-Identifier: MIT
#include "lox/report/csv.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <cmath>

namespace lox {
namespace {

constexpr std::string_view head =
    "file,name,matrix,shape,dtype,action,method,where,k,certificate,orthogonality,missed_epsilon,"
    "missed_probability,settled,iterations,delta_norm,energy,edit_norm,realised,changed,read_seconds,"
    "svd_seconds,write_seconds";

/// A text as a field, quoted where it must be.
std::string field(const std::string& text) {
  std::string safe = printable(text, SIZE_MAX);
  if (safe.find_first_of(",\"") == std::string::npos) return safe;
  std::string quoted = "\"";
  for (const char c : safe) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

/// From `method` to `changed`.
std::string fields_of(const Measures& m) {
  const Spectrum& s = m.spectrum;
  const std::string missed = std::isfinite(s.missed.epsilon)
                                 ? fmt::format("{},{}", s.missed.epsilon, s.missed.probability)
                                 : std::string(",");
  return fmt::format(",{},{},{},{},{},{},{},{},{},{},{},{},{}", method_name(s.method), where_name(s.where),
                     s.k, s.certificate.residual, s.certificate.orthogonality, missed, s.settled,
                     s.iterations, s.delta_norm, m.energy, m.edit.norm, m.realised, m.changed);
}

std::string sigma_fields(const std::vector<double>& sigma, std::size_t all) {
  std::string text;
  for (std::size_t i = 0; i < all; ++i) text += i < sigma.size() ? fmt::format(",{}", sigma[i]) : ",";
  return text + "\n";
}

std::size_t most_sigma(std::span<const NamedReport> reports) {
  std::size_t most = 0;
  for (const NamedReport& one : reports) {
    for (const TensorEntry& tensor : one.report.tensors) {
      most = std::max(most, tensor.measures.spectrum.sigma.size());
      for (const MatrixEntry& matrix : tensor.batch)
        most = std::max(most, matrix.measures.spectrum.sigma.size());
    }
  }
  return most;
}

}  // namespace

std::string reports_csv(std::span<const NamedReport> reports) {
  const std::size_t most = most_sigma(reports);
  std::string text(head);
  for (std::size_t i = 1; i <= most; ++i) text += fmt::format(",s_{}", i);
  text += '\n';
  for (const NamedReport& one : reports) {
    const std::string file = field(one.file);
    for (const TensorEntry& tensor : one.report.tensors) {
      const std::string name = field(tensor.name);
      const std::string kind = fmt::format("{},{}", fmt::join(tensor.shape, "x"), tensor.dtype);
      const auto add = [&](const std::string& matrix, Action action, bool unchanged, const Measures& m) {
        const std::string copied = unchanged ? ",,,,,,,,,,0,,,," : ",,,,,,,,,,,,,,";
        text += fmt::format("{},{},{},{},{}{}", file, name, matrix, kind, action_name(action),
                            action == Action::copy ? copied : fields_of(m));
      };
      const Timing& time = tensor.timing;
      add("", tensor.action, tensor.unchanged, tensor.measures);
      text += fmt::format(",{},{},{}", time.read, time.svd, time.write);
      text += sigma_fields(tensor.measures.spectrum.sigma, most);
      for (std::size_t i = 0; i < tensor.batch.size(); ++i) {
        const MatrixEntry& matrix = tensor.batch[i];
        add(std::to_string(i), matrix.action, true, matrix.measures);
        text += ",,," + sigma_fields(matrix.measures.spectrum.sigma, most);
      }
    }
  }
  return text;
}

}  // namespace lox
