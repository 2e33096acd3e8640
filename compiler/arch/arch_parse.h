/* arch_parse.h - the parser's state, shared by arch_lex.c, arch_expr.c and arch_parse.c. */
#ifndef GGUFC_ARCH_PARSE_H
#define GGUFC_ARCH_PARSE_H

#include "arch_ast.h"

enum arch_token_kind {
    TOKEN_BAD, /* an error was reported */
    TOKEN_END, /* of the text */
    TOKEN_NEWLINE,
    TOKEN_NAME,
    TOKEN_WORD, /* a key or a tensor's name: everything up to a blank */
    TOKEN_INT,
    TOKEN_FLOAT,
    TOKEN_STRING,
    TOKEN_SYMBOL, /* text is "(", "<=", … */
};

typedef struct arch_token {
    enum arch_token_kind kind;
    arch_pos             pos;
    const char          *text; /* in the file, not terminated */
    size_t               size;
    arch_scalar          literal; /* TOKEN_INT, TOKEN_FLOAT; TOKEN_STRING: without escapes */
} arch_token;

typedef struct arch_parser {
    arena      *memory;
    diag       *diag;
    arch       *out;
    const char *at, *end, *line_start;
    uint32_t    line;
    uint32_t    brackets; /* open ones: inside, a line's end is a blank */
    uint32_t    depth;    /* of recursion */
    arch_token  token;    /* the next one */

    enum arch_section section;
    bool              in_layer; /* names of a layer are known */
} arch_parser;

/* Reports an error at `pos`; returns false. */
bool arch_parse_error(arch_parser *p, arch_pos pos, const char *format, ...) PRINTF_LIKE(3, 4);

/* ---- arch_lex.c */

/* Reads the next token into p->token; false after an error was reported. */
bool arch_lex_next(arch_parser *p);

/* The same for a word, where the grammar has one. */
bool arch_lex_word(arch_parser *p);

/* True if the next token is this word or symbol. */
bool arch_lex_is(const arch_parser *p, const char *text);

/* Reads past the word or symbol `text`, or reports what was found in its place. */
bool arch_lex_expect(arch_parser *p, const char *text);

/* "'foo'", "end of line", for messages. */
const char *arch_lex_found(const arch_parser *p);

/* ---- arch_expr.c */

/* Parses an expression of any type; NULL after an error was reported. */
arch_node *arch_parse_expr(arch_parser *p);

/* Parses one of type `want`; an int will do for a float. `what` is for the message. */
arch_node *arch_parse_typed(arch_parser *p, enum arch_type want, const char *what);

bool        arch_is_number(enum arch_type type);
const char *arch_type_text(enum arch_type type); /* "a float" */

/* True for words that cannot be names. */
bool arch_is_reserved(const char *text, size_t size);

/* " (did you mean 'foo'?)", or "" where nothing known is near: for messages. */
const char *arch_suggest(arch_parser *p, const char *text, size_t size);

#endif
