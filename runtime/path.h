/* path.h - the parts of a path. */
#ifndef GGUFC_PATH_H
#define GGUFC_PATH_H

#include <string.h>

/* The last part of `path`: all of it where it has no slash. */
static inline const char *path_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

#endif
