// SPDX-License-Identifier: MIT
#include "lox/task/report_place.hpp"

#include <fstream>
#include <string>

#include "support/expect_error.hpp"
#include "support/scratch.hpp"
#include <gtest/gtest.h>

namespace lox {
namespace {

void put(const fs::path& path) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << "x";
}

/// Two models, and an output that is begun.
class ReportPlace : public ::testing::Test {
 protected:
  ReportPlace() {
    put(root_ / "base/model.safetensors");
    put(root_ / "base/sub/chat.jinja");
    put(root_ / "blobs/abc");
    fs::create_symlink("../blobs/abc", root_ / "base/config.json");
    put(root_ / "aligned.h5");
    put(root_ / "out.partial/model.safetensors");
    put(root_ / "out.journal/job.json");
    fs::create_directory(root_ / "other");
  }
  void check(const fs::path& report, const fs::path& output) {
    check_report(report, OutputPaths(output), {root_ / "base", root_ / "aligned.h5"});
  }
  void refuse(const fs::path& report, const std::string& fact) {
    testing::expect_error(ExitCode::bad_input, [&] { check(report, root_ / "out"); },
                          {report.filename().string(), fact});
  }
  fs::path link(const std::string& name, const fs::path& target) {
    fs::create_symlink(target, root_ / name);
    return root_ / name;
  }

  testing::Scratch scratch_;
  fs::path root_ = scratch_.path();
};

TEST_F(ReportPlace, GoodOnes) {
  put(root_ / "old.json");
  for (const char* name : {"out.report.json", "old.json", "base.json", "other/out.json", "out2", "partial"}) {
    EXPECT_NO_THROW(check(root_ / name, root_ / "out")) << name;
  }
  EXPECT_NO_THROW(check(link("to-new", "other/new.json"), root_ / "out"));
  link("round", "round");
  EXPECT_NO_THROW(check(root_ / "round", root_ / "out"));
}

TEST_F(ReportPlace, ALongName) {
  EXPECT_NO_THROW(check(root_ / std::string(251, 'n'), root_ / "out"));  // with .tmp while it is written
  refuse(root_ / std::string(252, 'n'), "a name of 256 bytes");
}

TEST_F(ReportPlace, AnInput) {
  refuse(root_ / "aligned.h5", "input");
  refuse(root_ / "base/model.safetensors", "input");
  refuse(root_ / "base/sub/chat.jinja", "sub/chat.jinja");
  refuse(root_ / "other/../base/config.json", "input");
  refuse(root_ / "base/new.json", "input");
  refuse(root_ / "base/sub/new.json", "input");
  refuse(root_ / "base", "input");
}

TEST_F(ReportPlace, AnInputByAnotherName) {
  refuse(root_ / "blobs/abc", "config.json");  // the input has a link to it
  fs::create_hard_link(root_ / "base/model.safetensors", root_ / "hard");
  refuse(root_ / "hard", "model.safetensors");
  refuse(link("to-file", "base/model.safetensors"), "input");
  refuse(link("to-link", "to-file"), "input");
  refuse(link("to-new", "base/new.json"), "input");
  link("folder", "base");
  refuse(root_ / "folder/new.json", "input");
}

TEST_F(ReportPlace, TheOutput) {
  refuse(root_ / "out", "output");
  refuse(root_ / "out/report.json", "output");  // not there yet
  refuse(root_ / "out.partial", "output");
  refuse(root_ / "out.partial/report.json", "output");
  refuse(root_ / "out.journal/job.json", "output");
  refuse(link("to-partial", "out.partial/model.safetensors"), "output");
  refuse(link("to-output", "out"), "output");
  link("here", ".");
  refuse(root_ / "here/out", "output");
}

TEST_F(ReportPlace, TheHalfWrittenOneBesideIt) {
  fs::rename(root_ / "aligned.h5", root_ / "aligned.tmp");
  testing::expect_error(
      ExitCode::bad_input,
      [&] {
        check_report(root_ / "aligned", OutputPaths(root_ / "out"), {root_ / "base", root_ / "aligned.tmp"});
      },
      {"aligned", "input"});
}

TEST_F(ReportPlace, AFolder) {
  refuse(root_ / "other", "folder");
}

TEST_F(ReportPlace, AnOutputInsideAnInputIsToldByOthers) {
  EXPECT_NO_THROW(check(root_ / "base/out.report.json", root_ / "base/out"));
}

}  // namespace
}  // namespace lox
