// lockstep doctor: devices, links and how fast they are; what is wrong, and how to mend it.
#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/diagnosis.h"
#include "cli/measure.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/table.h"
#include "core/check.h"
#include "lockstep/version.h"

namespace lockstep::cli {
namespace {

struct DoctorOptions {
  std::string device = "auto";
  int tp = 0;
  bool json = false;
};

struct Measurement {
  std::string mesh;  // "cpu x 4"
  MeshSpeed speed;
};

struct Report {
  HostReport host;
  std::optional<GpuReport> gpus;  // none where only the CPU was to be examined
  std::vector<Measurement> measurements;
  std::vector<Finding> findings;

  bool broken() const {
    for (const Finding& finding : findings)
      if (finding.broken) return true;
    return false;
  }
};

std::string size(std::uint64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

void measure(const Mesh& mesh, Report& report) {
  try {
    report.measurements.push_back({to_string(mesh), measure_mesh(mesh)});
  } catch (const Error& error) {
    report.findings.push_back(diagnose_failure("measuring " + to_string(mesh), error.what()));
  }
}

Report examine(const DoctorOptions& options) {
  // A measurement that hangs shall end while somebody is watching.
  setenv("LOCKSTEP_TIMEOUT_SECONDS", "20", /*overwrite=*/0);
  Report report;
  report.host = report_host();
  if (options.device != "cpu") report.gpus = report_gpus();
  report.findings = diagnose(report.host, report.gpus);
  const int gpus = report.gpus ? static_cast<int>(report.gpus->gpus.size()) : 0;
  const bool built_in = report.gpus && report.gpus->built_in;
  if (options.device == "cuda" && gpus == 0 && !report.broken())
    report.findings.push_back(
        {true, "there is no GPU to examine",
         built_in ? "this host has none" : "this build of Lockstep has no CUDA",
         built_in ? "use --device cpu"
                  : "build with -DLOCKSTEP_CUDA=ON where the CUDA toolkit and NCCL "
                    "are"});
  if (options.device != "cuda") {
    constexpr int kRanks = 4;
    const int ranks = options.tp > 0 ? options.tp : std::min(kRanks, report.host.cores);
    measure(Mesh::tensor_parallel(ranks, DeviceType::kCpu), report);
  }
  if (gpus > 0) {
    if (options.tp > gpus)
      report.findings.push_back({true, fmt::format("{} ranks need as many GPUs", options.tp),
                                 fmt::format("there are {}", gpus), "use a smaller --tp"});
    else
      measure(Mesh::tensor_parallel(options.tp > 0 ? options.tp : gpus, DeviceType::kCuda), report);
  }
  return report;
}

nlohmann::ordered_json gpus_json(const GpuReport& gpus) {
  nlohmann::ordered_json json = {{"built_in", gpus.built_in},
                                 {"runtime_version", gpus.runtime_version},
                                 {"driver_version", gpus.driver_version},
                                 {"driver_release", gpus.driver_release},
                                 {"error", gpus.error_name},
                                 {"libraries", nlohmann::ordered_json::object()},
                                 {"devices", nlohmann::ordered_json::array()}};
  for (const GpuLibrary& library : gpus.libraries)
    json["libraries"][library.name] = library.version;
  for (std::size_t i = 0; i < gpus.gpus.size(); ++i) {
    const GpuInfo& gpu = gpus.gpus[i];
    nlohmann::ordered_json entry = {{"name", gpu.name},
                                    {"bus_id", gpu.bus_id},
                                    {"total_bytes", gpu.total_bytes},
                                    {"free_bytes", gpu.free_bytes},
                                    {"compute_capability", gpu.compute_capability},
                                    {"multiprocessors", gpu.multiprocessors},
                                    {"clock_mhz", gpu.clock},
                                    {"max_clock_mhz", gpu.max_clock},
                                    {"memory_clock_mhz", gpu.memory_clock},
                                    {"error", gpu.error},
                                    {"links", nlohmann::ordered_json::array()}};
    for (const GpuLink& link : gpus.links[i])
      entry["links"].push_back({{"kind", link.kind}, {"peer_access", link.peer_access}});
    json["devices"].push_back(std::move(entry));
  }
  return json;
}

void print_json(const Report& report) {
  const HostReport& host = report.host;
  nlohmann::ordered_json json = {
      {"version", version()},
      {"git_revision", git_revision()},
      {"backends", backends()},
      {"ok", !report.broken()},
      {"host",
       {{"cpu", host.cpu},
        {"cores", host.cores},
        {"all_cores", host.all_cores},
        {"simd", host.simd},
        {"memory_bytes", host.memory},
        {"available_bytes", host.available},
        {"nvidia_devices", host.nvidia_devices}}},
      {"cuda", report.gpus ? gpus_json(*report.gpus) : nlohmann::ordered_json()},
      {"measurements", nlohmann::ordered_json::array()},
      {"findings", nlohmann::ordered_json::array()}};
  for (const Measurement& measurement : report.measurements) {
    const MeshSpeed& speed = measurement.speed;
    nlohmann::ordered_json entry = {{"mesh", measurement.mesh},
                                    {"read_gb_per_s", speed.read_gb_per_s},
                                    {"upload_gb_per_s", speed.upload_gb_per_s},
                                    {"all_reduce", nlohmann::ordered_json::array()}};
    for (const AllReduceTime& time : speed.all_reduce)
      entry["all_reduce"].push_back(
          {{"bytes", time.bytes}, {"sum_us", time.sum_us}, {"nccl_us", time.nccl_us}});
    json["measurements"].push_back(std::move(entry));
  }
  for (const Finding& finding : report.findings)
    json["findings"].push_back({{"broken", finding.broken},
                                {"what", finding.what},
                                {"cause", finding.cause},
                                {"cure", finding.cure}});
  write_out(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

void print_host(const HostReport& host) {
  Table table({{"CPU", Table::Align::kLeft}, {host.cpu, Table::Align::kLeft}});
  table.add({"cores", fmt::format("{} of {}", host.cores, host.all_cores)});
  table.add({"SIMD", host.simd});
  table.add({"memory", fmt::format("{}, {} available", size(host.memory), size(host.available))});
  write_out(for_output(table));
}

void print_gpus(const GpuReport& gpus) {
  write_out("\n");
  if (!gpus.built_in) {
    write_out(
        "No CUDA in this build. Where the CUDA toolkit and NCCL are installed, build with\n"
        "-DLOCKSTEP_CUDA=ON to run on NVIDIA GPUs.\n");
    return;
  }
  Table versions({{"CUDA", Table::Align::kLeft}, {gpus.runtime_version, Table::Align::kLeft}});
  versions.add({"driver", gpus.driver_version.empty()
                              ? "none"
                              : fmt::format("{}, runs CUDA up to {}",
                                            gpus.driver_release.empty() ? "of unknown release"
                                                                        : gpus.driver_release,
                                            gpus.driver_version)});
  for (const GpuLibrary& library : gpus.libraries)
    versions.add({library.name, library.error.empty() ? library.version : "not found"});
  write_out(for_output(versions));
  if (gpus.gpus.empty()) {
    write_out("no GPU\n");
    return;
  }
  Table table({{"GPU"},
               {"name", Table::Align::kLeft},
               {"memory"},
               {"free"},
               {"compute"},
               {"SMs"},
               {"MHz"},
               {"memory MHz"}});
  for (std::size_t i = 0; i < gpus.gpus.size(); ++i) {
    const GpuInfo& gpu = gpus.gpus[i];
    table.add({std::to_string(i), gpu.name, size(gpu.total_bytes), size(gpu.free_bytes),
               fmt::format("{}.{}", gpu.compute_capability / 10, gpu.compute_capability % 10),
               std::to_string(gpu.multiprocessors),
               gpu.max_clock ? fmt::format("{} of {}", gpu.clock, gpu.max_clock) : "",
               gpu.memory_clock ? std::to_string(gpu.memory_clock) : ""});
  }
  write_out("\n" + for_output(table));
}

// What connects the GPUs; "no peer access" where one cannot write to the other.
void print_links(const GpuReport& gpus) {
  if (gpus.links.size() < 2) return;
  std::vector<Table::Column> columns = {{"link"}};
  for (std::size_t i = 0; i < gpus.links.size(); ++i)
    columns.push_back({std::to_string(i), Table::Align::kLeft});
  Table table(columns);
  for (std::size_t a = 0; a < gpus.links.size(); ++a) {
    std::vector<std::string> cells = {std::to_string(a)};
    for (std::size_t b = 0; b < gpus.links[a].size(); ++b) {
      const GpuLink& link = gpus.links[a][b];
      cells.push_back(a == b              ? "-"
                      : !link.peer_access ? "no peer access"
                      : link.kind.empty() ? "peer access"
                                          : link.kind);
    }
    table.add(std::move(cells));
  }
  write_out("\n" + for_output(table));
}

void print_measurement(const Measurement& measurement) {
  const MeshSpeed& speed = measurement.speed;
  std::string reading =
      fmt::format("{}: memory is read at {:.1f} GB/s", measurement.mesh, speed.read_gb_per_s);
  if (speed.upload_gb_per_s > 0)
    reading += fmt::format(", and filled from the host at {:.1f} GB/s", speed.upload_gb_per_s);
  write_out("\n" + heading(reading));
  if (speed.all_reduce.empty()) return;
  const bool nccl = speed.all_reduce.front().nccl_us > 0;
  std::vector<Table::Column> columns = {{"all-reduce of"}, {"microseconds"}};
  if (nccl) columns.push_back({"through NCCL"});
  Table table(columns);
  for (const AllReduceTime& time : speed.all_reduce) {
    std::vector<std::string> cells = {fmt::format("{} KiB", time.bytes >> 10),
                                      fmt::format("{:.1f}", time.sum_us)};
    if (nccl) cells.push_back(fmt::format("{:.1f}", time.nccl_us));
    table.add(std::move(cells));
  }
  write_out(for_output(table));
}

void print_findings(const Report& report) {
  write_out("\n");
  for (const Finding& finding : report.findings)
    write_out(fmt::format("{}: {}\n  cause: {}\n  cure:  {}\n", finding.broken ? "BROKEN" : "note",
                          finding.what, finding.cause, finding.cure));
  if (!report.broken()) write_out("All is well.\n");
}

int run_doctor(const DoctorOptions& options) {
  const Report report = examine(options);
  if (options.json) {
    print_json(report);
  } else {
    write_out(fmt::format("lockstep {}, backends: {}\n\n", version(), backends()));
    print_host(report.host);
    if (report.gpus) print_gpus(*report.gpus);
    if (report.gpus) print_links(*report.gpus);
    for (const Measurement& measurement : report.measurements) print_measurement(measurement);
    print_findings(report);
  }
  return report.broken() ? 1 : 0;
}

}  // namespace

void add_doctor(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand(
      "doctor", "Devices, links and their speed; what is wrong with them, and how to mend it");
  command.footer(
      "Examples:\n"
      "  lockstep doctor                        # exit status 1: something is broken\n"
      "  lockstep doctor --device cuda --tp 2\n"
      "  lockstep doctor --json | jq .findings");
  auto options = std::make_shared<DoctorOptions>();
  add_option(command, "--device", options->device, "What to examine; auto: all there is", "DEVICE")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  add_option(command, "--tp", options->tp,
             "Ranks to measure with; 0: all GPUs, and up to 4 CPU ranks", "TP")
      ->check(CLI::Range(0, Mesh::kMaxWorldSize));
  command.add_flag("--json", options->json, "One JSON object")->envname("LOCKSTEP_JSON");
  command.parse_complete_callback(
      [options, &run] { run = [options] { return run_doctor(*options); }; });
}

}  // namespace lockstep::cli
