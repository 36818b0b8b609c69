// SPDX-License-Identifier: MIT
#include "lox/base/units.hpp"
#include "lox/cli/options.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace po = boost::program_options;

namespace lox {
namespace {

using nlohmann::json;

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

struct Kind {
  std::int64_t count = 0;
  double relative = 0;  ///< sums, of what is shown as a mean
  double energy = 0;
  double realised = 0;
  double changed = 0;
  double certificate = 0;  ///< worst
  double missed = 0;       ///< worst
  std::string methods;
};

/// Above what nothing is missing, in units of s_k.
std::string bound_text(double epsilon) {
  if (std::isinf(epsilon)) return "?";
  return epsilon > 0 ? fmt::format("{:.2f} s_k", 1 + epsilon) : "-";
}

void print_report(const json& report) {
  std::vector<std::string> order;
  std::map<std::string, Kind> kinds;
  for (const json& tensor : report.at("tensors")) {
    if (tensor.at("action") != "edited") continue;
    const std::string name = kind_of(tensor.at("name").get<std::string>());
    if (!kinds.contains(name)) order.push_back(name);
    Kind& kind = kinds[name];
    ++kind.count;
    kind.relative +=
        tensor.at("edit_norm").get<double>() / std::max(tensor.at("delta_norm").get<double>(), 1e-300);
    kind.energy += tensor.at("energy").get<double>();
    kind.realised += tensor.at("realised").get<double>();
    kind.changed += tensor.at("changed").get<double>();
    kind.certificate = std::max(kind.certificate, tensor.at("certificate").get<double>());
    // Reports of before there was a proof say nothing of it.
    const double missed = tensor.contains("missed") ? tensor["missed"].at("epsilon").get<double>() : INFINITY;
    kind.missed = std::max(kind.missed, missed);
    const std::string method =
        tensor.at("method").get<std::string>() + "/" + tensor.at("where").get<std::string>();
    if (kind.methods.find(method) == std::string::npos)
      kind.methods += (kind.methods.empty() ? "" : " ") + method;
  }
  std::size_t width = 6;
  for (const std::string& name : order) width = std::max(width, printable(name).size());
  fmt::print("{:{}}  {:>5}  {:>7}  {:>10}  {:>9}  {:>8}  {:>11}  {:>7}  method\n", "tensor", width, "count",
             "energy", "edit/delta", "realised", "changed", "certificate", "missed");
  for (const std::string& name : order) {
    const Kind& kind = kinds[name];
    const auto n = static_cast<double>(kind.count);
    print("{:{}}  {:5}  {:6.1f}%  {:10.2f}  {:8.1f}%  {:7.1f}%  {:11.1e}  {:>7}  {}\n", name, width,
          kind.count, 100 * kind.energy / n, kind.relative / n, 100 * kind.realised / n,
          100 * kind.changed / n, kind.certificate, bound_text(kind.missed), kind.methods);
  }
  const json& totals = report.at("totals");
  const json& job = report.at("job");
  fmt::print(
      "\nk = {}, coef = {}: {} tensors edited, {} copied, {} in {} on {} ranks, peak memory of a rank {}\n",
      job.at("k").dump(), job.at("coef").dump(), totals.at("edited").dump(), totals.at("copied").dump(),
      format_bytes(totals.at("bytes_written").get<double>()),
      format_seconds(totals.at("seconds").get<double>()), totals.at("ranks").dump(),
      format_bytes(totals.at("peak_rss_bytes").get<double>()));
  fmt::print(
      "\nenergy      share of |delta|^2 in its top k singular values\n"
      "edit/delta  size of the edit against the whole delta\n"
      "realised    share of the edit that survives rounding to the dtype\n"
      "changed     share of entries that differ from the aligned model\n"
      "certificate worst residual of the singular triplets, each relative to its singular value\n"
      "missed      no singular value above this is missing among the k, but for a probability of 1e-9 a "
      "matrix\n");
}

}  // namespace

ExitCode run_report(const Arguments& arguments) {
  Options options("report", "FILE",
                  "Shows the report of a hardened model as a table: tensors of one kind in all\n"
                  "layers make a row.",
                  "  lox report hardened.report.json");
  options.add_positional("FILE");
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  const std::string path = values["FILE"].as<std::string>();
  if (!fs::exists(path)) fail(ExitCode::bad_input, "{}: no such file", path);
  try {
    print_report(json::parse(read_text(path, std::uint64_t{2} << 30)));
  } catch (const json::exception& error) {
    fail(ExitCode::bad_input, "{}: is not a report of lox: {}", path, error.what());
  }
  return ExitCode::done;
}

}  // namespace lox
