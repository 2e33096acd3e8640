#include "output.h"

#include "split.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNTIME_NAME  "libggufc_runtime.a"
#define MAX_TEMPORARY (OUTPUT_MAX_OBJECTS + 4)
#define MAX_CC_WORDS  16

extern char **environ;

/* Files to remove when a signal ends the process: a handler has no other way to know them. */
static const char *volatile pending[MAX_TEMPORARY];

static void unlink_pending(void) {
    for (int i = 0; i < MAX_TEMPORARY; i++)
        if (pending[i]) unlink(pending[i]);
}

static void remove_pending(int sig) {
    unlink_pending();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* A mapped file whose end is gone is met as this signal. */
static _Noreturn void tell_of_cut_file(int sig) {
    static const char text[] = "ggufc: error: a file became shorter while it was read\n";
    ssize_t           n = write(STDERR_FILENO, text, sizeof text - 1);
    (void)n, (void)sig;
    unlink_pending();
    _exit(1);
}

static void watch_signals(void) {
    static const int signals[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGPIPE,
                                  SIGALRM, SIGUSR1, SIGUSR2, SIGXCPU, SIGBUS};
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        struct sigaction old;
        if (!sigaction(signals[i], NULL, &old) && old.sa_handler == SIG_DFL)
            signal(signals[i], signals[i] == SIGBUS ? tell_of_cut_file : remove_pending);
    }
}

bool output_check(diag *d, const char *path, const char *const *inputs) {
    struct stat out;
    if (lstat(path, &out)) return true; /* what else is wrong shows when it is written */
    if (S_ISLNK(out.st_mode))
        return diag_error(d, "%s: is a symbolic link; name the file that it stands for", path);
    if (!S_ISREG(out.st_mode)) return diag_error(d, "%s: is no regular file to be replaced", path);
    for (; *inputs; inputs++)
        if (split_has_file(*inputs, &out))
            return diag_error(d, "%s: is read to make it: name another file", path);
    return true;
}

const char *output_temporary(arena *a, const char *path) {
    char *name = arena_printf(a, "%s.tmp%ld", path, (long)getpid());
    int   i = 0;
    watch_signals();
    while (i < MAX_TEMPORARY && pending[i]) i++;
    if (i == MAX_TEMPORARY) bug("more than %d files are being made", i);
    pending[i] = strdup(name); /* outlives the arena: the handler may run at any time */
    return name;
}

static void forget(const char *name) {
    for (int i = 0; i < MAX_TEMPORARY; i++)
        if (pending[i] && !strcmp(pending[i], name)) {
            const char *old = pending[i];
            pending[i] = NULL;
            free((char *)old);
        }
}

void output_discard(const char *temporary) {
    unlink(temporary);
    forget(temporary);
}

static bool write_all(diag *d, int fd, const char *name, const void *data, size_t size) {
    const char *at = data;
    while (size) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return diag_error(d, "%s: writing failed: %s", name, strerror(errno));
        at += n;
        size -= (size_t)n;
    }
    return true;
}

bool output_write(diag *d, const char *path, const void *data, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return diag_error(d, "%s: cannot be written: %s", path, strerror(errno));
    bool ok = write_all(d, fd, path, data, size);
    if (close(fd) && ok) return diag_error(d, "%s: writing failed: %s", path, strerror(errno));
    return ok;
}

bool output_print(diag *d, const void *data, size_t size) {
    return write_all(d, STDOUT_FILENO, "standard output", data, size);
}

bool output_commit(diag *d, const char *temporary, const char *path) {
    if (rename(temporary, path))
        return diag_error(d, "%s: cannot be written: %s", path, strerror(errno));
    forget(temporary);
    return true;
}

bool output_run(diag *d, const char *const *argv) {
    pid_t pid;
    int   status, failed = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);
    if (failed) return diag_error(d, "%s cannot be run: %s", argv[0], strerror(failed));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return diag_error(d, "%s: %s", argv[0], strerror(errno));
    if (WIFSIGNALED(status))
        return diag_error(d, "%s was ended by signal %d", argv[0], WTERMSIG(status));
    if (WEXITSTATUS(status))
        return diag_error(d, "%s failed with status %d", argv[0], WEXITSTATUS(status));
    return true;
}

/* A command of the system's cc, or $CC, which may hold flags, as make's. */
typedef struct command {
    const char *argv[MAX_CC_WORDS + OUTPUT_MAX_OBJECTS + 12];
    char        words[1024];
    size_t      n;
} command;

static void add(command *c, const char *word) {
    if (c->n == ARRAY_LEN(c->argv) - 1) bug("too many words in a command");
    c->argv[c->n++] = word;
}

static void add_all(command *c, const char *const *words, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) add(c, words[i]);
}

static void begin_cc(command *c, const char *path) {
    const char *cc = getenv("CC");
    *c = (command){.n = 0};
    snprintf(c->words, sizeof c->words, "%s", cc && *cc ? cc : "cc");
    for (char *rest, *word = strtok_r(c->words, " ", &rest); word && c->n < MAX_CC_WORDS;
         word = strtok_r(NULL, " ", &rest))
        add(c, word);
    add(c, "-o");
    add(c, path);
}

bool output_link(diag *d, const char *const *objects, uint32_t n, const char *runtime, const char *path,
                 const char *library) {
    static const char *const flags[] = {"-pthread", "-Wl,--gc-sections", "-Wl,-z,noexecstack", "-s"};
    /* What a program is to find in the runtime's archive, nothing here asks for. */
    static const char *const shared[] = {"-shared", "-Wl,-u,ggufc_session_open"};
    const char *const name[] = {"-Xlinker", "-soname", "-Xlinker", library};
    command           c;
    begin_cc(&c, path);
    if (library) add_all(&c, shared, ARRAY_LEN(shared));
    if (library) add_all(&c, name, ARRAY_LEN(name));
    add_all(&c, objects, n);
    add(&c, runtime);
    add_all(&c, flags, ARRAY_LEN(flags));
    return output_run(d, c.argv);
}

bool output_join(diag *d, const char *const *objects, uint32_t n, const char *path) {
    command c;
    begin_cc(&c, path);
    add(&c, "-r");
    add(&c, "-nostdlib");
    add_all(&c, objects, n);
    return output_run(d, c.argv);
}

bool output_assemble(diag *d, const char *assembly, const char *path) {
    static const char *const flags[] = {"-c", "-x", "assembler"};
    command c;
    begin_cc(&c, path);
    add_all(&c, flags, ARRAY_LEN(flags));
    add(&c, assembly);
    return output_run(d, c.argv);
}

static bool copy_file(diag *d, const char *from, const char *to) {
    FILE  *in = fopen(from, "rb");
    size_t size = 0, room = 1 << 20;
    char  *data = in ? malloc(room) : NULL;
    while (data && (size += fread(data + size, 1, room - size, in)) == room) {
        char *more = realloc(data, room *= 2);
        if (!more) free(data);
        data = more;
    }
    bool ok = data && !ferror(in);
    if (!ok) diag_error(d, "%s: cannot be read: %s", from, strerror(errno));
    ok = ok && output_write(d, to, data, size);
    if (in) fclose(in);
    free(data);
    return ok;
}

/* A copy of the runtime's archive, and the objects added: adding an archive's members to another
   is not something every ar can do. */
bool output_archive(diag *d, const char *const *objects, uint32_t n, const char *runtime, const char *path) {
    const char *argv[3 + OUTPUT_MAX_OBJECTS + 1] = {"ar", "qs", path};
    for (uint32_t i = 0; i < n; i++) argv[3 + i] = objects[i];
    return copy_file(d, runtime, path) && output_run(d, argv);
}

static bool readable(const char *path) {
    return access(path, R_OK) == 0;
}

static bool is_library(const char *path) {
    char  magic[8] = "";
    FILE *f = fopen(path, "rb");
    bool  yes = f && fread(magic, 1, 8, f) == 8 && !memcmp(magic, "!<arch>\n", 8);
    if (f) fclose(f);
    return yes;
}

const char *output_find_runtime(arena *a, diag *d, const char *given) {
    if (given) {
        if (is_library(given)) return given;
        diag_error(d, "%s: no runtime library: %s", given,
                   readable(given) ? "it is not an archive" : strerror(errno));
        return NULL;
    }
    char    self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    for (int i = 0; slash && i < 2; i++) {
        char *path = i == 0 ? arena_printf(a, "%s/" RUNTIME_NAME, self)
                            : arena_printf(a, "%s/../lib/ggufc/" RUNTIME_NAME, self);
        if (readable(path)) return path;
    }
    diag_error(d, RUNTIME_NAME " is neither beside the compiler nor in ../lib/ggufc: say where it "
               "is with --runtime=FILE");
    return NULL;
}
