#include "target.h"

#include "cpu.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <string.h>

/* The emitters already unroll, vectorise and hoist; these tidy what they leave behind. */
#define PASSES "function(early-cse,instcombine<no-verify-fixpoint>,simplifycfg),globaldce"

static char *take_message(arena *a, char *message) {
    char *copy = arena_copy_text(a, message ? message : "", message ? strlen(message) : 0);
    if (message) LLVMDisposeMessage(message);
    return copy;
}

static void initialize(void) {
    LLVMInitializeAllTargetInfos();
    LLVMInitializeAllTargets();
    LLVMInitializeAllTargetMCs();
    LLVMInitializeAllAsmPrinters();
}

static char *join_features(arena *a, const char *x, const char *y) {
    return arena_printf(a, "%s%s%s", x, *x && *y ? "," : "", y);
}

/* What the ABI of a triple promises: an ISA row asks for it, or LLVM's generic CPU has only its architecture's least
   and would call a library to add two numbers. */
static const char *abi_features(const char *triple) {
    static const struct {
        const char *arch, *system, *features;
    } rows[] = {
        {"aarch64", "", "+fp-armv8,+neon"},
        {"riscv64", "linux", "+m,+a,+f,+d,+c"},
        {"arm", "eabihf", "+vfp2"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (!strncmp(triple, rows[i].arch, strlen(rows[i].arch)) && strstr(triple, rows[i].system))
            return rows[i].features;
    return "";
}

static bool list_names(const char *list, const char *name, size_t size) {
    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == size + 1 && !strncmp(at + 1, name, size)) return true;
    return false;
}

/* LLVM ignores an unknown feature with a warning of its own. Its C API names only those that it can
   find out about this machine: on x86-64 they are all that matter here. */
static bool check_x86_features(arena *a, diag *d, const char *features) {
    const char *known = take_message(a, LLVMGetHostCPUFeatures());
    for (const char *at = features; *at; at += strcspn(at, ","), at += *at == ',') {
        size_t n = strcspn(at, ",");
        if (n < 2 || !list_names(known, at + 1, n - 1))
            return diag_error(d, "--features: '%.*s' is not one that ggufc knows", (int)n, at);
        if (list_names("-sse,-sse2,-fxsr,-cx8,-64bit", at + 1, n - 1) && *at == '-')
            return diag_error(d, "--features: x86-64 cannot be without %.*s", (int)n - 1, at + 1);
    }
    return true;
}

/* What this machine's processor has and the system lets programs use; LLVM asks the processor, but not for the dot
   product. */
static const char *native_features(arena *a, const char *triple) {
    const char *known = take_message(a, LLVMGetHostCPUFeatures());
    if (!strncmp(triple, "aarch64", 7))
        return cpu_can_run("aarch64 dotprod") ? join_features(a, known, "+dotprod") : known;
    return strstr(known, "+amx-tile") && !cpu_can_run("x86_64 amx") ? join_features(a, known, "-amx-tile") : known;
}

static const char *known_names(const char *triple) {
    if (!strncmp(triple, "x86_64", 6))
        return "; x86-64-v2, x86-64-v3, x86-64-v4, znver4, icelake-server and others of LLVM's names are, and "
               "--features=LIST adds to them";
    return !strncmp(triple, "aarch64", 7) ? "; cortex-a53, cortex-a76, neoverse-n1 and others of LLVM's names are" : "";
}

/* LLVM takes an unknown CPU with a message on standard error. We refuse it where our table has them all, and among
   several CPUs. */
static bool choose_cpu(target *t, arena *a, diag *d, bool native, const char *cpu,
                       const char *features) {
    const char *known;
    if (native && features && !strncmp(t->triple, "x86_64", 6) && !check_x86_features(a, d, features))
        return false;
    if (!cpu) cpu = native ? "native" : "generic";
    if (!strcmp(cpu, "native")) {
        if (!native) return diag_error(d, "--cpu=native needs the target to be this machine");
        t->cpu = take_message(a, LLVMGetHostCPUName());
        known = native_features(a, t->triple);
    } else {
        t->cpu = arena_copy_text(a, cpu, strlen(cpu));
        known = isa_cpu_features(t->triple, cpu);
        if (!known && (t->shared || !strncmp(t->triple, "x86_64", 6)))
            return diag_error(d, "--cpu=%s is not known%s", cpu, known_names(t->triple));
        if (!known || !*known) known = abi_features(t->triple);
    }
    t->features = join_features(a, known ? known : "", features ? features : "");
    return true;
}

/* Others of LLVM's are no CPUs, cannot read weights in place, or end LLVM itself. */
static bool known_architecture(const char *triple) {
    static const char *const names[] = {"x86_64", "i386", "i486", "i586", "i686", "aarch64", "arm", "thumb",
                                        "riscv32", "riscv64", "loongarch64"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strncmp(triple, names[i], strlen(names[i]))) return true;
    return false;
}

/* What the ISA's row asks for, as LLVM takes it. */
static char *row_features(arena *a, const isa *row) {
    char *list = arena_printf(a, "%s", "");
    for (const char *at = row->features ? row->features : ""; *at; at += *at == ' ') {
        size_t n = strcspn(at, " ");
        list = join_features(a, list, arena_printf(a, "+%.*s", (int)n, at));
        at += n;
    }
    return list;
}

static LLVMTargetMachineRef create_machine(LLVMTargetRef ref, const target *t) {
    return LLVMCreateTargetMachine(ref, t->triple, t->shared ? "generic" : t->cpu, t->features,
                                   LLVMCodeGenLevelDefault, LLVMRelocPIC, LLVMCodeModelDefault);
}

static bool open_target(target *t, arena *a, diag *d, const char *triple, const char *cpu, const char *features) {
    initialize();
    char *host = take_message(a, LLVMGetDefaultTargetTriple());
    t->triple = triple ? take_message(a, LLVMNormalizeTargetTriple(triple)) : host;
    size_t host_arch = strcspn(host, "-");
    bool   native = t->native = !strncmp(t->triple, host, host_arch + 1);
    if (!known_architecture(t->triple))
        return diag_error(d, "--target=%s: not a machine that ggufc compiles for: x86_64, i686, aarch64, "
                          "arm, riscv32, riscv64 and loongarch64 are", t->triple);
    char         *message = NULL;
    LLVMTargetRef ref;
    if (LLVMGetTargetFromTriple(t->triple, &ref, &message))
        return diag_error(d, "--target=%s: %s", t->triple, take_message(a, message));
    if (!choose_cpu(t, a, d, native, cpu, features)) return false;
    t->isa = isa_select(t->triple, t->features);
    if (t->shared) t->features = join_features(a, abi_features(t->triple), row_features(a, t->isa));
    t->machine = create_machine(ref, t);
    if (!t->machine) return diag_error(d, "LLVM has no code generator for %s", t->triple);
    t->layout = LLVMCreateTargetDataLayout(t->machine);
    if (LLVMByteOrder(t->layout) == LLVMBigEndian)
        return diag_error(d, "--target=%s is big-endian; weights are read in place, and those of a "
                          "GGUF file are little-endian", t->triple);
    t->name = arena_printf(a, "%.*s %s", (int)strcspn(t->triple, "-"), t->triple, t->isa->name);
    return true;
}

bool target_open(target *t, arena *a, diag *d, const char *triple, const char *cpu, const char *features) {
    *t = (target){0};
    if (cpu && strchr(cpu, ','))
        return diag_error(d, "--cpu=%s: this takes one CPU", cpu);
    return open_target(t, a, d, triple, cpu, features);
}

/* ---- several CPUs */

static uint32_t rank(const isa *row) {
    uint32_t i = 0;
    while (isa_rows[i] != row) i++;
    return i;
}

/* Moves the last of n to its place, the others being in order. False: there is one of its row. */
static bool sort_in(target *all, uint32_t n) {
    for (uint32_t i = n - 1; i && rank(all[i].isa) <= rank(all[i - 1].isa); i--) {
        if (all[i].isa == all[i - 1].isa) return false;
        target moved = all[i];
        all[i] = all[i - 1];
        all[i - 1] = moved;
    }
    return true;
}

static uint32_t count_names(const char *list) {
    uint32_t n = 1;
    while ((list = strchr(list, ','))) list++, n++;
    return n;
}

bool target_open_each(target **all, uint32_t *n, arena *a, diag *d, const char *triple, const char *cpus,
                      const char *features) {
    uint32_t count = cpus ? count_names(cpus) : 1;
    *all = ARENA_ARRAY(a, target, count);
    *n = 1;
    if (count == 1) return target_open(*all, a, d, triple, cpus, features);
    if (features) return diag_error(d, "--features is for one CPU: --cpu names %u", count);
    const char *at = cpus;
    for (*n = 0; *n < count; at += strcspn(at, ",") + 1) {
        target *t = &(*all)[(*n)++];
        t->shared = true;
        if (!open_target(t, a, d, triple, arena_copy_text(a, at, strcspn(at, ",")), NULL)) return false;
        const char *name = t->name;
        if (!sort_in(*all, *n))
            return diag_error(d, "--cpu=%s: of these two are the same here, %s: name one of them", cpus, name);
    }
    return true;
}

void target_close(target *t) {
    if (t->layout) LLVMDisposeTargetData(t->layout);
    if (t->machine) LLVMDisposeTargetMachine(t->machine);
}

void target_prepare(const target *t, LLVMModuleRef module) {
    LLVMSetTarget(module, t->triple);
    LLVMSetModuleDataLayout(module, t->layout);
}

bool target_optimize(const target *t, diag *d, LLVMModuleRef module) {
    char *message = NULL;
    if (LLVMVerifyModule(module, LLVMReturnStatusAction, &message)) bug("invalid IR: %s", message);
    LLVMDisposeMessage(message);
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
    LLVMErrorRef failed = LLVMRunPasses(module, PASSES, t->machine, options);
    LLVMDisposePassBuilderOptions(options);
    if (!failed) return true;
    message = LLVMGetErrorMessage(failed);
    diag_error(d, "LLVM's passes failed: %s", message);
    LLVMDisposeErrorMessage(message);
    return false;
}

LLVMMemoryBufferRef target_code(const target *t, diag *d, LLVMModuleRef module, bool assembly) {
    LLVMMemoryBufferRef buffer = NULL;
    char               *message = NULL;
    if (!LLVMTargetMachineEmitToMemoryBuffer(t->machine, module,
                                             assembly ? LLVMAssemblyFile : LLVMObjectFile, &message,
                                             &buffer))
        return buffer;
    diag_error(d, "code generation for %s failed: %s", t->triple, message);
    LLVMDisposeMessage(message);
    return NULL;
}
