#include "csrc/comm/watchdog/line_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "csrc/base/error.h"
#include "csrc/base/process/host.h"

namespace sutor {
namespace {

// Enough to name all ranks of a very large job.
constexpr size_t kLongestLine = size_t{1} << 20;
// What is kept for a socket that does not take it.
constexpr size_t kMostToSend = size_t{1} << 22;

// Close-on-exec everywhere: a child process (a Python step) with a copy would keep the connection
// of a dead rank open.
constexpr int kSocketFlags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

FileDescriptor connect_to(const std::string& endpoint, double seconds, int& error) {
  FileDescriptor fd(::socket(AF_INET, kSocketFlags, 0));
  const size_t colon = endpoint.rfind(':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::atoi(endpoint.c_str() + colon + 1)));
  ::inet_pton(AF_INET, endpoint.substr(0, colon).c_str(), &to.sin_addr);
  error = 0;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return fd;
  error = errno;
  if (error != EINPROGRESS) return FileDescriptor();
  pollfd wait{fd.get(), POLLOUT, 0};
  if (::poll(&wait, 1, static_cast<int>(seconds * 1000)) != 1) {
    error = ETIMEDOUT;
    return FileDescriptor();
  }
  socklen_t length = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error == 0 ? std::move(fd) : FileDescriptor();
}

void add_unless_there(std::vector<std::string>& addresses, const sockaddr* address) {
  if (address == nullptr || address->sa_family != AF_INET) return;
  char text[INET_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof text);
  if (std::strncmp(text, "127.", 4) == 0) return;
  if (std::find(addresses.begin(), addresses.end(), text) == addresses.end()) {
    addresses.push_back(text);
  }
}

}  // namespace

LineSocket::LineSocket(int fd, size_t longest_line) : fd_(fd), longest_line_(longest_line) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

LineSocket LineSocket::connect(const std::vector<std::string>& endpoints, double seconds_each) {
  std::string tried;
  for (const std::string& endpoint : endpoints) {
    int error = 0;
    FileDescriptor fd = connect_to(endpoint, seconds_each, error);
    if (fd.get() >= 0) {
      LineSocket socket;
      socket.fd_ = std::move(fd);
      socket.longest_line_ = kLongestLine;
      const int on = 1;
      ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return socket;
    }
    tried += fmt::format("{}{} ({})", tried.empty() ? "" : ", ", endpoint, std::strerror(error));
  }
  fail(
      ErrorCode::kWatchdogUnconnected,
      "the watchdog's connection to another rank failed: tried {}. The nodes of a job should reach "
      "each other by TCP on any port; SUTOR_WATCHDOG=off trains without it (a dead rank is then "
      "noticed only after SUTOR_COMM_TIMEOUT).",
      tried.empty() ? "no address" : tried);
}

bool LineSocket::send(const std::string& line) {
  out_ += line;
  out_ += '\n';
  return flush();
}

bool LineSocket::flush() {
  while (open() && !out_.empty()) {
    const ssize_t count = ::send(fd(), out_.data(), out_.size(), MSG_NOSIGNAL);
    if (count > 0) {
      out_.erase(0, static_cast<size_t>(count));
    } else if (errno == EAGAIN) {
      return out_.size() < kMostToSend;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return open();
}

bool LineSocket::read(std::vector<std::string>& lines) {
  bool gone = !open();
  char buffer[1 << 14];
  while (!gone) {
    // Of a line that is too long no more than that is kept.
    const size_t most = std::min(sizeof buffer, longest_line_ + 1 - in_.size());
    const ssize_t count = ::recv(fd(), buffer, most, 0);
    if (count > 0) {
      in_.append(buffer, static_cast<size_t>(count));
      take_lines(lines);
      gone = in_.size() > longest_line_;
    } else if (count < 0 && errno == EAGAIN) {
      break;
    } else if (count == 0 || errno != EINTR) {
      gone = true;
    }
  }
  return !gone;
}

void LineSocket::take_lines(std::vector<std::string>& lines) {
  size_t begin = 0;
  for (size_t end; (end = in_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(in_.substr(begin, end - begin));
  }
  in_.erase(0, begin);
}

void LineSocket::allow_long_lines() { longest_line_ = kLongestLine; }

LineListener::LineListener(const std::string& address) : fd_(::socket(AF_INET, kSocketFlags, 0)) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  ::inet_pton(AF_INET, address.c_str(), &at.sin_addr);
  socklen_t length = sizeof at;
  auto* raw = reinterpret_cast<sockaddr*>(&at);
  if (fd_.get() < 0 || ::bind(fd_.get(), raw, length) != 0 || ::listen(fd_.get(), SOMAXCONN) != 0 ||
      ::getsockname(fd_.get(), raw, &length) != 0) {
    fail(ErrorCode::kWatchdogUnconnected,
         "the watchdog found no TCP port of {} to listen on: {}. SUTOR_WATCHDOG=off trains without "
         "it.",
         address, std::strerror(errno));
  }
  endpoint_ = fmt::format("{}:{}", address, ntohs(at.sin_port));
}

LineSocket LineListener::accept(size_t longest_line) {
  const int fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  return fd >= 0 ? LineSocket(fd, longest_line) : LineSocket();
}

std::vector<std::string> addresses_of_this_host() {
  std::vector<std::string> result;
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host_name().c_str(), nullptr, &hints, &found) == 0) {
    for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
      add_unless_there(result, a->ai_addr);
    }
    ::freeaddrinfo(found);
  }
  ifaddrs* interfaces = nullptr;
  if (::getifaddrs(&interfaces) == 0) {
    for (const ifaddrs* i = interfaces; i != nullptr; i = i->ifa_next) {
      if (i->ifa_flags & IFF_UP) add_unless_there(result, i->ifa_addr);
    }
    ::freeifaddrs(interfaces);
  }
  return result;
}

}  // namespace sutor
