#include "options.h"

#include <signal.h>
#include <stdio.h>

/* Exit status: 0 done, 1 the input was bad, 2 the command line was. */
int main(int argc, char **argv) {
    ggufc_compile_options options;
    signal(SIGXFSZ, SIG_IGN); /* a file that grows too large is then an error of its write */
    switch (options_parse(&options, argc, argv)) {
    case OPTIONS_DONE: return fflush(stdout) ? 1 : 0;
    case OPTIONS_WRONG: return 2;
    case OPTIONS_COMPILE: break;
    }
    return ggufc_compile(&options, NULL, NULL) ? 0 : 1;
}
