# The library that programs use, shared and static, made of the objects of all modules; how it is installed,
# with a CMake package and a pkg-config file.
get_property(objects GLOBAL PROPERTY LOCKSTEP_OBJECTS)
get_property(dependencies GLOBAL PROPERTY LOCKSTEP_DEPENDENCIES)
list(REMOVE_DUPLICATES dependencies)
list(REMOVE_ITEM dependencies nlohmann_json::nlohmann_json)  # headers alone, which our headers do not include

# What a consumer of the static library needs for each dependency: as CMake finds it, and for its linker. A
# consumer of the shared library needs none of it.
set(find_dependencies "")
set(private_libs "")
foreach(dependency IN LISTS dependencies)
  if(dependency STREQUAL fmt::fmt)
    string(APPEND find_dependencies "  find_dependency(fmt)\n")
    string(APPEND private_libs " -lfmt")
  elseif(dependency STREQUAL spdlog::spdlog)
    string(APPEND find_dependencies "  find_dependency(spdlog)\n")
    string(APPEND private_libs " -lspdlog")
  elseif(dependency STREQUAL Threads::Threads)
    string(APPEND find_dependencies "  find_dependency(Threads)\n")
    string(APPEND private_libs " -pthread")
  elseif(dependency MATCHES "^PkgConfig::(.*)")
    set(prefix ${CMAKE_MATCH_1})
    string(APPEND find_dependencies "  find_dependency(PkgConfig)\n"
           "  pkg_check_modules(${prefix} REQUIRED IMPORTED_TARGET ${${prefix}_MODULE_NAME})\n")
    list(TRANSFORM ${prefix}_LIBRARIES PREPEND " -l" OUTPUT_VARIABLE flags)
    string(JOIN "" flags ${flags})
    string(APPEND private_libs "${flags}")
  elseif(dependency STREQUAL CUDA::cudart_static)
    string(APPEND find_dependencies "  find_dependency(CUDAToolkit)\n")
    string(APPEND private_libs " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lrt")
  elseif(dependency STREQUAL "${CMAKE_DL_LIBS}")
    string(APPEND private_libs " -l${CMAKE_DL_LIBS}")
  else()
    message(FATAL_ERROR "cmake/library.cmake does not know how a consumer of the static library finds "
            "${dependency}, which a module uses: add a branch that says so")
  endif()
endforeach()

foreach(kind IN ITEMS shared static)
  string(TOUPPER ${kind} type)
  add_library(lockstep_${kind} ${type} ${objects})
  target_compile_features(lockstep_${kind} INTERFACE cxx_std_20)
  target_include_directories(lockstep_${kind} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                             $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>)
  target_link_libraries(lockstep_${kind} PRIVATE ${dependencies})
  set_target_properties(lockstep_${kind} PROPERTIES OUTPUT_NAME lockstep LINKER_LANGUAGE CXX
                        VERSION ${PROJECT_VERSION} SOVERSION ${LOCKSTEP_SOVERSION})
endforeach()
set_target_properties(lockstep_shared PROPERTIES EXPORT_NAME lockstep)
add_library(lockstep::lockstep ALIAS lockstep_shared)
add_library(lockstep::lockstep_static ALIAS lockstep_static)

# The public headers choose what is visible; this keeps out what templates of other libraries add to it.
configure_file(${PROJECT_SOURCE_DIR}/cmake/lockstep.map.in ${CMAKE_CURRENT_BINARY_DIR}/lockstep.map @ONLY)
target_link_options(lockstep_shared PRIVATE -Wl,--as-needed
                    -Wl,--version-script=${CMAKE_CURRENT_BINARY_DIR}/lockstep.map)
set_target_properties(lockstep_shared PROPERTIES LINK_DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/lockstep.map)
if(NOT LOCKSTEP_SANITIZE)  # a sanitizer's functions are in the program
  target_link_options(lockstep_shared PRIVATE -Wl,--no-undefined)
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Lockstep)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ ${PROJECT_BINARY_DIR}/include/
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development FILES_MATCHING PATTERN "*.h")
install(TARGETS lockstep_shared EXPORT LockstepSharedTargets
        LIBRARY COMPONENT library NAMELINK_COMPONENT development
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS lockstep_static EXPORT LockstepStaticTargets
        ARCHIVE COMPONENT development INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
foreach(kind IN ITEMS Shared Static)
  install(EXPORT Lockstep${kind}Targets NAMESPACE lockstep:: DESTINATION ${package_dir} COMPONENT development)
endforeach()

include(CMakePackageConfigHelpers)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/LockstepConfig.cmake.in
                              ${CMAKE_CURRENT_BINARY_DIR}/LockstepConfig.cmake
                              INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/LockstepConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/LockstepConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/LockstepConfigVersion.cmake
        DESTINATION ${package_dir} COMPONENT development)

# From the folder of the pkg-config file, so that the tree can be moved.
file(RELATIVE_PATH prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" prefix_from_pc "${prefix_from_pc}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/lockstep.pc.in ${CMAKE_CURRENT_BINARY_DIR}/lockstep.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lockstep.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT development)
