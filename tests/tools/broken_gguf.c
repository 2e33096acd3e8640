/* broken_gguf - writes a GGUF that is wrong in one way, for whoever wants to see it refused.
 *
 *     broken_gguf --list              each name, a tab, a part of the message it must bring
 *     broken_gguf NAME OUT.gguf       the file of that name
 *     broken_gguf valid OUT.gguf      what all of them were before they were broken
 */
#include "broken_gguf.h"

static int print_list(void) {
    for (size_t i = 0; i < ARRAY_LEN(broken_ggufs); i++)
        printf("%s\t%s\n", broken_ggufs[i].name, broken_ggufs[i].message);
    return 0;
}

static const broken_gguf *find_row(const char *name) {
    static const broken_gguf valid = { .name = "valid" };
    if (!strcmp(name, valid.name)) return &valid;
    for (size_t i = 0; i < ARRAY_LEN(broken_ggufs); i++)
        if (!strcmp(name, broken_ggufs[i].name)) return &broken_ggufs[i];
    return NULL;
}

static int write_row(const broken_gguf *row, const char *path) {
    bytes b = { 0 };
    broken_make(&b, row);
    FILE *out = fopen(path, "wb");
    bool written = out && fwrite(b.data, 1, b.size, out) == b.size;
    if (out && fclose(out)) written = false;
    if (!written) perror(path);
    bytes_free(&b);
    return written ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--list")) return print_list();
    if (argc != 3) {
        fputs("usage: broken_gguf --list | broken_gguf NAME OUT.gguf\n", stderr);
        return 2;
    }
    const broken_gguf *row = find_row(argv[1]);
    if (row) return write_row(row, argv[2]);
    fprintf(stderr, "broken_gguf: no '%s'; --list names what there is\n", argv[1]);
    return 2;
}
