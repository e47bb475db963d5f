# Lets rosidl generate interfaces against the ROS 2 wheels. Used as CMAKE_PROJECT_INCLUDE, so that CMakeLists.txt itself
# stays free of it; a ROS installation needs none of this.
#
# The exported targets of the wheels name the include folders of the machine that built them (CMake refuses folders that
# are not there), and a virtual environment inside the source tree makes the own generated target name folders below the
# source, which install(EXPORT) refuses. Both lists are cleaned when everything else has been said.

include_guard(GLOBAL)

function(grex_drop_missing_include_folders)
  get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS imported)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(present "")
    foreach(folder IN LISTS folders)
      if(folder MATCHES "\\$<" OR EXISTS "${folder}")
        list(APPEND present "${folder}")
      endif()
    endforeach()
    if(NOT "${present}" STREQUAL "${folders}")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
    endif()
  endforeach()

  set(generated "${PROJECT_NAME}__rosidl_generator_py")
  if(TARGET ${generated})
    set_target_properties(${generated} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "")
  endif()
endfunction()

cmake_language(DEFER CALL grex_drop_missing_include_folders)
