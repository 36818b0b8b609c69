// SPDX-License-Identifier: MIT
#include "lox/base/site.hpp"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>

namespace lox {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// A process outside of Slurm and launchers, until a test says otherwise.
class SiteTest : public ::testing::Test {
 protected:
  SiteTest() {
    for (const char* name :
         {"SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_RESTART_COUNT", "SLURM_STEP_NUM_TASKS",
          "SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_JOB_END_TIME", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU",
          "SLURM_CPUS_ON_NODE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
      const char* const value = std::getenv(name);
      before_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      ::unsetenv(name);
    }
  }
  ~SiteTest() override {
    for (const auto& [name, value] : before_) {
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
    }
  }
  static void set(const char* name, const char* value) { ::setenv(name, value, 1); }

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

TEST_F(SiteTest, OutsideOfAJobNothingIsSaid) {
  const Slurm job = slurm();
  EXPECT_EQ(job.job, "");
  EXPECT_EQ(job.restarts, 0);
  EXPECT_EQ(job.step_tasks, std::nullopt);
  EXPECT_EQ(job.end_time, std::nullopt);
  EXPECT_EQ(launched_processes(), 1);
}

TEST_F(SiteTest, AJobSaysWhatItIs) {
  set("SLURM_JOB_ID", "4711");
  set("SLURM_JOB_NODELIST", "n[1-2]");
  set("SLURM_RESTART_COUNT", "3");
  set("SLURM_JOB_END_TIME", "1700000000");
  set("SLURM_NTASKS", "8");
  EXPECT_EQ(slurm().job, "4711");
  EXPECT_EQ(slurm().node_list, "n[1-2]");
  EXPECT_EQ(slurm().restarts, 3);
  EXPECT_EQ(slurm().end_time, 1.7e9);
  EXPECT_EQ(slurm().step_tasks, std::nullopt) << "a batch script is not started 8 times";
  set("SLURM_STEP_ID", "0");
  EXPECT_EQ(slurm().step_tasks, 8);
  set("SLURM_STEP_NUM_TASKS", "4");
  EXPECT_EQ(slurm().step_tasks, 4);
  EXPECT_EQ(launched_processes(), 4);
  set("OMPI_COMM_WORLD_SIZE", "6");
  EXPECT_EQ(launched_processes(), 6);
}

TEST_F(SiteTest, NonsenseInAVariableIsNothing) {
  set("SLURM_JOB_END_TIME", "soon");
  set("PMI_SIZE", "");
  EXPECT_EQ(slurm().end_time, std::nullopt);
  set("SLURM_JOB_END_TIME", "0");
  EXPECT_EQ(slurm().end_time, std::nullopt);
  EXPECT_EQ(launched_processes(), 1);
}

TEST_F(SiteTest, MemoryIsTheTightestLimit) {
  const std::uint64_t all = node_memory();
  EXPECT_GT(all, 0U);
  set("SLURM_MEM_PER_NODE", "64");
  EXPECT_EQ(node_memory(), 64 * mib / 10 * 9);
  EXPECT_EQ(memory_share(4), 64 * mib / 10 * 9 / 4);
  EXPECT_EQ(memory_share(0), memory_share(1));
  ::unsetenv("SLURM_MEM_PER_NODE");
  set("SLURM_MEM_PER_CPU", "8");
  set("SLURM_CPUS_ON_NODE", "4");
  EXPECT_EQ(node_memory(), 32 * mib / 10 * 9);
  set("SLURM_MEM_PER_NODE", "0");
  ::unsetenv("SLURM_MEM_PER_CPU");
  EXPECT_GT(node_memory(), 64 * mib) << "0 is all of the node";
}

TEST_F(SiteTest, ThisProcess) {
  const std::uint64_t before = peak_memory();
  EXPECT_GT(before, mib);
  std::string block(64 * mib, 'x');
  block[block.size() / 2] = 'y';
  EXPECT_GE(peak_memory(), before + 32 * mib);
  EXPECT_GE(address_space(), peak_memory());
  EXPECT_EQ(program_file().filename().string().substr(0, 4), "base");
  const int opened = ::open("/dev/null", O_RDONLY);
  const std::vector<int> all = open_descriptors();
  ::close(opened);
  EXPECT_NE(std::find(all.begin(), all.end(), opened), all.end());
  const std::size_t files = open_file_limit();
  raise_open_file_limit();
  EXPECT_GE(open_file_limit(), files);
  EXPECT_NE(host_name(), "");
}

}  // namespace
}  // namespace lox
