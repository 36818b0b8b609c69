// SPDX-License-Identifier: MIT
#include "lox/base/log.hpp"
#include "lox/cli/verify_options.hpp"

namespace po = boost::program_options;

namespace lox {

Request read_verify(const Arguments& arguments) {
  Options options("verify", "--report R | --base B --aligned A --hardened H [options]",
                  "Checks a hardened model without trusting the run that made it: every entry of\n"
                  "sampled matrices against an edit formed anew in double precision, copied tensors\n"
                  "and the model's other files byte by byte.\n"
                  "What was asked of harden comes from its report or job file, or as options. With\n"
                  "--factors it checks a store, or what apply has made of one.",
                  "  lox verify --report hardened.report.json --sample 4");
  VerifyOptions verified;
  verified.add_to(options);
  bool quiet = false;
  options.add({.name = "quiet", .brief = "say nothing but what is wrong"}, quiet);
  po::variables_map values;
  if (!options.read(arguments, values)) return {options.help_text(), options.asked(values), nullptr};
  verified.finish(values);
  const auto work = [asked = verified.asked, quiet](const Comm& comm) {
    return verify(comm, asked, Log(comm.is_root() && !quiet ? Log::Level::all : Log::Level::silent));
  };
  return {"", options.asked(values), work};
}

}  // namespace lox
