// SPDX-License-Identifier: MIT
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lox {

/// A file that a page shows: a report, an analysis, or, by its name's ending `.csv`, a table.
struct PageFile {
  std::string name;
  std::string text;
};

/// The page without its data, which go where `@data@` stands. Empty if lox was built without pages. Made by
/// the build of the files in src/report/page.
std::string_view page_template();

/// What the files hold as JSON that may stand in a `<script>`: no <, > or &, nothing but ASCII. Numbers have
/// 8 digits; of tensors each key is said once; the matrices of a batch are told as their number and the means
/// of their singular values. Throws Error(bad_input) naming the file if one is neither a report nor an
/// analysis. `notes`: gets a line for what of the files is not shown, since it has another type than lox
/// writes.
std::string page_data(std::span<const PageFile> files, std::vector<std::string>* notes = nullptr);

/// A page that shows the files; it needs nothing else. Throws Error(usage) if lox was built without pages.
std::string report_page(std::span<const PageFile> files, std::vector<std::string>* notes = nullptr);

}  // namespace lox
