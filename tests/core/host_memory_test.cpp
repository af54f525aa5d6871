#include "core/host_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// A folder with the files of /proc and /sys that a test wants.
class HostMemoryTest : public testing::Test {
 protected:
  HostMemoryTest() {
    write("proc/meminfo",
          "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:    8000000 kB\n");
  }
  ~HostMemoryTest() override { fs::remove_all(root_); }

  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << text;
  }
  std::uint64_t available() const { return available_host_memory(root_); }

  const fs::path root_ =
      fs::temp_directory_path() / ("lockstep_memory_" + std::to_string(getpid()) + "_" +
                                   testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(HostMemoryTest, WithoutGroupsItIsWhatTheKernelSays) {
  EXPECT_EQ(available(), 8'192'000'000u);
  write("proc/self/cgroup", "0::/\n");
  EXPECT_EQ(available(), 8'192'000'000u);
}

TEST_F(HostMemoryTest, AGroupOfVersion2Limits) {
  write("proc/self/cgroup", "0::/user/job\n");
  write("sys/fs/cgroup/user/job/memory.max", "5000000000\n");
  write("sys/fs/cgroup/user/job/memory.current", "2000000000\n");
  EXPECT_EQ(available(), 3'000'000'000u);
  // Files' pages are given up.
  write("sys/fs/cgroup/user/job/memory.stat", "anon 7\nactive_file 100\ninactive_file 23\n");
  EXPECT_EQ(available(), 3'000'000'123u);
  // So does a group around it.
  write("sys/fs/cgroup/user/memory.max", "1000\n");
  write("sys/fs/cgroup/user/memory.current", "400\n");
  EXPECT_EQ(available(), 600u);
  write("sys/fs/cgroup/user/memory.current", "1400\n");
  EXPECT_EQ(available(), 0u);
  write("sys/fs/cgroup/user/memory.max", "max\n");
  EXPECT_EQ(available(), 3'000'000'123u);
}

TEST_F(HostMemoryTest, AContainerSeesItsGroupAtTheTop) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "3000\n");
  write("sys/fs/cgroup/memory.current", "1000\n");
  EXPECT_EQ(available(), 2000u);
}

TEST_F(HostMemoryTest, AGroupOfVersion1Limits) {
  write("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1000\n");
  EXPECT_EQ(available(), 8'192'000'000u);
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "6000\n");
  write("sys/fs/cgroup/memory/job/memory.stat",
        "active_file 9\ntotal_inactive_file 5\ntotal_active_file 20\n");
  EXPECT_EQ(available(), 5025u);
}

TEST_F(HostMemoryTest, WhatCannotBeReadLimitsNothing) {
  write("proc/self/cgroup", "nonsense\n::\n0::/../../etc\n4:memory\n");
  write("proc/meminfo", "MemAvailable: much\n");
  EXPECT_EQ(available(), ~std::uint64_t{0});
  EXPECT_EQ(available_host_memory(root_ / "absent"), ~std::uint64_t{0});
}

TEST(AvailableHostMemoryTest, ThisHostHasSome) {
  EXPECT_GT(available_host_memory(), 0u);
  EXPECT_LT(available_host_memory(), std::uint64_t{1} << 50);
}

}  // namespace
}  // namespace lockstep
