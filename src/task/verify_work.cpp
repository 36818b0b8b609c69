// SPDX-License-Identifier: MIT
#include "lox/task/verify_work.hpp"

#include "lox/base/random.hpp"
#include "lox/plan/cost.hpp"

#include <algorithm>

namespace lox {
namespace {

/// Which matrices to check: `sample` of them (0: all), spread by a hash of their names.
std::vector<Item> choose(const VerifyTables& opened, std::int64_t sample) {
  std::vector<std::pair<std::uint64_t, const Item*>> order;
  for (const Item& item : opened.items) {
    if (item.action == Action::copy) continue;
    const std::string& name = opened.tensor(item, aligned_model).name;
    order.emplace_back(stream_key(static_cast<std::uint64_t>(item.matrix.number), name), &item);
  }
  std::sort(order.begin(), order.end());
  if (sample > 0 && static_cast<std::size_t>(sample) < order.size())
    order.resize(static_cast<std::size_t>(sample));
  std::vector<Item> chosen;
  for (const auto& [hash, item] : order) chosen.push_back(*item);
  return chosen;
}

/// Those that the result must hold.
std::vector<OtherFile> files_to_compare(const VerifyTables& opened) {
  return has_place_for_files(opened.hardened) ? files_of_harden(opened.aligned) : std::vector<OtherFile>();
}

}  // namespace

bool has_place_for_files(const Checkpoint& hardened) {
  return hardened.format != Format::safetensors_file;
}

std::vector<OtherFile> files_of_harden(const Checkpoint& aligned) {
  std::vector<OtherFile> files = aligned.other_files;
  std::erase_if(files, [](const OtherFile& file) { return is_foreign_weights(file.name); });
  return files;
}

std::uint64_t VerifyWork::compared_bytes() const {
  std::uint64_t bytes = 0;
  for (const Item& item : compared) bytes += item.bytes;
  for (const OtherFile& file : files) bytes += file.extent.bytes;
  return bytes;
}

std::uint64_t VerifyWork::bytes_of(const Item& item) {
  return item.action == Action::copy ? 2 * item.bytes : check_cost(item).bytes_read;
}

Counts VerifyWork::counts() const {
  Counts all;
  all.items = static_cast<std::int64_t>(checked.size() + compared.size() + files.size());
  for (const Item& item : checked) all.bytes += bytes_of(item);
  all.bytes += 2 * compared_bytes();
  return all;
}

VerifyWork work_of(const VerifyJob& asked, const VerifyTables& opened) {
  VerifyWork work;
  work.checked = choose(opened, asked.sample);
  for (const Item& item : opened.items) {
    if (item.action == Action::copy) work.compared.push_back(item);
  }
  if (!asked.of_store()) work.files = files_to_compare(opened);
  return work;
}

}  // namespace lox
