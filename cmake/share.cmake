# The manual page and the shells' completions: printed by the command itself, so that they have its options.
include(GNUInstallDirs)
set(share ${CMAKE_BINARY_DIR}/share)
add_custom_command(OUTPUT ${share}/lockstep.1 ${share}/lockstep.bash ${share}/_lockstep ${share}/lockstep.fish
  COMMAND ${CMAKE_COMMAND} -E make_directory ${share}
  COMMAND lockstep man > ${share}/lockstep.1
  COMMAND lockstep completion bash > ${share}/lockstep.bash
  COMMAND lockstep completion zsh > ${share}/_lockstep
  COMMAND lockstep completion fish > ${share}/lockstep.fish
  DEPENDS lockstep VERBATIM)
add_custom_target(lockstep_share ALL DEPENDS ${share}/lockstep.1)
install(FILES ${share}/lockstep.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT command)
install(FILES ${share}/lockstep.bash RENAME lockstep DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        COMPONENT command)
set(zsh_folder site-functions)
if(CMAKE_INSTALL_PREFIX STREQUAL /usr)
  set(zsh_folder vendor-completions)  # where Debian's zsh looks
endif()
install(FILES ${share}/_lockstep DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/${zsh_folder} COMPONENT command)
install(FILES ${share}/lockstep.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT command)
