// sutor doctor: whether this machine, this launcher and this folder can carry a run.
#include "launch/doctor/doctor.h"

#include <fmt/format.h>

#include <cstdlib>

#include "csrc/base/error.h"
#include "csrc/base/text/json.h"
#include "launch/cli/command_line.h"
#include "launch/job/failure.h"
#include "launch/job/job.h"
#include "launch/job/launcher.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

constexpr VerbHelp kHelp{
    "doctor",
    "Looks whether this machine, the launcher and a folder can carry a run: versions, CPU, GPUs, "
    "ranks seen against ranks started, round trips between them, Python steps, rights, space, "
    "rate, "
    "locks and HDF5 in the folder, and whether all ranks see it. Each failure has its remedy; exit "
    "code 1 when there is one. Start it as the training will be started.",
    "sutor doctor [--out DIR] [--json]",
    "sutor doctor --out runs/my\n"
    "mpiexec -n 4 sutor doctor --out /shared/runs"};

// A rank that hangs in a round trip shall not make the others wait for half an hour.
constexpr const char* kMostSeconds = "90";

// Why the processes of this start cannot find each other; empty when they can.
std::string start_problem() {
  try {
    detect_launcher(process_environment());
    return "";
  } catch (const Error& error) {
    return fmt::format("{}: {}", error.code(), error.what());
  }
}

int report(const std::vector<SharedFinding>& findings, const Comm& world, bool json) {
  if (world.rank() == 0 && json) {
    fmt::print("{}\n", dump_json(doctor_json(findings, world.size()), 1));
  } else if (world.rank() == 0) {
    fmt::print("{}", doctor_text(findings, world.size()));
  }
  return all_work(findings) ? kExitOk : kExitCheckFailed;
}

}  // namespace

int verb_doctor(const Arguments& arguments) {
  po::options_description options;
  options.add_options()("out", po::value<std::string>()->default_value("."),
                        "the folder of runs that is to be tried (what is there of it)")(
      "json", po::bool_switch(), "print JSON and nothing else");
  ::setenv("SUTOR_COMM_TIMEOUT", kMostSeconds, /*replace=*/0);
  const std::string problem = start_problem();
  const auto body = [&](Comm& world) {
    const auto values = parse_command_line(kHelp, options, {}, arguments);
    if (!values) return static_cast<int>(kExitOk);
    return report(examine((*values)["out"].as<std::string>(), world, problem), world,
                  (*values)["json"].as<bool>());
  };
  if (problem.empty()) return run_job(body);
  // Each process would be a job of its own: the first one speaks.
  if (!speaks_for_all(process_environment())) return kExitCheckFailed;
  return run_alone([&] { return body(*make_self_comm()); });
}

}  // namespace sutor
