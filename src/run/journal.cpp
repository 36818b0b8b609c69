// SPDX-License-Identifier: MIT
#include "lox/run/journal.hpp"

#include "lox/base/error.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

constexpr std::uint64_t largest_file = std::uint64_t{4} << 30;

fs::path rank_file(const fs::path& directory, int rank) {
  return directory / fmt::format("rank-{:05}.jsonl", rank);
}

/// Length of the text up to and including its last newline.
std::size_t whole_lines(const std::string& text) {
  const std::size_t last = text.rfind('\n');
  return last == std::string::npos ? 0 : last + 1;
}

}  // namespace

Journal::Journal(const fs::path& directory, int rank) : file_(File::open_append(rank_file(directory, rank))) {
  const std::string text = read_text(file_.path(), largest_file);
  if (whole_lines(text) < text.size()) file_.truncate(whole_lines(text));
  file_.sync();
  sync_directory(directory);
}

void Journal::append(const std::vector<Record>& records) {
  std::string lines;
  for (const Record& record : records) lines += record_to_json(record).dump() + "\n";
  file_.append(lines);
  file_.sync();
  if (file_.links() == 0) {
    fail(ExitCode::io, "{}: was removed while lox ran; the output cannot be trusted any more, start again",
         file_.path());
  }
}

std::vector<Record> Journal::parse(const std::string& text) {
  std::vector<Record> records;
  const std::size_t end = whole_lines(text);
  for (std::size_t start = 0; start < end;) {
    const std::size_t newline = text.find('\n', start);
    const nlohmann::json json =
        nlohmann::json::parse(text.begin() + static_cast<std::ptrdiff_t>(start),
                              text.begin() + static_cast<std::ptrdiff_t>(newline), nullptr, false);
    start = newline + 1;
    try {
      records.push_back(record_from_json(json));
    } catch (const nlohmann::json::exception&) {  // not a record: its item counts as not done
    } catch (const Error&) {
    }
  }
  return records;
}

std::vector<Record> Journal::load(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<Record> records;
  for (const fs::path& file : files) {
    for (Record& record : parse(read_text(file, largest_file))) records.push_back(std::move(record));
  }
  return records;
}

}  // namespace lox
