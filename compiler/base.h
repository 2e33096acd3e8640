/* base.h - what every part of the compiler stands on: arenas, strings, broken invariants. */
#ifndef GGUFC_BASE_H
#define GGUFC_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define PRINTF_LIKE(at, first) __attribute__((format(printf, at, first)))

/* Memory that is released whole. One lives as long as a compilation, one as long as a pass. */
typedef struct arena arena;

arena *arena_new(void);
void   arena_free(arena *a); /* NULL is allowed */

/* `bytes` zeroed bytes, aligned to 16. Never NULL: without memory the process ends with a message
   and exit status 1, the one exit outside main(). */
void *arena_alloc(arena *a, size_t bytes);

/* As arena_alloc, for `count` elements of `size` bytes; an overflowing product is out of memory. */
void *arena_array(arena *a, size_t count, size_t size);

/* A NUL-terminated copy of the `size` bytes at `text`. */
char *arena_copy_text(arena *a, const char *text, size_t size);

char *arena_printf(arena *a, const char *format, ...) PRINTF_LIKE(2, 3);

#define ARENA_NEW(a, type)          ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, count) ((type *)arena_array((a), (count), sizeof(type)))

/* A growable array whose storage is in an arena: `items` of `size` bytes each. Returns the address
   of the new, zeroed last element; *items may move. */
void *arena_push(arena *a, void **items, uint32_t *count, uint32_t *capacity, size_t size);

/* Ends the process for a broken invariant of ours: file:line and the message, then abort(). Never
   for bad input. */
#define bug(...) base_bug(__FILE__, __LINE__, __VA_ARGS__)
_Noreturn void base_bug(const char *file, int line, const char *format, ...) PRINTF_LIKE(3, 4);

/* The last part of `path`: all of it where it has no slash. */
const char *base_name(const char *path);

static inline uint64_t round_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

#endif
