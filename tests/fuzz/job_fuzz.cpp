// SPDX-License-Identifier: MIT
// A job file.
#include "lox/cli/job_options.hpp"

#include "fuzz/fuzz.hpp"

using namespace lox;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::ScratchFile file(fuzz::text_of(data, size));
  fuzz::survives(
      [&] {
        Options options("harden", "", "", "");
        JobOptions job;
        job.add_to(options);
        boost::program_options::variables_map values;
        fuzz::expect(options.parse({"--config", file.path()}, values), "a job file does not ask for help");
        job.finish();
        fuzz::expect(job.job.solve.k >= 0 && job.job.coef >= 0 && job.job.solve.tolerance > 0,
                     "a job that is taken makes sense");
      },
      {ExitCode::usage});
  return 0;
}
