/* pack.h - places in one memory for things that are needed only for a time. */
#ifndef GGUFC_PACK_H
#define GGUFC_PACK_H

#include "base.h"

#define PACK_ALIGN 64

/* Something that is made at one time and last used at another, both counted in any steps that
   increase. */
typedef struct pack_item {
    uint32_t first, last;
    uint64_t bytes;
    uint64_t offset; /* set by pack_place */
} pack_item;

/* Gives each of the `count` items the lowest offset, a multiple of PACK_ALIGN, at which it meets
   none before it that lives at the same time. Returns the bytes that all of them take. */
uint64_t pack_place(pack_item *const *items, uint32_t count);

#endif
