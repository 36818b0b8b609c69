// SPDX-License-Identifier: MIT
// A rank's journal: what is no whole record is not there, and what is one can be written again and reported.
#include "lox/io/checkpoint.hpp"
#include "lox/report/json.hpp"
#include "lox/run/journal.hpp"

#include "fuzz/fuzz.hpp"
#include <nlohmann/json.hpp>

using namespace lox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(fuzz::text_of(data, size));
  const std::vector<Record> records = Journal::parse(text);
  std::string lines;
  for (const Record& record : records) lines += record_to_json(record).dump() + "\n";
  fuzz::expect(Journal::parse(lines).size() == records.size(), "a record can be written and read again");
  Checkpoint model;
  for (const Record& record : latest(records)) {
    model.tensors.push_back({record.key.name, DType::BF16, {2, 2}, {}, ""});
    if (model.tensors.size() % 2 == 0) model.tensors.back().shape.push_back(2);
  }
  (void)report_to_json(make_report({}, model, latest(records), RunTotals())).dump();
  return 0;
}
