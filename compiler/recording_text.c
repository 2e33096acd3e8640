/* recording_text.c - files of numbers.
 *
 * Engines print numbers as it comes: one a line, a row a line, the index before them. All of these
 * are read, and told apart by the file alone:
 *
 *     1.5              # one a line
 *     1.5, 2.5, -3     # or a row of them, blanks or commas between, one comma may end it
 *     0: 1.5           # lines that count up from 0 or 1; a count that begins again is another row
 *     0 1.5            # the same without the colon: if all of at least two lines count
 *
 * The last form can only be known at the end of the file: until then the indices are kept as if
 * they were numbers. Numbers are those of strtof in the C locale, whatever locale the program that
 * uses this library has set.
 */
#include "recording_read.h"

#include "gguf_read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WORD = 4,            /* the bytes of an f32 or of an id */
    MAX_EXPONENT = 1000, /* what is beyond it is 0 or infinite */
};

bool recording_has_end(const char *text, const char *end) {
    size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && !memcmp(text + n - n_end, end, n_end);
}

/* ---- a whole file */

static bool read_all(int fd, char *to, size_t size) {
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, to + at, size - at);
        if (n < 0 && errno == EINTR) continue;
        if (!n) errno = EIO; /* the file became shorter */
        if (n <= 0) return false;
        at += (size_t)n;
    }
    return true;
}

static bool load_open_file(arena *a, diag *d, int fd, recording_bytes *out) {
    struct stat st;
    if (fstat(fd, &st)) return diag_error(d, "%s: %s", out->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return diag_error(d, "%s: this is no regular file", out->path);
    char *data = arena_alloc(a, (size_t)st.st_size + 1);
    if (!read_all(fd, data, (size_t)st.st_size))
        return diag_error(d, "%s: cannot read: %s", out->path, strerror(errno));
    out->data = data;
    out->size = (uint64_t)st.st_size;
    return true;
}

bool recording_load(arena *a, diag *d, const char *path, recording_bytes *out) {
    *out = (recording_bytes){ .path = path };
    /* Without O_NONBLOCK a named pipe would wait for its writer before it can be refused. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return diag_error(d, "%s: cannot open: %s", path, strerror(errno));
    bool ok = load_open_file(a, d, fd, out);
    close(fd);
    return ok;
}

bool recording_check_text(diag *d, const recording_bytes *text) {
    size_t n = strlen(text->data);
    return n == text->size ||
           diag_error(d, "%s: a zero byte at offset %zu, expected text", text->path, n);
}

/* ---- binary */

static bool check_ids(diag *d, const char *path, const int32_t *ids, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] < 0)
            return diag_error(d, "%s: number %" PRIu32 " is %" PRId32
                              ", expected a token id, which is 0 or more", path, i, ids[i]);
    return true;
}

bool recording_parse_binary(arena *a, diag *d, const recording_bytes *file,
                            enum recording_number kind, recording_numbers *out) {
    const char *what = kind == RECORDING_ID ? "32-bit token ids" : "32-bit floats";
    uint64_t n = file->size / WORD;
    if (file->size % WORD || !n)
        return diag_error(d, "%s: %" PRIu64 " bytes are no whole number of %s", file->path,
                          file->size, what);
    if (n > INT32_MAX)
        return diag_error(d, "%s: %" PRIu64 " numbers, at most %d can be read", file->path, n,
                          INT32_MAX);
    uint32_t *words = ARENA_ARRAY(a, uint32_t, n);
    for (uint64_t i = 0; i < n; i++)
        words[i] = (uint32_t)gguf_load((const uint8_t *)file->data + i * WORD, WORD);
    *out = (recording_numbers){ .words = words, .n = (uint32_t)n };
    return kind != RECORDING_ID || check_ids(d, file->path, out->words, out->n);
}

/* ---- text */

/* An index that counts lines: from 0 or 1, and from there again for another row as long. */
typedef struct counter {
    bool     begun;
    uint64_t first, next;
    uint64_t row; /* the length of those before; 0 in the first */
} counter;

typedef struct scanner {
    const recording_bytes *text;
    arena    *memory; /* of the scan */
    diag     *d;
    locale_t  c_locale;
    enum recording_number kind;
    const char *at, *end;
    uint64_t line, n_lines; /* n_lines: those that hold numbers */
    uint32_t *words;
    uint32_t n, capacity;
    recorded_precision precision; /* of those so far */
    uint32_t line_length; /* of all lines so far */
    bool     ragged;      /* they have none in common */

    bool    labelled; /* lines begin with "INDEX:" */
    counter labels;
    bool    pairs; /* so far every line is "INDEX NUMBER" */
    counter pair_counter;
} scanner;

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static void skip_blanks(scanner *s) {
    while (is_blank(*s->at)) s->at++;
}

/* Whether nothing more is on the line; the text ends with a zero byte. */
static bool is_line_end(const scanner *s) {
    return s->at == s->end || *s->at == '\n' || *s->at == '#';
}

static bool is_number_end(const scanner *s) {
    return is_line_end(s) || is_blank(*s->at) || *s->at == ',';
}

static void skip_line(scanner *s) {
    const char *end = memchr(s->at, '\n', (size_t)(s->end - s->at));
    s->at = end ? end + 1 : s->end;
}

/* "FILE:LINE: 'what stands there' …" */
static bool refuse(scanner *s, const char *from, const char *what) {
    for (s->at = from; !is_number_end(s) || s->at == from;) s->at++;
    const char *found = gguf_quote(s->memory, (gguf_string){ from, (uint64_t)(s->at - from) });
    return diag_error(s->d, "%s:%" PRIu64 ": %s %s", s->text->path, s->line, found, what);
}

/* Digits from `at` on; a number too large for what indices and ids can be stays too large. */
static const char *take_digits(const char *at, uint64_t *out) {
    for (*out = 0; is_digit(*at); at++)
        if (*out <= UINT32_MAX) *out = *out * 10 + (uint64_t)(*at - '0');
    return at;
}

static bool take_id(scanner *s, uint32_t *word) {
    uint64_t id;
    const char *from = s->at;
    s->at = take_digits(from, &id);
    if (s->at == from || !is_number_end(s) || id > INT32_MAX)
        return refuse(s, from, "is no token id, which is an integer from 0 to 2147483647");
    *word = (uint32_t)id;
    return true;
}

/* Whole numbers say nothing of how others are written: an index is one, and a 0. */
static void take_precision(scanner *s, const char *from, const char *end) {
    int  n_decimals = 0, n_digits = 0;
    long exponent = 0;
    bool point = false;
    if (!memchr(from, '.', (size_t)(end - from)) || memchr(from, 'x', (size_t)(end - from))) return;
    for (; from < end && *from != 'e' && *from != 'E'; from++) {
        n_decimals += point && is_digit(*from);
        n_digits += is_digit(*from) && (n_digits || *from != '0');
        point = point || *from == '.';
    }
    if (from < end) exponent = strtol(from + 1, NULL, 10);
    if (exponent < -MAX_EXPONENT) exponent = -MAX_EXPONENT;
    if (exponent > MAX_EXPONENT) exponent = MAX_EXPONENT;
    n_decimals -= (int)exponent;
    if (!s->precision.n_digits || n_decimals > s->precision.n_decimals) s->precision.n_decimals = n_decimals;
    if (n_digits > s->precision.n_digits) s->precision.n_digits = n_digits;
}

static bool take_float(scanner *s, uint32_t *word) {
    const char *from = s->at;
    char *end;
    float value = strtof_l(from, &end, s->c_locale);
    s->at = end;
    if (end == from || !is_number_end(s)) return refuse(s, from, "is no number");
    take_precision(s, from, end);
    memcpy(word, &value, sizeof value);
    return true;
}

static bool take_number(scanner *s) {
    if (s->n == INT32_MAX)
        return diag_error(s->d, "%s:%" PRIu64 ": more than %d numbers, no more can be read",
                          s->text->path, s->line, INT32_MAX);
    uint32_t *word = arena_push(s->memory, (void **)&s->words, &s->n, &s->capacity, WORD);
    return s->kind == RECORDING_ID ? take_id(s, word) : take_float(s, word);
}

/* Whether a row may end here. One of a single number is none: a column of zeros does not count. */
static bool is_row(const counter *c) {
    uint64_t n = c->next - c->first;
    return c->row ? n == c->row : n > 1;
}

static bool count(counter *c, uint64_t index) {
    if (!c->begun && index <= 1) {
        *c = (counter){ .begun = true, .first = index, .next = index + 1 };
        return true;
    }
    bool ends = c->begun && is_row(c);
    if (ends && index == c->first) {
        c->row = c->next - c->first;
        c->next = c->first + 1;
        return true;
    }
    if (!c->begun || index != c->next || (ends && c->row)) return false;
    c->next++;
    return true;
}

/* "INDEX:", if the line begins so; all lines do or none. */
static bool take_label(scanner *s) {
    uint64_t index;
    const char *from = s->at, *at = take_digits(from, &index);
    bool found = at > from;
    while (is_blank(*at)) at++;
    found = found && *at == ':';
    if (s->n_lines == 1) s->labelled = found;
    if (found != s->labelled)
        return refuse(s, from, found ? "has an index, which lines before have not"
                                     : "has no index, which lines before have");
    if (!found) return true;
    if (!count(&s->labels, index))
        return refuse(s, from, "is not the next index: they count up from 0 or 1");
    s->at = at + 1;
    skip_blanks(s);
    if (!is_line_end(s)) return true;
    return refuse(s, from, "has no number after it");
}

/* Whether the numbers of a line, the first of which stands at `from`, are an index and one more. */
static bool is_pair(scanner *s, const char *from, uint32_t n_numbers) {
    uint64_t index;
    return n_numbers == 2 && is_blank(*take_digits(from, &index)) && is_digit(*from) &&
           !memchr(from, ',', (size_t)(s->at - from)) && count(&s->pair_counter, index);
}

static bool scan_line(scanner *s) {
    skip_blanks(s);
    if (is_line_end(s)) return true;
    s->n_lines++;
    if (!take_label(s)) return false;
    const char *from = s->at;
    uint32_t before = s->n;
    while (!is_line_end(s)) {
        if (!take_number(s)) return false;
        skip_blanks(s);
        if (*s->at == ',') s->at++;
        skip_blanks(s);
    }
    s->pairs = s->pairs && !s->labelled && is_pair(s, from, s->n - before);
    s->ragged = s->ragged || (s->n_lines > 1 && s->line_length != s->n - before);
    s->line_length = s->n - before;
    return true;
}

static bool scan(scanner *s) {
    if (s->text->size >= 3 && !memcmp(s->at, "\xef\xbb\xbf", 3)) s->at += 3; /* a byte order mark */
    for (s->line = 1; s->at < s->end; s->line++) {
        if (!scan_line(s)) return false;
        skip_line(s);
    }
    if (!s->n) return diag_error(s->d, "%s: no number in this file", s->text->path);
    if (!s->labels.row || is_row(&s->labels)) return true;
    return diag_error(s->d, "%s: the last index is %" PRIu64 ", expected rows of %" PRIu64
                      " like the first", s->text->path, s->labels.next - 1, s->labels.row);
}

static bool has_indices(const scanner *s) {
    return s->pairs && s->n_lines >= 2 && (!s->pair_counter.row || is_row(&s->pair_counter));
}

/* A row is a line, or as many lines as are counted up. */
static uint32_t find_row(const scanner *s) {
    uint64_t row = has_indices(s) ? s->pair_counter.row : s->ragged ? 0 : s->line_length;
    if (s->labelled && s->labels.row) row *= s->labels.row;
    return row > 1 && row < s->n ? (uint32_t)row : 0;
}

static void drop_indices(scanner *s) {
    if (!has_indices(s)) return;
    s->n /= 2;
    for (uint32_t i = 0; i < s->n; i++) s->words[i] = s->words[i * 2 + 1];
}

bool recording_parse_text(arena *a, diag *d, const recording_bytes *text,
                          enum recording_number kind, recording_numbers *out) {
    scanner s = {
        .text = text, .memory = arena_new(), .d = d, .kind = kind,
        .at = text->data, .end = text->data + text->size, .pairs = true,
    };
    s.c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!s.c_locale) bug("the C locale is missing");
    bool ok = scan(&s);
    if (ok) {
        uint32_t row = find_row(&s);
        drop_indices(&s);
        uint32_t *words = ARENA_ARRAY(a, uint32_t, s.n);
        memcpy(words, s.words, (size_t)s.n * WORD);
        *out = (recording_numbers){ words, s.n, row, s.precision };
    }
    freelocale(s.c_locale);
    arena_free(s.memory);
    return ok;
}
