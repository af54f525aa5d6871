#include "lockstep/version.h"

#include "git_revision.h"  // made when building, see cmake/git_revision.cmake

namespace lockstep {

std::string_view version() { return LOCKSTEP_VERSION; }
std::string_view git_revision() { return LOCKSTEP_GIT_REVISION; }
std::string_view backends() { return LOCKSTEP_BACKENDS; }

}  // namespace lockstep
