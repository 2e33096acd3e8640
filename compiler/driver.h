/* driver.h - what the command line needs of the driver beyond ggufc/compiler.h. */
#ifndef GGUFC_DRIVER_H
#define GGUFC_DRIVER_H

#include "base.h"
#include "ggufc/compiler.h"

/* "gguf", "arch", …; NULL past the last. */
const char *driver_stage_name(enum ggufc_stage stage);

/* What a name lacks to be the emitted symbol's, as in "is not …"; NULL where it can be. */
const char *driver_symbol_lacks(const char *name);

/* templates/model.h.in with @WORD@ replaced; `words` ends with a NULL name. */
struct header_word {
    const char *name, *text;
};
const char *header_fill(arena *a, const struct header_word *words);

#endif
