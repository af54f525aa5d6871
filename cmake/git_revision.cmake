# cmake -DSOURCE_DIR=... -DHEADER=... -P git_revision.cmake: writes the header when the revision has changed.
execute_process(COMMAND git rev-parse --show-prefix WORKING_DIRECTORY ${SOURCE_DIR}
                OUTPUT_VARIABLE prefix RESULT_VARIABLE status ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
set(revision "")
if(status EQUAL 0 AND prefix STREQUAL "")  # not a tarball within somebody else's repository
  execute_process(COMMAND git describe --always --exclude=* --abbrev=12 --dirty WORKING_DIRECTORY ${SOURCE_DIR}
                  OUTPUT_VARIABLE revision ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define LOCKSTEP_GIT_REVISION \"${revision}\"\n")
