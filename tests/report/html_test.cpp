// SPDX-License-Identifier: MIT
#include "lox/report/html.hpp"

#include "lox/base/error.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "support/expect_error.hpp"
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lox {
namespace {

using nlohmann::json;

json data_of(const std::vector<PageFile>& files) {
  return json::parse(page_data(files));
}

/// A report of one tensor with this name.
PageFile report_of(const std::string& name) {
  const json report{{"tensors", json::array({{{"name", name}, {"shape", {2, 3}}, {"energy", 1.0 / 3}}})}};
  return {"r.json", report.dump()};
}

/// A report of one tensor with more in it, as the page gets it; `notes`: what is said of it.
json shown_of(const json& more_of_report, const json& more_of_tensor, std::vector<std::string>& notes) {
  json report{{"tensors", json::array({{{"name", "w"}, {"shape", {2, 3}}, {"energy", 0.5}}})}};
  report["tensors"][0].update(more_of_tensor);
  report.update(more_of_report);
  const std::vector<PageFile> files{{"r.json", report.dump()}};
  return json::parse(page_data(files, &notes))["files"][0]["report"];
}

/// The value of a tensor's column; null if there is no such column.
json cell(const json& shown, const char* column) {
  const json& columns = shown["tensors"]["columns"];
  const auto at = std::ranges::find(columns, json(column)) - columns.begin();
  return at == static_cast<std::ptrdiff_t>(columns.size())
             ? json()
             : shown["tensors"]["rows"][0][static_cast<std::size_t>(at)];
}

/// What the page's scripts would fall over.
TEST(Html, ValuesOfAnotherTypeAreLeftOutWithALine) {
  struct Case {
    json report;
    json tensor;
    const char* key;
  };
  const json none = json::object();
  const json one_null = json::array({nullptr});
  for (const Case& odd : std::vector<Case>{{none, {{"tuned", one_null}}, "tuned"},
                                           {none, {{"tuned", "x"}}, "tuned"},
                                           {none, {{"tuned", {{{"r_ft", "x"}}}}}, "r_ft"},
                                           {none, {{"sigma", {1, "x"}}}, "sigma"},
                                           {none, {{"energy", "x"}}, "energy"},
                                           {none, {{"r_align", {{"six", 1}}}}, "r_align"},
                                           {none, {{"seconds", 3}}, "seconds"},
                                           {none, {{"method", {1}}}, "method"},
                                           {none, {{"settled", 1}}, "settled"},
                                           {{{"job", {{"include", "x"}}}}, none, "include"},
                                           {{{"job", {{"exclude", one_null}}}}, none, "exclude"},
                                           {{{"job", {{"output", {1}}}}}, none, "output"},
                                           {{{"job", "x"}}, none, "job"},
                                           {{{"made", {{"versions", "x"}}}}, none, "versions"},
                                           {{{"made", {{"paths", {{"base", 1}}}}}}, none, "paths"},
                                           {{{"totals", {{"rank_seconds", 1}}}}, none, "rank_seconds"},
                                           {{{"lox", 1}}, none, "lox"}}) {
    SCOPED_TRACE(odd.report.dump() + odd.tensor.dump());
    std::vector<std::string> notes;
    const json shown = shown_of(odd.report, odd.tensor, notes);
    ASSERT_EQ(notes.size(), 1U);
    EXPECT_NE(notes[0].find(fmt::format("r.json: '{}' of ", odd.key)), std::string::npos) << notes[0];
    if (std::string(odd.key) != "r_ft") {
      EXPECT_EQ(shown.dump().find(fmt::format("\"{}\":", odd.key)), std::string::npos);
    }
    EXPECT_EQ(cell(shown, "name"), "w");
  }
}

TEST(Html, WhatLoxWritesStays) {
  std::vector<std::string> notes;
  const json tuned{
      {{"model", "t"}, {"delta_norm", 2.5}, {"r_ft", {{"6", 0.5}}}, {"overlap_left", {{"6", 0.25}}}}};
  const json job{
      {"k", {1, 6}}, {"coef", 0.5}, {"include", {"a"}}, {"exclude", json::array()}, {"output", "o"}};
  const json shown = shown_of(
      {{"job", job}, {"totals", {{"mean", {{"r_align", 1}}}, {"matrices", 5}}}},
      {{"tuned", tuned}, {"r_align", {{"6", 0.5}, {"100", nullptr}}}, {"weight_norm", nullptr}}, notes);
  EXPECT_TRUE(notes.empty());
  EXPECT_EQ(shown["job"], job);
  EXPECT_EQ(shown["totals"], json({{"matrices", 5}}));
  EXPECT_EQ(cell(shown, "tuned"), tuned);
  EXPECT_EQ(cell(shown, "r_align"), json({{"6", 0.5}}));
  EXPECT_TRUE(cell(shown, "weight_norm").is_null());
}

/// A column for each key that some tensor has would make the page grow with the square of the report.
TEST(Html, KeysOfStrangersMakeNoColumns) {
  constexpr int tensors = 2000;
  json report{{"tensors", json::array()}};
  for (int i = 0; i < tensors; ++i) {
    report["tensors"].push_back({{"name", fmt::format("w{}", i)},
                                 {"shape", {2, 3}},
                                 {fmt::format("key{}", i), 1},
                                 {"r_align", {{std::to_string(i), 0.5}}}});
  }
  std::vector<std::string> notes;
  const std::vector<PageFile> files{{"r.json", report.dump()}};
  EXPECT_LT(page_data(files, &notes).size(), report.dump().size());
  ASSERT_EQ(notes.size(), 2U);  // of r_align only the first values of k stay
  EXPECT_NE(notes[1].find("more than 64 values of k"), std::string::npos);
}

/// Nothing that a name holds ends the script that the data lie in, or begins another; read as JSON it is the
/// same.
TEST(Html, HostileTextsStayTexts) {
  const std::vector<std::string> names{"</script><script>alert(1)</script>",
                                       "<!--",
                                       "]]>",
                                       "a&b",
                                       "\u2028\u2029",
                                       "\\u003c",
                                       "\"",
                                       "@data@",
                                       "\xf0\x9f\x98\x80"};
  for (const std::string& name : names) {
    const std::string text = page_data(std::array{report_of(name), PageFile{name + ".csv", name}});
    EXPECT_EQ(text.find_first_of("<>&\n"), std::string::npos) << text;
    EXPECT_TRUE(std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7f; })) << text;
    const json data = json::parse(text);
    const json& tensors = data["files"][0]["report"]["tensors"];
    const auto column = static_cast<std::size_t>(std::ranges::find(tensors["columns"], json("name")) -
                                                 tensors["columns"].begin());
    EXPECT_EQ(tensors["rows"][0][column], name);
    EXPECT_EQ(data["files"][1]["csv"], name);
  }
}

TEST(Html, BrokenUtf8IsReplaced) {
  const json data = data_of({{"a\xff.csv", "b\xc3\x28"}});
  EXPECT_EQ(data["files"][0]["name"], "a\uFFFD.csv");
  EXPECT_EQ(data["files"][0]["csv"], "b\uFFFD(");
  EXPECT_THROW(
      page_data(std::array{PageFile{"r.json", "{\"tensors\": [{\"name\": \"\xff\", \"shape\": []}]}"}}),
      Error);
}

TEST(Html, KeysOnceAndNumbersShort) {
  const json report{{"totals", {{"proof", {{"table", 18446744073709551615U}}}, {"seconds", 1e300}}},
                    {"tensors", json::array({{{"name", "a"}, {"shape", {2}}, {"energy", 1.0 / 3}},
                                             {{"name", "b"}, {"shape", json::array()}, {"k", 6}}})}};
  const json shown = data_of({{"r.json", report.dump()}})["files"][0]["report"];
  EXPECT_EQ(shown["tensors"]["columns"], json({"energy", "name", "shape", "k"}));
  EXPECT_EQ(shown["tensors"]["rows"], json::parse(R"([[0.33333333, "a", [2], null], [null, "b", [], 6]])"));
  EXPECT_EQ(shown["totals"], json({{"seconds", 1e300}}));
}

TEST(Html, BatchesAreSummedUp) {
  const json tensor{{"name", "experts"},
                    {"shape", {3, 2, 2}},
                    {"sigma", json::array()},
                    {"batch", {{{"sigma", {1, 2}}}, {{"sigma", {3, 6}}}, {{"sigma", json::array()}}}}};
  const json report{{"tensors", json::array({tensor})}};
  const json tensors = data_of({{"r.json", report.dump()}})["files"][0]["report"]["tensors"];
  EXPECT_EQ(tensors["columns"], json({"matrices", "name", "shape", "sigma"}));
  EXPECT_EQ(tensors["rows"][0], json::parse(R"([3, "experts", [3, 2, 2], [2, 4]])"));
}

TEST(Html, OtherFilesAreRefused) {
  for (const char* text :
       {"", "null", "[]", "{}", "{\"tensors\": {}}", "{\"tensors\": [1]}", "{\"tensors\": [{}]}",
        R"({"tensors": [{"name": "a"}]})", R"({"tensors": [{"name": 1, "shape": []}]})",
        R"({"tensors": [{"name": "a", "shape": [-1]}]})", "{\"tensors\": []"}) {
    const auto show = [&] { page_data(std::array{PageFile{"some.json", text}}); };
    const char* const why = nlohmann::json::accept(text) ? "neither a report nor an analysis" : "is not JSON";
    testing::expect_error(ExitCode::bad_input, show, {"some.json", why});
  }
  EXPECT_THROW(page_data(std::array{PageFile{"deep.json", std::string(100000, '[')}}), Error);
}

TEST(Html, ThePageHasItsDataOrSaysWhyNot) {
  const std::array files{report_of("a")};
  if (page_template().empty()) {
    testing::expect_error(ExitCode::usage, [&] { report_page(files); }, {"built without pages"});
    return;
  }
  const std::string page = report_page(files);
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_NE(page.find("id=\"data\">" + page_data(files) + "</script>"), std::string::npos);
  EXPECT_EQ(page.find("http-equiv=\"refresh\""), std::string::npos);
  for (const char* from_elsewhere : {"src=\"", "href=\"http", "url(http", "@import", "fetch("})
    EXPECT_EQ(page.find(from_elsewhere), std::string::npos) << from_elsewhere;
}

}  // namespace
}  // namespace lox
