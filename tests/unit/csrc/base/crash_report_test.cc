// What a process says and its exit code when no exception could tell: shortened files, file-size
// limits, readers that have gone, libraries that give up.
#include "csrc/base/crash_report.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <stdexcept>
#include <thread>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/process/console.h"
#include "csrc/base/process/mapped_ranges.h"

namespace sutor {
namespace {

class CrashReport : public ::testing::Test {
 protected:
  CrashReport() {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    path_ = std::filesystem::temp_directory_path() / ("sutor-crash-" + std::to_string(::getpid()));
  }
  ~CrashReport() override { std::filesystem::remove(path_); }

  std::filesystem::path path_;
};

TEST_F(CrashReport, AShortenedMappedFileIsNamedWithExitCode3) {
  EXPECT_EXIT(
      {
        install_crash_report();
        write_file_atomic(path_, std::string(1 << 16, 'x'));
        const MappedFile file(path_);
        std::filesystem::resize_file(path_, 0);
        std::exit(static_cast<int>(file.bytes()[1 << 15]));
      },
      ::testing::ExitedWithCode(3), "E0303.*sutor-crash-.*was shortened");
}

TEST_F(CrashReport, AForgottenMappingIsNotNamed) {
  char page[16] = "";
  const int handle = note_mapped_range(page, sizeof page, "here");
  EXPECT_STREQ(mapped_path(page + 15), "here");
  EXPECT_EQ(mapped_path(page + 16), nullptr);
  forget_mapped_range(handle);
  EXPECT_EQ(mapped_path(page), nullptr);
}

TEST_F(CrashReport, AFileBeyondTheLimitOfSizesIsAnErrorThatNamesTheLimit) {
  EXPECT_EXIT(
      {
        install_crash_report();
        rlimit limit{};
        limit.rlim_cur = limit.rlim_max = 4096;
        ::setrlimit(RLIMIT_FSIZE, &limit);
        try {
          write_file_atomic(path_, std::string(8192, 'x'));
        } catch (const Error& error) {
          std::fprintf(stderr, "%s\n", error.what());
          ::_exit(error.exit_code());
        }
        ::_exit(0);
      },
      ::testing::ExitedWithCode(5), "4096 bytes here .`ulimit -f`");
}

TEST_F(CrashReport, AConsoleWithoutAReaderEndsNothing) {
  EXPECT_EXIT(
      {
        int ends[2];
        if (::pipe(ends) != 0) ::_exit(1);
        ::dup2(ends[1], STDOUT_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
        install_crash_report();
        keep_console_from_failing();
        for (int i = 0; i < 10000; ++i) fmt::print("a line\n");
        ::_exit(console_error() == 0 ? 7 : 1);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST_F(CrashReport, AFullDiskBehindStdoutIsKnown) {
  EXPECT_EXIT(
      {
        ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO);
        keep_console_from_failing();
        fmt::print("a line\n");
        ::_exit(console_error() == ENOSPC ? 7 : 1);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST_F(CrashReport, ClosedStandardStreamsAreOpened) {
  EXPECT_EXIT(
      {
        for (const int fd : {0, 1}) ::close(fd);
        open_standard_streams();
        ::_exit(::open("/dev/null", O_RDONLY) > 2 ? 7 : 1);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST_F(CrashReport, ALibraryThatCallsExitIsTakenForALackOfMemoryOrThreads) {
  EXPECT_EXIT(
      {
        install_crash_report();
        std::exit(1);
      },
      ::testing::ExitedWithCode(5), "E0503");
}

TEST_F(CrashReport, AnExceptionThatLeavesAThreadIsOneLine) {
  EXPECT_EXIT(
      {
        install_crash_report();
        std::thread([] { throw std::bad_alloc(); }).join();
      },
      ::testing::ExitedWithCode(5), "E0503");
  EXPECT_EXIT(
      {
        install_crash_report();
        std::thread([] { throw std::runtime_error("why"); }).join();
      },
      ::testing::ExitedWithCode(70), "E7000.*why");
}

TEST_F(CrashReport, ACrashWithoutALimitKeepsItsSignal) {
  EXPECT_EXIT(
      {
        install_crash_report();
        ::raise(SIGSEGV);
      },
      ::testing::KilledBySignal(SIGSEGV), "E7000.*SIGSEGV");
}

}  // namespace
}  // namespace sutor
