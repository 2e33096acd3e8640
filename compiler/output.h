/* output.h - files that appear whole or not at all, and the programs that make them. */
#ifndef GGUFC_OUTPUT_H
#define GGUFC_OUTPUT_H

#include "diag.h"

/* Refuses an output that a rename would put in the place of something else: a folder, a device, a
   pipe, a link, or one of the `inputs`, which end with NULL, or of the parts of one. */
bool output_check(diag *d, const char *path, const char *const *inputs);

/* A name beside `path` to write to; output_commit renames it there. Until then it is removed when
   the process is interrupted (SIGINT, SIGTERM, SIGHUP, SIGQUIT). */
const char *output_temporary(arena *a, const char *path);

bool output_write(diag *d, const char *path, const void *data, size_t size);
bool output_print(diag *d, const void *data, size_t size); /* to standard output */
bool output_commit(diag *d, const char *temporary, const char *path);
void output_discard(const char *temporary);

/* Runs argv[0] (found in PATH) to its end, without a shell. Reports it when it fails. */
bool output_run(diag *d, const char *const *argv);

#define OUTPUT_MAX_OBJECTS 16

/* Links n objects with the runtime library, by the system's cc (or $CC), into an executable, or into a shared library
   that is called so. */
bool output_link(diag *d, const char *const *objects, uint32_t n, const char *runtime, const char *path,
                 const char *library);

/* Makes one object of n. */
bool output_join(diag *d, const char *const *objects, uint32_t n, const char *path);

/* Makes an object of assembly. */
bool output_assemble(diag *d, const char *assembly, const char *path);

/* Makes a static library of the members of `runtime` and n objects. */
bool output_archive(diag *d, const char *const *objects, uint32_t n, const char *runtime, const char *path);

/* The runtime library: `given`, else beside the compiler, else where it is installed. NULL after
   an error was reported. */
const char *output_find_runtime(arena *a, diag *d, const char *given);

#endif
