#include "command.h"
#include "options.h"

#include <signal.h>
#include <stdio.h>

/* Exit status: 0 done, 1 the input was bad, 2 the command line was. */
static int compile(int argc, char **argv) {
    ggufc_compile_options options;
    switch (options_parse(&options, argc, argv)) {
    case OPTIONS_DONE: return 0;
    case OPTIONS_WRONG: return 2;
    case OPTIONS_COMPILE: break;
    }
    return ggufc_compile(&options, NULL, NULL) ? 0 : 1;
}

int main(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is then an error of its write */
    command_main *command = argc > 1 ? command_find(argv[1]) : NULL;
    int status = command ? command(argc - 1, argv + 1) : compile(argc, argv);
    /* What reports its own failure has failed already; --help and --version have nobody else. */
    if (!status && (fflush(stdout) || ferror(stdout))) {
        perror("ggufc: error: standard output");
        return 1;
    }
    return status;
}
