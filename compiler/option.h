/* option.h - reading a command line by tables.
 *
 * An option is a row: a name, what its value is called, how it is read. A flag is `--name=VALUE` or
 * `--name VALUE`; one of a single letter `-x VALUE`. Each reader gets the target of its table, so that
 * commands share tables. */
#ifndef GGUFC_OPTION_H
#define GGUFC_OPTION_H

#include "base.h"

/* Reads `text` into the target; false after it said what is wrong (option_wrong). */
typedef bool option_reader(void *target, const char *name, const char *text);

typedef struct option {
    const char    *name, *short_name; /* "--prompt", "-p" or NULL */
    const char    *argument;          /* what --help calls the value; NULL: it takes none */
    option_reader *read;
    const char    *help;
} option;

typedef struct option_table {
    const option *rows; /* the last has a NULL name */
    void         *target;
} option_table;

/* The command whose line is read, for --help. */
typedef struct option_command {
    const char *usage; /* "usage: …", and what the command does */
    const option_table *tables; /* the last has NULL rows */
    const char **operands;      /* what is no option, in order */
    int n_operands;             /* room; set to how many there are */
} option_command;

enum option_result { OPTION_RUN, OPTION_DONE, OPTION_WRONG };

/* Reads argv[1] and on. OPTION_DONE: --help or --version was answered. OPTION_WRONG: one line on
   standard error said what is wrong. */
enum option_result option_parse(option_command *command, int argc, char **argv);

/* The exit status after OPTION_DONE: 0, or 1 after it was said that the answer could not be written. */
int option_done(void);

/* A line of help for each row that has any. */
void option_print_rows(const option_table *tables);

/* The row for argv[0], which may hold a value, among the tables; NULL where there is none. `table`
   is set to where it was, *words to how many of argv it takes. */
const option *option_find(const option_table *tables, char **argv, const option_table **table,
                          int *words);

/* Reads it. */
bool option_read(const option *o, const option_table *table, char **argv);

/* "ggufc: error: NAME: 'TEXT' is not EXPECTED"; false. */
bool option_wrong(const char *name, const char *text, const char *expected);

/* Readers of values; the last two write to *out what is in range, else say so. */
int  option_find_word(const char *const *words, const char *text, size_t size); /* or -1 */
bool option_read_u32(const char *name, const char *text, uint32_t least, uint32_t most, uint32_t *out);
bool option_read_number(const char *name, const char *text, double least, double most, double *out);

#endif
