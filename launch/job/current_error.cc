#include "launch/job/current_error.h"

#include <cerrno>
#include <exception>
#include <filesystem>
#include <new>
#include <system_error>

#include "csrc/base/crash_report.h"
#include "csrc/base/profile.h"

namespace sutor {
namespace {

Error out_of_memory(const std::string& what) {
  const char* scope = scope_of_failure();
  const long long left = address_space_left();
  return {ErrorCode::kOutOfMemory,
          fmt::format("out of memory{}: {}{}", scope ? fmt::format(" in `{}`", scope) : "", what,
                      left < 0 ? ""
                               : fmt::format(". {} MB are left of the limit of address space "
                                             "(`ulimit -v`)",
                                             left >> 20))};
}

// Of std::thread; files have errors of their own.
Error of_system(const std::system_error& error) {
  const int number = error.code().value();
  if (number != EAGAIN && number != ENOMEM) return {ErrorCode::kUnexpected, error.what()};
  return out_of_memory(
      fmt::format("a thread could not be started ({}); the number of threads (`ulimit -u`) may "
                  "have come to its "
                  "limit, too",
                  error.what()));
}

}  // namespace

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return out_of_memory("the C++ library got none");
  } catch (const std::filesystem::filesystem_error& error) {
    return {ErrorCode::kUnreadableFile,
            fmt::format("{}: {}", error.path1().string(), error.code().message())};
  } catch (const std::system_error& error) {
    return of_system(error);
  } catch (const std::exception& error) {
    return {ErrorCode::kUnexpected, error.what()};
  } catch (...) {
    return {ErrorCode::kUnexpected, "something was thrown that is no exception"};
  }
}

}  // namespace sutor
