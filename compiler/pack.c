/* First fit: offsets are tried where an earlier item ends. */
#include "pack.h"

static bool overlap_in_time(const pack_item *a, const pack_item *b) {
    return a->first <= b->last && b->first <= a->last;
}

static uint64_t first_fit(const pack_item *item, pack_item *const *placed, uint32_t n) {
    uint64_t at = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < n; i++) {
            const pack_item *other = placed[i];
            if (!overlap_in_time(item, other) || at >= other->offset + other->bytes ||
                other->offset >= at + item->bytes)
                continue;
            at = round_up(other->offset + other->bytes, PACK_ALIGN);
            moved = true;
        }
    }
    return at;
}

uint64_t pack_place(pack_item *const *items, uint32_t count) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        items[i]->offset = first_fit(items[i], items, i);
        uint64_t end = items[i]->offset + items[i]->bytes;
        if (end > bytes) bytes = end;
    }
    return round_up(bytes, PACK_ALIGN);
}
