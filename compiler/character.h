/* character.h - the characters of UTF-8 text of unknown origin, and which of them not to trust. */
#ifndef GGUFC_CHARACTER_H
#define GGUFC_CHARACTER_H

#include "base.h"

/* A character of UTF-8 or, where `valid` is false, one byte that is none (cut short, overlong, a
   surrogate, above U+10FFFF), which is its code then. */
typedef struct character {
    const char *bytes;
    unsigned    size;
    uint32_t    code;
    bool        valid;
} character;

/* Takes the next character from *text, which stands before `end`, or before a zero byte where that is
   NULL; false where there is none. */
bool character_take(const char **text, const char *end, character *c);

/* Whether it must not be shown as it is: control characters, and those that change the direction of
   what follows. Bytes that are no UTF-8 are not shown either. */
bool character_drives(const character *c);

enum { CHARACTER_SHOWN = 17 };

/* The character as people are shown it: itself, or "\n", or "\xNN" for each of its bytes. `to` has
   room for CHARACTER_SHOWN bytes. Returns the columns that it takes in a terminal. */
unsigned character_show(char *to, const character *c);

/* The columns that it takes in a terminal: roughly, what terminals agree on. */
unsigned character_columns(const character *c);

#endif
