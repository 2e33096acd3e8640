/* arch_lex.c - .arch text to tokens.
 *
 * A line is a statement, so the end of a line is a token; between brackets it is a blank, so that a
 * long call can be written on several lines. '#' begins a comment, '\r' is a blank. Names may have
 * dots ("Qcur.rope"). Keys and tensors' names are words: everything up to a blank, '[' or '#',
 * which only the parser knows to expect, hence arch_lex_word. The parser looks one token ahead:
 * p->token. Text may hold any byte: what cannot begin a token is an error here.
 */
#include "arch_parse.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_blank(const arch_parser *p, char c) {
    return c == ' ' || c == '\t' || c == '\r' || (c == '\n' && p->brackets);
}

bool arch_parse_error(arch_parser *p, arch_pos pos, const char *format, ...) {
    char text[768];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return diag_error(p->diag, "%s:%u:%u: %s", p->out->path, pos.line, pos.column, text);
}

static bool lex_error(arch_parser *p, const char *what) {
    p->token.kind = TOKEN_BAD;
    return arch_parse_error(p, p->token.pos, "%s", what);
}

static void end_line(arch_parser *p) {
    p->line++;
    p->line_start = p->at;
}

static void skip_blanks(arch_parser *p) {
    while (p->at < p->end) {
        char c = *p->at;
        if (c == '#') {
            while (p->at < p->end && *p->at != '\n') p->at++;
        } else if (is_blank(p, c)) {
            p->at++;
            if (c == '\n') end_line(p);
        } else {
            return;
        }
    }
}

static void begin_token(arch_parser *p) {
    skip_blanks(p);
    p->token = (arch_token){
        .kind = TOKEN_END,
        .pos = { p->line, (uint32_t)(p->at - p->line_start) + 1 },
        .text = p->at,
    };
}

static bool end_token(arch_parser *p, enum arch_token_kind kind) {
    p->token.kind = kind;
    p->token.size = (size_t)(p->at - p->token.text);
    return true;
}

static bool lex_name(arch_parser *p) {
    while (p->at < p->end) {
        bool dot = *p->at == '.' && p->end - p->at > 1 && is_letter(p->at[1]);
        if (!dot && !is_letter(*p->at) && !is_digit(*p->at)) break;
        p->at++;
    }
    return end_token(p, TOKEN_NAME);
}

/* Digits, then for a float a fraction or an exponent or both. */
static bool lex_number(arch_parser *p) {
    char digits[64];
    bool is_float = false;
    while (p->at < p->end) {
        char c = *p->at;
        bool exponent = p->at > p->token.text && (p->at[-1] == 'e' || p->at[-1] == 'E');
        if (c == '.' || c == 'e' || c == 'E')
            is_float = true;
        else if (!is_digit(c) && !is_letter(c) && !((c == '-' || c == '+') && exponent))
            break;
        p->at++;
    }
    end_token(p, is_float ? TOKEN_FLOAT : TOKEN_INT);
    if (p->token.size >= sizeof digits) return lex_error(p, "a number of too many digits");
    memcpy(digits, p->token.text, p->token.size);
    digits[p->token.size] = 0;
    char *end = digits;
    errno = 0;
    if (strpbrk(digits, "xXpP"))
        ; /* hexadecimal is C's, not the language's */
    else if (is_float)
        p->token.literal.f = strtod(digits, &end);
    else
        p->token.literal.i = strtoll(digits, &end, 10);
    if (end != digits + p->token.size) return lex_error(p, "this is no number");
    if (errno == ERANGE || (is_float && !isfinite(p->token.literal.f)))
        return lex_error(p, "the number is out of range");
    return true;
}

static bool lex_string(arch_parser *p) {
    p->at++;
    const char *start = p->at;
    while (p->at < p->end && *p->at != '"') {
        if ((unsigned char)*p->at < 0x20 && *p->at != '\t') break;
        bool escape = *p->at == '\\' && p->end - p->at > 1 && (p->at[1] == '"' || p->at[1] == '\\');
        p->at += escape ? 2 : 1;
    }
    if (p->at == p->end || *p->at != '"')
        return lex_error(p, "the string has no closing '\"' on its line");
    char *text = arena_alloc(p->memory, (size_t)(p->at - start) + 1);
    size_t size = 0;
    for (const char *c = start; c < p->at; c++) {
        if (*c == '\\' && (c[1] == '"' || c[1] == '\\')) c++;
        text[size++] = *c;
    }
    p->at++;
    p->token.literal.s = (gguf_string){ text, size };
    return end_token(p, TOKEN_STRING);
}

static bool lex_symbol(arch_parser *p) {
    static const char *const symbols[] = { "==", "!=", "<=", ">=", "<", ">", "=", "(", ")", "[",
                                           "]",  ",",  ":",  "+",  "-", "*", "/", "%" };
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
        size_t size = strlen(symbols[i]);
        if ((size_t)(p->end - p->at) < size || memcmp(p->at, symbols[i], size)) continue;
        p->at += size;
        if (*symbols[i] == '(' || *symbols[i] == '[') p->brackets++;
        if ((*symbols[i] == ')' || *symbols[i] == ']') && p->brackets) p->brackets--;
        return end_token(p, TOKEN_SYMBOL);
    }
    unsigned char c = (unsigned char)*p->at;
    if (c > 0x20 && c < 0x7f)
        return lex_error(p, arena_printf(p->memory, "'%c' is not part of the language", c));
    return lex_error(p, arena_printf(p->memory, "byte 0x%02x is not part of the language", c));
}

bool arch_lex_next(arch_parser *p) {
    begin_token(p);
    if (p->at == p->end) return true;
    if (*p->at == '\n') {
        p->at++;
        end_token(p, TOKEN_NEWLINE);
        end_line(p);
        return true;
    }
    if (is_letter(*p->at)) return lex_name(p);
    if (is_digit(*p->at)) return lex_number(p);
    if (*p->at == '"') return lex_string(p);
    return lex_symbol(p);
}

bool arch_lex_word(arch_parser *p) {
    begin_token(p);
    while (p->at < p->end && (unsigned char)*p->at > ' ' && *p->at != '[' && *p->at != '#')
        p->at++;
    if (p->at > p->token.text) return end_token(p, TOKEN_WORD);
    return arch_lex_next(p);
}

bool arch_lex_is(const arch_parser *p, const char *text) {
    return (p->token.kind == TOKEN_NAME || p->token.kind == TOKEN_SYMBOL) &&
           p->token.size == strlen(text) && !memcmp(p->token.text, text, p->token.size);
}

const char *arch_lex_found(const arch_parser *p) {
    if (p->token.kind == TOKEN_END) return "the end of the file";
    if (p->token.kind == TOKEN_NEWLINE) return "the end of the line";
    if (p->token.kind == TOKEN_STRING) return "a string";
    return arena_printf(p->memory, "'%.*s'", p->token.size > 60 ? 60 : (int)p->token.size,
                        p->token.text);
}

bool arch_lex_expect(arch_parser *p, const char *text) {
    if (arch_lex_is(p, text)) return arch_lex_next(p);
    return arch_parse_error(p, p->token.pos, "expected '%s', found %s", text, arch_lex_found(p));
}
