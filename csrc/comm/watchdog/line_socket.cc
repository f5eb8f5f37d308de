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
#include <cstring>

#include "csrc/base/error.h"

namespace sutor {
namespace {

// Far more than any rank has to say between two beats.
constexpr size_t kLongestLine = size_t{1} << 24;

// Close-on-exec everywhere: a child process (a Python step) that held a copy would keep the
// connection of a dead rank open.
constexpr int kSocketFlags = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

FileDescriptor connect_to(const std::string& address, int port, double seconds, int& error) {
  FileDescriptor fd(::socket(AF_INET, kSocketFlags, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  ::inet_pton(AF_INET, address.c_str(), &to.sin_addr);
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

LineSocket::LineSocket(int fd) : fd_(fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

LineSocket LineSocket::connect(const std::vector<std::string>& addresses, int port,
                               double seconds_each) {
  std::string tried;
  for (const std::string& address : addresses) {
    int error = 0;
    FileDescriptor fd = connect_to(address, port, seconds_each, error);
    if (fd.get() >= 0) {
      LineSocket socket;
      socket.fd_ = std::move(fd);
      const int on = 1;
      ::setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return socket;
    }
    tried +=
        fmt::format("{}{}:{} ({})", tried.empty() ? "" : ", ", address, port, std::strerror(error));
  }
  fail(
      ErrorCode::kWatchdogUnconnected,
      "the watchdog's connection to another rank failed: tried {}. The nodes of a job should reach "
      "each other by TCP on any port; SUTOR_WATCHDOG=off trains without (a dead rank is then "
      "noticed after SUTOR_COMM_TIMEOUT only).",
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
      return out_.size() < kLongestLine;
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
    const ssize_t count = ::recv(fd(), buffer, sizeof buffer, 0);
    if (count > 0) {
      in_.append(buffer, static_cast<size_t>(count));
      gone = in_.size() > kLongestLine;
    } else if (count < 0 && errno == EAGAIN) {
      break;
    } else if (count == 0 || errno != EINTR) {
      gone = true;
    }
  }
  size_t begin = 0;
  for (size_t end; (end = in_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(in_.substr(begin, end - begin));
  }
  in_.erase(0, begin);
  return !gone;
}

LineListener::LineListener(bool only_this_host) : fd_(::socket(AF_INET, kSocketFlags, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(only_this_host ? INADDR_LOOPBACK : INADDR_ANY);
  socklen_t length = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  if (fd_.get() < 0 || ::bind(fd_.get(), raw, length) != 0 || ::listen(fd_.get(), SOMAXCONN) != 0 ||
      ::getsockname(fd_.get(), raw, &length) != 0) {
    fail(ErrorCode::kWatchdogUnconnected,
         "the watchdog found no TCP port to listen on: {}. SUTOR_WATCHDOG=off trains without it.",
         std::strerror(errno));
  }
  port_ = ntohs(address.sin_port);
}

LineSocket LineListener::accept() {
  const int fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  return fd >= 0 ? LineSocket(fd) : LineSocket();
}

std::vector<std::string> addresses_of_this_host() {
  std::vector<std::string> result;
  char name[HOST_NAME_MAX + 1] = "";
  ::gethostname(name, sizeof name - 1);
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  if (::getaddrinfo(name, nullptr, &hints, &found) == 0) {
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
