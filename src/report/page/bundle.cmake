# SPDX-License-Identifier: MIT
# The page of `lox report --html`: what lies in this folder and uPlot, which npm gets, as one C++ source.
set(LOX_HTML AUTO CACHE STRING "Pages of `lox report --html`: AUTO (if npm can get uPlot), ON or OFF")
set_property(CACHE LOX_HTML PROPERTY STRINGS AUTO ON OFF)

set(page_source ${CMAKE_CURRENT_LIST_DIR})
set(page_build ${CMAKE_CURRENT_BINARY_DIR}/page)

# Sets `trouble` to why uPlot is not in the build folder; empty if it is. A minute at most, and once: what has failed is
# tried again only with LOX_HTML=ON, or after -ULOX_HTML_FAILED.
function(lox_get_uplot trouble)
  file(SHA256 ${page_source}/package-lock.json lock)
  if(EXISTS ${page_build}/lock-${lock})
    return()
  endif()
  find_program(LOX_NPM npm)
  if(NOT LOX_NPM)
    set(${trouble} "npm is not there" PARENT_SCOPE)
    return()
  endif()
  if(LOX_HTML STREQUAL "AUTO" AND LOX_HTML_FAILED STREQUAL lock)
    set(${trouble} "npm could not get uPlot before; -ULOX_HTML_FAILED tries again" PARENT_SCOPE)
    return()
  endif()
  file(REMOVE_RECURSE ${page_build})
  file(COPY ${page_source}/package.json ${page_source}/package-lock.json DESTINATION ${page_build})
  execute_process(
    COMMAND ${LOX_NPM} ci --ignore-scripts --no-audit --no-fund --no-update-notifier --prefer-offline --fetch-retries=0
      --fetch-timeout=30000
    WORKING_DIRECTORY ${page_build} TIMEOUT 60 RESULT_VARIABLE result OUTPUT_QUIET ERROR_VARIABLE said)
  if(result EQUAL 0)
    file(TOUCH ${page_build}/lock-${lock})
    unset(LOX_HTML_FAILED CACHE)
    return()
  endif()
  set(LOX_HTML_FAILED ${lock} CACHE INTERNAL "The lock file with which npm failed")
  string(REGEX MATCH "[^\n]*(code|network|request)[^\n]*" line "${said}")
  set(${trouble} "npm could not get uPlot (${result}) ${line}" PARENT_SCOPE)
endfunction()

set(page_trouble "LOX_HTML is off")
if(LOX_HTML)  # AUTO counts as true
  set(page_trouble "")
  lox_get_uplot(page_trouble)
endif()
if(page_trouble AND LOX_HTML AND NOT LOX_HTML STREQUAL "AUTO")
  message(FATAL_ERROR "LOX_HTML=${LOX_HTML}: ${page_trouble}")
endif()
if(page_trouble)
  message(STATUS "lox report --html is missing: ${page_trouble}. All else works.")
  set(page_uplot "")
else()
  set(page_uplot ${page_build}/node_modules/uplot)
endif()

file(GLOB page_files CONFIGURE_DEPENDS ${page_source}/*)
add_custom_command(OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/page_template.cpp DEPENDS ${page_files} VERBATIM
  COMMAND ${CMAKE_COMMAND} -D SOURCE=${page_source} -D UPLOT=${page_uplot}
    -D OUTPUT=${CMAKE_CURRENT_BINARY_DIR}/page_template.cpp -P ${page_source}/embed.cmake)
target_sources(lox_report PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/page_template.cpp)
