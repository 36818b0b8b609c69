// SPDX-License-Identifier: MIT
#pragma once
#include "lox/cli/options.hpp"

#include <string>
#include <string_view>

namespace lox {

/// `text` with its white space as line breaks where a line would be longer than `width`; `prefix` begins each
/// line.
std::string wrapped(std::string_view text, std::size_t width, std::string_view prefix = "");

/// Markdown of one paragraph as people would write it without: no backquotes, links by their text.
std::string plain(std::string_view markdown);

/// What `--help-as FORM` prints, of one command. `man`: a section of the man page. `markdown`: the table of
/// docs/usage.md, between the marks that tell where it stands there. `job-file`: a job file with all options,
/// each explained.
std::string help_as(const Options& options, std::string_view form);

/// The table of exit codes in docs/usage.md, between such marks.
std::string markdown_exit_codes();

/// What stands before and after the commands in the man page.
std::string man_head();
std::string man_foot();

}  // namespace lox
