// SPDX-License-Identifier: MIT
#include "lox/report/html.hpp"

#include "lox/base/error.hpp"
#include "lox/base/version.hpp"
#include "lox/io/json.hpp"
#include "lox/report/page_form.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <vector>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::json;

/// Numbers with as many digits as anybody reads: a third of the page.
void shorten(json& value) {
  if (value.is_number_float()) {
    value = std::strtod(fmt::format("{:.8g}", value.get<double>()).c_str(), nullptr);
  } else if (value.is_structured()) {
    for (json& inner : value) shorten(inner);
  }
}

/// Sums up a batch: how many matrices, and the mean of each of their singular values.
void sum_up_batch(json& tensor) {
  const auto batch = tensor.find("batch");
  if (batch == tensor.end()) return;
  std::vector<double> sums;
  std::size_t with = 0;
  for (const json& matrix : *batch) {
    const json sigma = matrix.is_object() ? matrix.value("sigma", json()) : json();
    if (!sigma.is_array() || sigma.empty()) continue;
    ++with;
    sums.resize(std::max(sums.size(), sigma.size()));
    for (std::size_t i = 0; i < sigma.size(); ++i)
      sums[i] += sigma[i].is_number() ? sigma[i].get<double>() : 0;
  }
  for (double& sum : sums) sum /= static_cast<double>(with);
  tensor["matrices"] = batch->size();
  tensor["sigma"] = sums;
  tensor.erase("batch");
}

/// The tensors, each key once: {"columns": [..], "rows": [[..], ..]}, null for what a tensor has not got.
json packed(json tensors) {
  std::map<std::string, std::size_t> columns;
  json names = json::array();
  for (json& tensor : tensors) {
    sum_up_batch(tensor);
    for (const auto& [key, ignored] : tensor.items()) {
      if (columns.try_emplace(key, columns.size()).second) names.push_back(key);
    }
  }
  json rows = json::array();
  for (json& tensor : tensors) {
    json row(columns.size(), json());
    for (auto& [key, value] : tensor.items()) row[columns.at(key)] = std::move(value);
    rows.push_back(std::move(row));
  }
  return {{"columns", std::move(names)}, {"rows", std::move(rows)}};
}

bool is_tensor(const json& tensor) {
  if (!tensor.is_object() || !tensor.value("name", json()).is_string()) return false;
  const json shape = tensor.value("shape", json());
  return shape.is_array() && std::ranges::all_of(shape, [](const json& n) { return n.is_number_unsigned(); });
}

json page_entry(const PageFile& file, std::vector<std::string>* notes) {
  if (file.name.ends_with(".csv")) return {{"name", file.name}, {"csv", file.text}};
  std::string why;
  json report = parse_json(file.text, &why);
  if (!why.empty()) fail(ExitCode::bad_input, "{}: is not JSON: {}", file.name, why);
  const json* const tensors = report.is_object() && report.contains("tensors") ? &report["tensors"] : nullptr;
  if (tensors == nullptr || !tensors->is_array() || !std::ranges::all_of(*tensors, is_tensor)) {
    fail(ExitCode::bad_input, "{}: is neither a report nor an analysis of lox; name one, or a table as *.csv",
         file.name);
  }
  for (const std::string& note : to_page_form(report)) {
    if (notes != nullptr) notes->push_back(to_line("{}: {}", file.name, note));
  }
  report["tensors"] = packed(std::move(report["tensors"]));
  return {{"name", file.name}, {"report", std::move(report)}};
}

/// A text between the tags of a script must not look like their end, nor like a comment's beginning.
std::string escaped(const std::string& text) {
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    if (c == '<' || c == '>' || c == '&') {
      safe += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      safe += c;
    }
  }
  return safe;
}

}  // namespace

std::string page_data(std::span<const PageFile> files, std::vector<std::string>* notes) {
  json data{{"lox", version()}, {"files", json::array()}};
  for (const PageFile& file : files) data["files"].push_back(page_entry(file, notes));
  shorten(data);
  return escaped(data.dump(-1, ' ', true, json::error_handler_t::replace));
}

std::string report_page(std::span<const PageFile> files, std::vector<std::string>* notes) {
  constexpr std::string_view place = "@data@";
  std::string page(page_template());
  const std::size_t at = page.find(place);
  if (at == std::string::npos) {
    fail(ExitCode::usage,
         "--html: this lox was built without pages, since npm could not get what they need; build it with "
         "-DLOX_HTML=ON to see why");
  }
  return page.replace(at, place.size(), page_data(files, notes));
}

}  // namespace lox
