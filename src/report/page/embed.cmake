# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.22)
# Writes OUTPUT, a C++ source with the page of the folder SOURCE and of uPlot's package at UPLOT; if that is empty, with
# an empty page.
set(page "")
if(UPLOT)
  file(READ ${SOURCE}/page.html page)
  file(READ ${UPLOT}/LICENSE licence)
  file(READ ${UPLOT}/dist/uPlot.min.css style)
  file(READ ${SOURCE}/page.css own)
  string(APPEND style "\n${own}")
  file(READ ${UPLOT}/dist/uPlot.iife.min.js script)
  set(script "/*!\n${licence}*/\n${script}\n(() => {\n\"use strict\";\n")
  foreach(part dom data heat plot summary csv page)
    file(READ ${SOURCE}/${part}.js own)
    string(APPEND script "\n${own}")
  endforeach()
  string(APPEND script "})();\n")
  if(script MATCHES "</[sS]|<!--|@data@")
    message(FATAL_ERROR "a script of the page holds what would end it")
  endif()
  string(REPLACE "@style@" "${style}" page "${page}")
  string(REPLACE "@script@" "${script}" page "${page}")
endif()
file(WRITE ${OUTPUT}.html "${page}")
file(READ ${OUTPUT}.html bytes HEX)
file(REMOVE ${OUTPUT}.html)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "// Made by embed.cmake.
#include \"lox/report/html.hpp\"

std::string_view lox::page_template() {
  static constexpr unsigned char bytes[] = {${bytes}0};
  return {reinterpret_cast<const char*>(bytes), sizeof(bytes) - 1};
}
")
