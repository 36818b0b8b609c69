// SPDX-License-Identifier: MIT
#include "lox/cli/manual.hpp"

#include "lox/base/version.hpp"

#include <algorithm>
#include <array>
#include <cctype>

namespace lox {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

/// Links by their text.
std::string without_links(std::string text) {
  for (std::size_t middle; (middle = text.find("](")) != std::string::npos;) {
    text.erase(middle, text.find(')', middle) + 1 - middle);
    text.erase(text.rfind('[', middle), 1);
  }
  return text;
}

/// The same with a capital letter and a full stop.
std::string sentence(std::string text) {
  text.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(text.front())));
  return text + '.';
}

/// Texts of ours as a source of roff; what stands in backquotes becomes bold.
std::string roff(std::string text) {
  replace_all(text, "\\", "\\e");
  replace_all(text, "-", "\\-");
  replace_all(text, "\n.", "\n\\&.");
  replace_all(text, "\n'", "\n\\&'");
  if (text.starts_with('.') || text.starts_with('\'')) text.insert(0, "\\&");
  for (std::size_t at = 0, open = 1; (at = text.find('`', at)) != std::string::npos; open = 1 - open) {
    text.replace(at, 1, open == 1 ? "\\fB" : "\\fP");
  }
  return text;
}

/// Is this a plan, which has the options of a job beside its own?
bool is_plan(const Options& options) {
  return options.command().starts_with("plan");
}

/// The options described with a command: those of a job are described with what does it.
std::span<const Option> described(const Options& options) {
  return is_plan(options) ? options.of_its_own() : options.listed();
}

std::string man_section(const Options& options) {
  std::string page =
      fmt::format(".SS lox {} {}\n{}\n", options.command(), roff(options.synopsis()), roff(options.text()));
  if (is_plan(options) && !options.of_job().empty()) page += ".PP\nAll options of harden, and:\n";
  for (const Option& option : described(options)) {
    page += fmt::format(".TP\n\\fB\\-\\-{}\\fP", roff(option.name));
    if (!option.value.empty()) page += fmt::format(" \\fI{}\\fP", roff(option.value));
    page += '\n' + roff(sentence(without_links(option.text))) + '\n';
    if (!option.fallback.empty()) page += "Default: " + roff(option.fallback) + ".\n";
  }
  return page + ".PP\nExample:\n.PP\n.nf\n" + roff(options.example()) + "\n.fi\n";
}

std::string man_exit_codes() {
  std::string page;
  for (const ExitMeaning& exit : exit_meanings()) {
    page += fmt::format(".TP\n.B {}\n{}\n", static_cast<int>(exit.code),
                        roff(sentence(fmt::format("{}: {}", exit.name, exit.meaning))));
  }
  return page;
}

std::string markdown_table(const Options& options) {
  const std::span<const Option> rows = described(options);
  if (rows.empty()) return "";
  std::string table = "| option | default | meaning |\n| --- | --- | --- |\n";
  for (const Option& option : rows) {
    std::string option_cell = option.name + (option.value.empty() ? "" : " ") + option.value;
    std::string default_cell = option.value.empty() ? "off" : option.fallback;
    replace_all(option_cell, "|", "\\|");
    if (!default_cell.empty()) default_cell += ' ';
    table += fmt::format("| `--{}` | {}| {} |\n", option_cell, default_cell, option.text);
  }
  return fmt::format("<!-- options of {0} -->\n{1}<!-- end of options of {0} -->\n", options.command(),
                     table);
}

std::string job_file(const Options& options) {
  const std::string& task = options.command();
  constexpr std::array<std::string_view, 4> with_job_files{"harden", "factor", "apply", "analyze"};
  if (std::ranges::find(with_job_files, task) == with_job_files.end()) {
    fail(ExitCode::usage, "only harden, factor, apply and analyze have job files");
  }
  std::string file = fmt::format(
      "# SPDX-License-Identifier: MIT\n"
      "# A job of lox: fill in the three paths, then:\n"
      "#\n"
      "#   lox plan {1}--config {0}.ini --ranks 32\n"
      "#   sbatch --nodes=4 --ntasks-per-node=8 --time=01:00:00 slurm/harden.sbatch {1}{0}.ini\n"
      "#\n"
      "# Every line is an option of `lox {0}`; what stands on the command line wins. A # starts a "
      "comment.\n",
      task, task == "harden" ? "" : task + " ");
  for (const Option& option : options.of_job()) {
    if (option.name == "config") continue;
    std::string text = sentence(plain(option.text));
    if (option.in_words && !option.fallback.empty()) text += " Left out: " + plain(option.fallback) + '.';
    file += '\n' + wrapped(text, 100, "# ") + '\n';
    const bool base = option.name == "base" && task != "apply";
    const bool wanted = base || option.name == "aligned" || option.name == "output" ||
                        (option.name == "factors" && task == "apply");
    const std::string value = option.value.empty() ? "true"
                              : option.in_words    ? option.example
                                                   : option.fallback;
    file += fmt::format("{}{} = {}\n", option.in_words && !wanted ? "# " : "", option.name, value);
  }
  return file;
}

}  // namespace

std::string markdown_exit_codes() {
  std::string table = "| code | name | meaning |\n| --- | --- | --- |\n";
  for (const ExitMeaning& exit : exit_meanings()) {
    table += fmt::format("| {} | {} | {} |\n", static_cast<int>(exit.code), exit.name, exit.meaning);
  }
  return fmt::format("<!-- exit codes -->\n{}<!-- end of exit codes -->\n", table);
}

std::string wrapped(std::string_view text, std::size_t width, std::string_view prefix) {
  std::string all;
  std::string line(prefix);
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(" \n"), text.size());
    const std::string_view word = text.substr(0, end);
    const bool first = line.size() == prefix.size();
    if (!first && line.size() + 1 + word.size() > width) {
      all += line + '\n';
      line = fmt::format("{}{}", prefix, word);
    } else {
      line += fmt::format("{}{}", first ? "" : " ", word);
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return all + line;
}

std::string plain(std::string_view markdown) {
  std::string text = without_links(std::string(markdown));
  std::erase(text, '`');
  return text;
}

std::string help_as(const Options& options, std::string_view form) {
  if (form == "man") return man_section(options);
  if (form == "markdown") return markdown_table(options);
  if (form == "job-file") return job_file(options);
  fail(ExitCode::usage, "--help-as '{}' is none of man, markdown, job-file", form);
}

std::string man_head() {
  return fmt::format(".TH LOX 1 \"\" \"lox {}\" \"User commands\"\n", version()) + R"(.SH NAME
lox \- low-rank extrapolation of very large checkpoints
.SH SYNOPSIS
.B lox
.I COMMAND
.RI [ options ]
.br
.B mpirun \-n
.I N
.B lox
.I COMMAND
.RI [ options ]
.br
.B srun \-\-mpi=pmix lox
.I COMMAND
.RI [ options ]
.SH DESCRIPTION
lox hardens aligned language models against the loss of safety under later fine-tuning. It reads two
checkpoints of one model, before and after alignment, and writes a third: to every weight matrix of the
aligned model it adds
.I coef
times the best rank-\c
.I k
approximation of what alignment changed.
.PP
A checkpoint
.RI ( CKPT )
is a directory of *.safetensors, one .safetensors file, or one .h5 or .hdf5 file. An output takes the format
of its name.
.SH COMMANDS
)";
}

std::string man_foot() {
  return R"(.SH SIGNALS
SIGUSR1, SIGUSR2 and SIGTERM, to any rank, stop the job in good order; a second one drops what is in hand.
.SH EXIT STATUS
)" + man_exit_codes() +
         R"(.SH ENVIRONMENT
.TP
.B OMP_NUM_THREADS
Threads of a rank. Default: a fair share of the node's processors.
.TP
.B LOX_DIRECT_IO
0: outputs go through the page cache. Default: large writes go past it, where the file system can.
.TP
.B OPENBLAS_CORETYPE
Kernels of OpenBLAS. Default: set where OpenBLAS does not know the processor.
.SH FILES
.TP
.I share/lox/jobs/harden.ini
A job file with every option of harden, explained.
.TP
.I share/lox/slurm/
Scripts for sbatch.
.SH SEE ALSO
.BR sbatch (1),
.BR mpirun (1)
)";
}

}  // namespace lox
