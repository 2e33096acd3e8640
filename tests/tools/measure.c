/* measure - runs a program as a user would and says when its first byte came.
 *
 *     measure [-r RUNS] PROGRAM [ARGUMENT]...
 *
 * Its standard output is read through a pipe and thrown away, its standard error left alone. Prints
 * one line for each run, three numbers: milliseconds from exec to the first byte, milliseconds
 * until it ended, and the most memory it held at a time, in KiB, mapped files included.
 *
 * Exit status: 0; 1 the program could not be run, failed, or wrote nothing; 2 usage. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static bool fail(const char *what, const char *why) {
    fprintf(stderr, "measure: %s: %s\n", what, why);
    return false;
}

/* When the first byte came, or a negative number; returns when the pipe is closed. */
static double drain(int fd) {
    char    buffer[1 << 16];
    double  first = -1;
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0 && first < 0) first = now_ms();
    return first;
}

/* posix_spawn shares our memory until exec, so that the child's peak is the program's own. */
static bool start(char **argv, int output, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", 0, 0);
    int error = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error ? fail(argv[0], strerror(error)) : true;
}

static bool measure(char **argv) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return fail("pipe", strerror(errno));
    double begin = now_ms();
    pid_t  pid;
    bool   started = start(argv, ends[1], &pid);
    close(ends[1]);
    double first = started ? drain(ends[0]) : -1;
    close(ends[0]);
    if (!started) return false;

    int           status;
    struct rusage usage;
    while (wait4(pid, &status, 0, &usage) < 0)
        if (errno != EINTR) return fail("wait4", strerror(errno));
    double end = now_ms();
    if (!WIFEXITED(status) || WEXITSTATUS(status)) return fail(argv[0], "failed");
    if (first < 0) return fail(argv[0], "wrote nothing");
    printf("%.3f %.3f %ld\n", first - begin, end - begin, usage.ru_maxrss);
    return true;
}

int main(int argc, char **argv) {
    int  option;
    long runs = 1;
    while ((option = getopt(argc, argv, "+r:")) != -1)
        if (option != 'r' || (runs = strtol(optarg, NULL, 10)) < 1) return 2;
    if (optind == argc) {
        fputs("usage: measure [-r RUNS] PROGRAM [ARGUMENT]...\n", stderr);
        return 2;
    }
    for (; runs > 0; runs--)
        if (!measure(argv + optind)) return 1;
    return 0;
}
