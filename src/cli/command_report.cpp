// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/base/units.hpp"
#include "lox/cli/options.hpp"
#include "lox/report/analysis.hpp"
#include "lox/report/csv.hpp"
#include "lox/report/html.hpp"
#include "lox/report/json.hpp"
#include "lox/report/text.hpp"

#include <algorithm>
#include <span>
#include <string_view>

namespace po = boost::program_options;

namespace lox {
namespace {

constexpr std::uint64_t largest = std::uint64_t{4} << 30;

bool is_table(const std::string& file) {
  return file.ends_with(".csv");
}

/// A report, or an analysis, of which only the totals are shown as text.
struct Shown {
  NamedReport report;
  std::string analysis;  ///< empty: it is a report
};

Shown read(const std::string& asked) {
  if (is_table(asked)) fail(ExitCode::usage, "{}: a table is shown only in a page; say --html PAGE", asked);
  const fs::path path = report_file(asked);
  try {
    const nlohmann::ordered_json text = nlohmann::ordered_json::parse(read_text(path, largest));
    if (is_analysis(text)) return {{path.string(), {}}, analysis_table(text)};
    if (text.is_object() && text.contains("modules")) {
      fail(ExitCode::bad_input,
           "{}: is the report of an adapter, short enough to be read as it is; tables are made of those of "
           "models, stores and analyses",
           path);
    }
    return {{path.string(), report_from_json(text)}, ""};
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::bad_input, "{}: is not a report of lox: {}", path, error.what());
  }
}

/// Whatever stands there goes only if it is such a page.
void check_page_place(const fs::path& page) {
  if (page.empty()) fail(ExitCode::usage, "--html '': name the page's file");
  if (!fs::exists(fs::symlink_status(page))) return;
  if (fs::is_symlink(page)) fail(ExitCode::bad_input, "--html {}: is a link; name the file itself", page);
  constexpr std::string_view sign = "<meta name=\"generator\" content=\"lox report\">";
  std::string head;
  if (fs::is_regular_file(page)) {
    const File file = File::open_read(page);
    head.resize(std::min<std::uint64_t>(file.size(), 1024));
    file.read(0, std::as_writable_bytes(std::span(head)));
  }
  if (head.find(sign) == std::string::npos)
    fail(ExitCode::bad_input, "--html {}: exists, and is no page of lox; choose another name", page);
}

void write_page(const std::vector<std::string>& files, const fs::path& page) {
  check_page_place(page);
  std::vector<PageFile> shown;
  for (const std::string& file : files) {
    const fs::path path = is_table(file) ? fs::path(file) : report_file(file);
    shown.push_back({path.string(), read_text(path, largest)});
  }
  std::vector<std::string> notes;
  const std::string text = report_page(shown, &notes);
  for (const std::string& note : notes) Log(Log::Level::warnings).warn("{}", note);
  write_text_atomically(page, text);
  print("wrote {} ({})\n", page, format_bytes(static_cast<double>(text.size())));
}

}  // namespace

ExitCode run_report(const Arguments& arguments) {
  Options options("report", "FILE|MODEL.. [options]",
                  "Shows reports of hardened models, and of stores of factors, as tables: tensors\n"
                  "of one kind in all layers make a row. Of a MODEL (a folder, .h5 or .safetensors)\n"
                  "it finds the report that lies in it or beside it. Of an analysis it shows the\n"
                  "totals.",
                  "  lox report hardened\n"
                  "  lox report hardened --csv > tensors.csv\n"
                  "  lox report hardened-* --html sweep.html");
  bool tensors = false;
  bool csv = false;
  std::string page;
  std::vector<std::string> files;
  options.add({.name = "tensors", .brief = "a row for each tensor"}, tensors);
  options.add({.name = "csv",
               .brief = "a line for each tensor, for programs",
               .text = "a line for each tensor and each matrix of a batch, comma-separated, with all numbers "
                       "of the report and the singular values"},
              csv);
  options.add(
      {.name = "html",
       .value = "PAGE",
       .brief = "write a page to look at, in one file",
       .text = "write a [page to look at](#a-page-to-look-at), one file that opens without a network. "
               "Further files may be analyses and, called `*.csv`, tables of a sweep or a landscape"},
      page);
  options.add_positionals("FILE", files);
  po::variables_map values;
  if (!options.parse(arguments, values)) return ExitCode::done;
  if (tensors && csv) fail(ExitCode::usage, "--csv has a line for each tensor; without --tensors");
  if (values.contains("html")) {
    if (tensors || csv) fail(ExitCode::usage, "--html has all tensors; without --tensors and --csv");
    write_page(files, page);
    return ExitCode::done;
  }
  std::vector<Shown> shown;
  for (const std::string& file : files) shown.push_back(read(file));
  if (csv) {
    std::vector<NamedReport> reports;
    for (Shown& one : shown) {
      if (!one.analysis.empty())
        fail(ExitCode::usage, "{}: is an analysis, which --csv does not show; its JSON has all of it",
             one.report.file);
      reports.push_back(std::move(one.report));
    }
    fmt::print("{}", reports_csv(reports));
    return ExitCode::done;
  }
  for (const Shown& one : shown) {
    if (&one != &shown.front()) fmt::print("\n");
    if (shown.size() > 1) print("{}:\n", one.report.file);
    fmt::print("{}", one.analysis.empty()
                         ? report_table(one.report.report, tensors ? Rows::tensors : Rows::kinds)
                         : one.analysis);
  }
  return ExitCode::done;
}

}  // namespace lox
