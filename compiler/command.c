#include "command.h"

#include "base.h"

#include <string.h>

static const struct {
    const char   *name;
    command_main *run;
} commands[] = {
    { "run", command_run },
    { "trace", command_trace },
    { "dump", command_dump },
    { "inspect", command_inspect },
    { "compare", command_compare },
    { "bench", command_bench },
    { "quantize", command_quantize },
};

command_main *command_find(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (!strcmp(commands[i].name, name)) return commands[i].run;
    return NULL;
}
