// SPDX-License-Identifier: MIT
#include "lox/run/journal.hpp"

#include "lox/base/checksum.hpp"
#include "lox/base/error.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <nlohmann/json.hpp>

namespace lox {
namespace {

constexpr std::uint64_t largest_file = std::uint64_t{4} << 30;
constexpr std::uint64_t largest_edge = std::uint64_t{1} << 20;  // less than two pages, whatever a page is

bool has_edges(EdgeReader& edges, const Record& record) {
  try {
    for (const Edge& edge : record.edges) (void)edges.read(edge);
    return true;
  } catch (const Error&) {
    return false;
  }
}

fs::path file_of(const fs::path& directory, int run, int rank, const char* ending) {
  if (run == 1) return directory / fmt::format("rank-{:05}.{}", rank, ending);
  return directory / fmt::format("rank-{:05}.{:04}.{}", rank, run, ending);
}

/// The run that a file of the journal is of.
int run_of(const fs::path& file) {
  const std::string run = file.stem().extension().string();
  return run.empty() ? 1 : std::atoi(run.c_str() + 1);
}

/// Length of the text up to and including its last newline.
std::size_t whole_lines(const std::string& text) {
  const std::size_t last = text.rfind('\n');
  return last == std::string::npos ? 0 : last + 1;
}

}  // namespace

std::vector<std::byte> EdgeReader::read(const Edge& edge) {
  constexpr std::size_t most_open_files = 64;
  auto found = files_.find({edge.run, edge.rank});
  if (found == files_.end()) {
    if (files_.size() >= most_open_files) files_.clear();
    File file = File::open_read(file_of(directory_, edge.run, edge.rank, "edges"));
    found = files_.emplace(std::pair(edge.run, edge.rank), std::move(file)).first;
  }
  const File& file = found->second;
  std::vector<std::byte> bytes(edge.bytes <= largest_edge ? edge.bytes : 0);
  file.read(edge.at, bytes);
  if (checksum(bytes) != edge.xxh3) {
    fail(ExitCode::io, "{}: the edge at byte {} is not what was written; is the disk well?", file.path(),
         edge.at);
  }
  return bytes;
}

Journal::Journal(const fs::path& directory, int run, int rank)
    : run_(run),
      rank_(rank),
      lines_(File::create(file_of(directory, run, rank, "jsonl"))),
      edges_(File::create(file_of(directory, run, rank, "edges"))) {
  sync_directory(directory);
}

int Journal::next_run(const fs::path& directory) {
  int last = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".jsonl") last = std::max(last, run_of(entry.path()));
  }
  return last + 1;
}

int Journal::idle_runs(const fs::path& directory) {
  int last = 0;
  int last_of_use = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() != ".jsonl") continue;
    const int run = run_of(entry.path());
    last = std::max(last, run);
    if (entry.file_size() > 0) last_of_use = std::max(last_of_use, run);
  }
  return last - last_of_use;
}

void Journal::keep_edges(std::span<Record> records) {
  std::vector<std::byte> all;
  for (Record& record : records) {
    for (Edge& edge : record.edges) {
      if (edge.waits.empty()) continue;
      edge.run = run_;
      edge.rank = rank_;
      edge.at = edges_end_ + all.size();
      all.insert(all.end(), edge.waits.begin(), edge.waits.end());
      edge.waits = {};
    }
  }
  if (all.empty()) return;
  edges_.write(edges_end_, all);
  edges_.sync();
  edges_end_ += all.size();
}

void Journal::append(std::span<Record> records) {
  keep_edges(records);
  std::string lines;
  for (const Record& record : records) lines += record_to_json(record).dump() + "\n";
  lines_.append(lines);
  lines_.sync();
  if (lines_.links() == 0) {
    fail(ExitCode::io, "{}: was removed while lox ran; the output cannot be trusted any more, start again",
         lines_.path());
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
  std::ranges::sort(files, {}, [](const fs::path& file) { return std::pair(run_of(file), file); });
  EdgeReader edges(directory);
  std::vector<Record> records;
  for (const fs::path& file : files) {
    for (Record& record : parse(read_text(file, largest_file))) {
      if (has_edges(edges, record)) records.push_back(std::move(record));
    }
  }
  return records;
}

}  // namespace lox
