// SPDX-License-Identifier: MIT
#include "lox/report/csv.hpp"

#include <algorithm>
#include <array>
#include <set>

#include <gtest/gtest.h>

namespace lox {
namespace {

/// Names come from files of strangers: each stays one field of one line.
TEST(Csv, HostileNamesStayOneField) {
  NamedReport one;
  one.file = "a,b.json";
  for (const char* name : {"plain", "a,b", "say \"it\"", "two\nlines", "bell\a\xff", ""})
    one.report.tensors.push_back({name, {2, 3}, "F32", Action::copy, false, {}, {}, {}});
  const std::string text = reports_csv(std::array{one});
  EXPECT_EQ(std::ranges::count(text, '\n'), 7);
  for (const char* line : {"\n\"a,b.json\",plain,,2x3,F32,copied,", "\n\"a,b.json\",\"a,b\",,",
                           "\n\"a,b.json\",\"say \"\"it\"\"\",,", "\n\"a,b.json\",two\\x0alines,,",
                           "\n\"a,b.json\",bell\\x07\\xff,,", "\n\"a,b.json\",,,2x3"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

TEST(Csv, ColumnsOfTheLongestSpectrum) {
  NamedReport one;
  one.file = "r";
  TensorEntry tensor{"a", {2, 3}, "F32", Action::edit, false, {}, {}, {}};
  tensor.measures.spectrum.sigma = {3, 0.1};
  one.report.tensors = {tensor, tensor, {"b", {2, 3}, "F32", Action::copy, false, {}, {}, {}}};
  one.report.tensors.push_back({"c", {2, 3}, "F32", Action::copy, true, {}, {}, {}});
  one.report.tensors[1].measures.spectrum.sigma = {2};
  const std::string text = reports_csv(std::array{one});
  EXPECT_NE(text.find(",write_seconds,s_1,s_2\n"), std::string::npos);
  EXPECT_NE(text.find(",0,0,0,3,0.1\n"), std::string::npos) << text;
  EXPECT_NE(text.find(",0,0,0,2,\n"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with(",copied,,,,,,,,,,0,,,,,0,0,0,,\n")) << text;  // its delta is known to be zero
  std::set<std::ptrdiff_t> commas;
  for (std::size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
    commas.insert(std::ranges::count(text.substr(at, end - at), ','));
  EXPECT_EQ(commas.size(), 1U) << text;
}

}  // namespace
}  // namespace lox
