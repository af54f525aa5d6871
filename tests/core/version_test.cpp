#include "lockstep/version.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string>

namespace lockstep {
namespace {

TEST(Version, IsTheOneOfTheHeaders) {
  EXPECT_EQ(version(), LOCKSTEP_VERSION);
  EXPECT_EQ(version(), fmt::format("{}.{}.{}", LOCKSTEP_VERSION_MAJOR, LOCKSTEP_VERSION_MINOR,
                                   LOCKSTEP_VERSION_PATCH));
}

TEST(Version, NamesTheCommit) {
  EXPECT_THAT(std::string(git_revision()), testing::MatchesRegex("([0-9a-f]+(-dirty)?)?"));
}

TEST(Version, NamesTheBackends) {
  EXPECT_THAT(backends(), testing::AnyOf(testing::Eq("cpu"), testing::Eq("cpu, cuda")));
}

}  // namespace
}  // namespace lockstep
