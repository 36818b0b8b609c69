// SPDX-License-Identifier: MIT
#include "lox/report/text.hpp"

#include "lox/base/error.hpp"
#include "lox/base/units.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string_view>

namespace lox {
namespace {

/// Tensors of one kind in all layers: the layer's number in the name becomes a star.
std::string kind_of(const std::string& name) {
  std::string kind;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool digit = name[i] >= '0' && name[i] <= '9';
    const bool starts = i == 0 || name[i - 1] == '.';
    if (digit && (starts || kind.ends_with('*'))) {
      if (!kind.ends_with('*')) kind += '*';
    } else {
      kind += name[i];
    }
  }
  return kind;
}

/// What a row tells: of one tensor, or of all of a kind.
struct Row {
  std::string name;
  std::string second;  ///< of one tensor its shape, else how many there are
  std::string methods;
  std::int64_t count = 0;
  double relative = 0;  ///< sums, of what is shown as a mean
  double energy = 0;
  double realised = 0;
  double changed = 0;
  double noise = 0;
  double certificate = 0;     ///< worst
  double missed = 0;          ///< worst
  std::vector<double> sigma;  ///< sums, by index
  std::vector<double> with;   ///< how many matrices have that many
  bool copied = false;

  void add(const TensorEntry& tensor) {
    ++count;
    copied = tensor.action == Action::copy;
    const Measures& m = tensor.measures;
    const std::string method =
        copied ? "copied"
               : fmt::format("{}/{}", method_name(m.spectrum.method), where_name(m.spectrum.where));
    if (methods.find(method) == std::string::npos) methods += (methods.empty() ? "" : " ") + method;
    relative += m.edit.norm / std::max(m.spectrum.delta_norm, 1e-300);
    energy += m.energy;
    realised += m.realised;
    changed += m.changed;
    noise += m.spectrum.quantisation_noise.value_or(0) / std::max(m.spectrum.delta_norm, 1e-300);
    certificate = std::max(certificate, m.spectrum.certificate.residual);
    missed = std::max(missed, m.spectrum.missed.epsilon);
    add_sigma(m.spectrum.sigma);
    for (const MatrixEntry& matrix : tensor.batch) add_sigma(matrix.measures.spectrum.sigma);
  }

 private:
  void add_sigma(const std::vector<double>& one) {
    sigma.resize(std::max(sigma.size(), one.size()));
    with.resize(sigma.size());
    for (std::size_t i = 0; i < one.size(); ++i) {
      sigma[i] += one[i];
      ++with[i];
    }
  }
};

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return shape.empty() ? "scalar" : fmt::format("{}", fmt::join(shape, "x"));
}

/// Singular values, of many the first ones and the last one.
std::string sigma_text(const Row& row) {
  constexpr std::size_t few = 6;
  const std::size_t all = row.sigma.size();
  std::string text;
  for (std::size_t i = 0; i < all; ++i) {
    if (all > few && i + 1 < all && i + 2 >= few) {
      if (i + 2 == few) text += " ..";
      continue;
    }
    text += fmt::format("{}{:.3g}", text.empty() ? "" : " ", row.sigma[i] / row.with[i]);
  }
  return text.empty() ? "-" : text;
}

/// Rows in the order of the model. What is copied has a row for all of it, at the end, unless each tensor has
/// its own.
std::vector<Row> rows_of(const Report& report, Rows wanted) {
  std::vector<Row> rows;
  std::map<std::string, std::size_t> known;
  Row copied;
  copied.name = "(copied)";
  for (const TensorEntry& tensor : report.tensors) {
    if (wanted == Rows::kinds && tensor.action == Action::copy) {
      copied.add(tensor);
      continue;
    }
    std::string name = wanted == Rows::kinds ? kind_of(tensor.name) : tensor.name;
    const auto [at, is_new] = known.try_emplace(name, rows.size());
    if (is_new) rows.emplace_back().name = printable(name);
    rows[at->second].add(tensor);
    rows[at->second].second = shape_text(tensor.shape);
  }
  if (copied.count > 0) rows.push_back(std::move(copied));
  if (wanted == Rows::kinds) {
    for (Row& row : rows) row.second = std::to_string(row.count);
  }
  return rows;
}

/// Above what nothing is missing, in units of s_k.
std::string bound_text(double epsilon) {
  if (std::isinf(epsilon)) return "?";
  return epsilon > 0 ? fmt::format("{:.2f} s_k", 1 + epsilon) : "-";
}

/// A column of the table, right-aligned, and its line below.
struct Column {
  std::string_view name;
  std::string_view legend;
  bool of_edits = false;      ///< a store of factors has none
  bool of_quantised = false;  ///< shown where a model is quantised
  std::string (*text)(const Row& row, double count);
  std::size_t width() const { return std::max<std::size_t>(name.size(), 7); }
};

constexpr std::array<Column, 7> columns{{
    {"energy", "share of |delta|^2 in its top k singular values", false, false,
     [](const Row& row, double n) { return fmt::format("{:.1f}%", 100 * row.energy / n); }},
    {"edit/delta", "size of the edit against the whole delta", true, false,
     [](const Row& row, double n) { return fmt::format("{:.2f}", row.relative / n); }},
    {"realised", "share of the edit that survives rounding to the dtype", true, false,
     [](const Row& row, double n) { return fmt::format("{:.1f}%", 100 * row.realised / n); }},
    {"changed", "share of entries that differ from the aligned model", true, false,
     [](const Row& row, double n) { return fmt::format("{:.1f}%", 100 * row.changed / n); }},
    {"fp8 noise", "estimated share of |delta| that is rounding of FP8 weights", false, true,
     [](const Row& row, double n) { return fmt::format("{:.1f}%", 100 * row.noise / n); }},
    {"certificate", "worst residual of the singular triplets, each relative to its singular value", false,
     false, [](const Row& row, double) { return fmt::format("{:.1e}", row.certificate); }},
    {"missed", "no singular value above this is missing among the k, but for a probability of 1e-9 a matrix",
     false, false, [](const Row& row, double) { return bound_text(row.missed); }},
}};

std::string bytes_text(std::uint64_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

}  // namespace

std::string report_table(const Report& report, Rows wanted) {
  const std::vector<Row> rows = rows_of(report, wanted);
  const std::string_view second = wanted == Rows::kinds ? "count" : "shape";
  std::size_t name_width = 6;
  std::size_t second_width = second.size();
  std::size_t method_width = 6;
  for (const Row& row : rows) {
    name_width = std::max(name_width, row.name.size());
    second_width = std::max(second_width, row.second.size());
    method_width = std::max(method_width, row.methods.size());
  }
  const bool factors = report.factored > 0;
  const bool quantised = std::ranges::any_of(report.tensors, [](const TensorEntry& tensor) {
    return tensor.measures.spectrum.quantisation_noise.has_value();
  });
  std::string text = fmt::format("{:{}}  {:>{}}", "tensor", name_width, second, second_width);
  std::string legend;
  std::vector<const Column*> shown;
  for (const Column& column : columns) {
    if ((factors && column.of_edits) || (!quantised && column.of_quantised)) continue;
    shown.push_back(&column);
    text += fmt::format("  {:>{}}", column.name, column.width());
    legend += fmt::format("\n{:11} {}", column.name, column.legend);
  }
  text += fmt::format("  {:{}}  s_1 .. s_k\n", "method", method_width);
  legend +=
      fmt::format("\n{:11} {}", "s_1 .. s_k",
                  wanted == Rows::kinds ? "the singular values of delta, each the mean over the row"
                                        : "the singular values of delta; of a batch of matrices their means");
  for (const Row& row : rows) {
    text += fmt::format("{:{}}  {:>{}}", row.name, name_width, row.second, second_width);
    for (const Column* column : shown) {
      text += fmt::format("  {:>{}}", row.copied ? "-" : column->text(row, static_cast<double>(row.count)),
                          column->width());
    }
    text += fmt::format("  {:{}}  {}\n", row.methods, method_width, sigma_text(row));
  }
  const std::string coef = factors ? "" : ", coef = " + report.job.at("coef").dump();
  text += fmt::format(
      "\nk = {}{}: {} {}, {} copied, {} in {} on {}, peak memory of a rank {}\n", report.job.at("k").dump(),
      coef, count_of(factors ? report.factored : report.edited, "tensor"), factors ? "factored" : "edited",
      report.copied, bytes_text(report.bytes_written), format_seconds(report.run.seconds),
      count_of(report.run.ranks, "rank"), bytes_text(report.run.peak_rss_bytes));
  return text + legend + "\n";
}

void log_efficiency(const Log& log, const Report& report, std::uint64_t memory) {
  const WorkTimes& work = report.run.work;
  const double all = std::max(report.run.seconds * report.run.ranks, 1e-9);
  const auto share = [&](double seconds) { return 100 * seconds / all; };
  const auto bytes = static_cast<double>(report.bytes_read + report.bytes_written);
  log.info(
      "ranks: {:.0f}% solving, {:.0f}% waiting for files, {:.0f}% idle at the end; beside it {:.0f}% "
      "reading, {:.0f}% "
      "writing; {}/s moved",
      share(work.solving), share(work.waiting), share(work.idle), share(work.reading), share(work.writing),
      format_bytes(bytes / std::max(report.run.seconds, 1e-9)));
  log.info("peak memory of a rank {} of {} ({:.0f}%)", bytes_text(report.run.peak_rss_bytes),
           bytes_text(memory),
           100 * static_cast<double>(report.run.peak_rss_bytes) / std::max(1.0, static_cast<double>(memory)));
}

void log_summary(const Log& log, const Report& report) {
  double worst = 0;
  double realised = 0;
  double edit = 0;
  double epsilon = 0;
  double probability = 0;
  std::int64_t unsettled = 0;
  for (const TensorEntry& tensor : report.tensors) {
    if (tensor.action == Action::copy) continue;
    const Spectrum& spectrum = tensor.measures.spectrum;
    worst = std::max(worst, spectrum.certificate.residual);
    epsilon = std::max(epsilon, spectrum.missed.epsilon);
    probability += spectrum.missed.probability;
    unsettled += spectrum.settled ? 0 : 1;
    const double squared = tensor.measures.edit.norm * tensor.measures.edit.norm;
    realised += tensor.measures.realised * squared;
    edit += squared;
  }
  if (report.factored > 0) {
    log.info("factored {} ({} read, {} written), worst certificate {:.1e}",
             count_of(report.factored, "tensor"), bytes_text(report.bytes_read),
             bytes_text(report.bytes_written), worst);
  } else {
    log.info("hardened {}, copied {} ({} read, {} written)", count_of(report.edited, "tensor"), report.copied,
             bytes_text(report.bytes_read), bytes_text(report.bytes_written));
    log.info("worst certificate {:.1e}, {:.1f}% of the edit survives rounding", worst,
             edit > 0 ? 100 * realised / edit : 0.0);
  }
  const std::string seed = report.job.at("seed").dump();
  if (probability > 0) {
    log.info(
        "no singular value above {:.2f} s_k is missing in any matrix, but for a probability of {:.0e}; seed "
        "{}",
        1 + epsilon, probability, seed);
  } else {
    log.info("the k largest singular values of every matrix are found for certain; seed {}", seed);
  }
  if (unsettled > 0) {
    log.info("{} tensors have s_k = s_k+1 as far as arithmetic tells: the last digits of their edit are open",
             unsettled);
  }
}

}  // namespace lox
