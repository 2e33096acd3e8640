/* weights.h - finds the GGUF file that a model was compiled from, or all parts of a split one, maps
 * or reads it, and refuses any other.
 *
 * The fingerprint of each file is its size and a hash of its tensor index: code compiled for one file
 * reads another's weights at wrong offsets without any other sign of it.
 */
#ifndef GGUFC_WEIGHTS_H
#define GGUFC_WEIGHTS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "ggufc/runtime.h"

typedef struct weights {
    const uint8_t *data;
    uint64_t       mapped_bytes;   /* of file or of memory; 0: embedded, nothing to unmap */
    uint64_t       locked_bytes;   /* from `data` on, that stay in memory */
    char           path[PATH_MAX]; /* of the first part; "(embedded)" */
} weights;

typedef struct weights_request {
    const char *path; /* NULL: see weights_open */
    bool        copy; /* into memory of our own, in huge pages where the system has them; else mapped */
    bool        lock; /* read at once, and never pushed out of memory */
} weights_request;

/* Opens the path asked for, or, when that is NULL, the first there is of: embedded weights, a file named as
   the recorded one beside the executable, the recorded path. Of a split model the path is any part, the
   others are beside it, named alike; found without a path, all are where the first part is. An error
   names the file that it is about. */
ggufc_status weights_open(weights *w, const ggufc_model *model, const weights_request *wanted,
                          ggufc_error *error);

void weights_close(weights *w); /* a zeroed one is allowed */

#endif
