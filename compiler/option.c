#include "option.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool option_wrong(const char *name, const char *text, const char *expected) {
    fprintf(stderr, "ggufc: error: %s: '%s' is not %s\n", name, text, expected);
    return false;
}

/* ---- values */

int option_find_word(const char *const *words, const char *text, size_t size) {
    for (int i = 0; words[i]; i++)
        if (strlen(words[i]) == size && !strncmp(words[i], text, size)) return i;
    return -1;
}

bool option_read_u32(const char *name, const char *text, uint32_t least, uint32_t most, uint32_t *out) {
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || n < least || n > most)
        return option_wrong(name, text, "a number in range");
    *out = (uint32_t)n;
    return true;
}

bool option_read_number(const char *name, const char *text, double least, double most, double *out) {
    char  *end;
    double x = strtod(text, &end);
    if (!*text || *end || !(x >= least && x <= most)) return option_wrong(name, text, "a number in range");
    *out = x;
    return true;
}

/* ---- rows */

static bool has_name(const option *o, const char *arg, size_t size) {
    const char *names[] = { o->name, o->short_name };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i] && strlen(names[i]) == size && !strncmp(names[i], arg, size)) return true;
    return false;
}

const option *option_find(const option_table *tables, char **argv, const option_table **table,
                          int *words) {
    bool   is_long = !strncmp(argv[0], "--", 2);
    size_t size = is_long ? strcspn(argv[0], "=") : strlen(argv[0]);
    for (const option_table *t = tables; t->rows; t++)
        for (const option *o = t->rows; o->name; o++) {
            if (!has_name(o, argv[0], size)) continue;
            *table = t;
            *words = o->argument && !argv[0][size] ? 2 : 1;
            return o;
        }
    return NULL;
}

bool option_read(const option *o, const option_table *table, char **argv) {
    size_t      size = strncmp(argv[0], "--", 2) ? strlen(argv[0]) : strcspn(argv[0], "=");
    const char *text = argv[0][size] ? argv[0] + size + 1 : NULL;
    char        name[40];
    snprintf(name, sizeof name, "%.*s", (int)size, argv[0]);
    if (!o->argument && text) {
        fprintf(stderr, "ggufc: error: %s takes no value\n", name);
        return false;
    }
    if (o->argument && !text && !(text = argv[1])) {
        fprintf(stderr, "ggufc: error: %s needs a value: %s\n", name, o->argument);
        return false;
    }
    return o->read(table->target, name, text);
}

/* ---- a command line */

static void print_row(const option *o) {
    char flag[64];
    snprintf(flag, sizeof flag, "%s%s%s%s%s", o->short_name ? o->short_name : "",
             o->short_name ? ", " : "", o->name,
             !o->argument ? "" : o->name[1] == '-' ? "=" : " ", o->argument ? o->argument : "");
    printf("  %-24s %s\n", flag, o->help);
}

static void print_help(const option_command *command) {
    printf("%s\n", command->usage);
    for (const option_table *t = command->tables; t->rows; t++)
        for (const option *o = t->rows; o->name; o++)
            if (o->help) print_row(o);
    puts("  --help, --version");
}

static bool take_option(const option_command *command, char **argv, int *words) {
    const option_table *table;
    const option       *o = option_find(command->tables, argv, &table, words);
    if (o) return option_read(o, table, argv);
    fprintf(stderr, "ggufc: error: unknown option '%s'; --help lists them\n", argv[0]);
    return false;
}

static bool take_operand(option_command *command, int room, const char *text) {
    if (command->n_operands < room) {
        command->operands[command->n_operands++] = text;
        return true;
    }
    fprintf(stderr, "ggufc: error: '%s' is one too many: %.*s\n", text,
            (int)strcspn(command->usage, "\n"), command->usage);
    return false;
}

enum option_result option_parse(option_command *command, int argc, char **argv) {
    int room = command->n_operands;
    command->n_operands = 0;
    for (int i = 1, words = 1; i < argc; i += words, words = 1) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            print_help(command);
            return OPTION_DONE;
        }
        if (!strcmp(argv[i], "--version")) {
            puts("ggufc " GGUFC_VERSION);
            return OPTION_DONE;
        }
        bool ok = argv[i][0] == '-' && argv[i][1] ? take_option(command, argv + i, &words)
                                                  : take_operand(command, room, argv[i]);
        if (!ok) return OPTION_WRONG;
    }
    return OPTION_RUN;
}
