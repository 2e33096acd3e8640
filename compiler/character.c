#include "character.h"

#include <stdio.h>
#include <string.h>

static unsigned sequence_length(unsigned char lead) {
    if (lead < 0x80) return 1;
    if (lead >= 0xc2 && lead <= 0xdf) return 2;
    if (lead >= 0xe0 && lead <= 0xef) return 3;
    if (lead >= 0xf0 && lead <= 0xf4) return 4;
    return 0;
}

/* The code point of `size` bytes; false where they are none, or written longer than need be. */
static bool decode(const unsigned char *s, unsigned size, uint32_t *code) {
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    uint32_t c = size == 1 ? s[0] : s[0] & (0x7fu >> size);
    for (unsigned i = 1; i < size; i++) {
        if ((s[i] & 0xc0) != 0x80) return false;
        c = c << 6 | (s[i] & 0x3f);
    }
    *code = c;
    return size && c >= least[size] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
}

bool character_take(const char **text, const char *end, character *c) {
    const unsigned char *s = (const unsigned char *)*text;
    if (end ? *text == end : !*s) return false;
    *c = (character){ .bytes = *text, .size = sequence_length(*s) };
    c->valid = (!end || c->size <= (size_t)(end - *text)) && decode(s, c->size, &c->code);
    if (!c->valid) {
        c->size = 1;
        c->code = *s;
    }
    *text += c->size;
    return true;
}

typedef struct range {
    uint32_t first, last;
} range;

static bool in_ranges(const range *r, size_t n, uint32_t code) {
    for (size_t i = 0; i < n; i++)
        if (code >= r[i].first && code <= r[i].last) return true;
    return false;
}

bool character_drives(const character *c) {
    static const range drives[] = {
        { 0, 0x1f },          { 0x7f, 0x9f },       { 0x61c, 0x61c },     { 0x200e, 0x200f },
        { 0x2028, 0x202e },   { 0x2066, 0x2069 },
    };
    return in_ranges(drives, ARRAY_LEN(drives), c->code);
}

unsigned character_columns(const character *c) {
    static const range none[] = {
        { 0x300, 0x36f }, { 0x200b, 0x200d }, { 0x20d0, 0x20ff }, { 0xfe00, 0xfe0f },
    };
    static const range two[] = {
        { 0x1100, 0x115f },   { 0x2e80, 0xa4cf },   { 0xac00, 0xd7a3 },   { 0xf900, 0xfaff },
        { 0xfe30, 0xfe6f },   { 0xff00, 0xff60 },   { 0xffe0, 0xffe6 },   { 0x1f300, 0x1faff },
        { 0x20000, 0x3fffd },
    };
    if (in_ranges(none, ARRAY_LEN(none), c->code)) return 0;
    return in_ranges(two, ARRAY_LEN(two), c->code) ? 2 : 1;
}

unsigned character_show(char *to, const character *c) {
    if (c->valid && !character_drives(c)) {
        memcpy(to, c->bytes, c->size);
        to[c->size] = 0;
        return character_columns(c);
    }
    if (c->code == '\n') return (unsigned)snprintf(to, CHARACTER_SHOWN, "\\n");
    for (unsigned i = 0; i < c->size; i++)
        snprintf(to + 4 * i, 5, "\\x%02X", (unsigned char)c->bytes[i]);
    return 4 * c->size;
}
