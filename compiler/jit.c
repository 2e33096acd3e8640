/* A struct jit is ORC's LLJIT under our name. */
#include "jit.h"

#include <llvm-c/Core.h>
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>
#include <llvm-c/Target.h>

static bool failed(diag *d, LLVMErrorRef error, const char *what) {
    if (!error) return false;
    char *message = LLVMGetErrorMessage(error);
    diag_error(d, "%s: %s", what, message);
    LLVMDisposeErrorMessage(message);
    return true;
}

/* What the code calls of this process: memcpy and memset, at most. */
static LLVMErrorRef see_process(LLVMOrcLLJITRef lljit, LLVMOrcJITDylibRef library) {
    LLVMOrcDefinitionGeneratorRef process;
    LLVMErrorRef error = LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(
        &process, LLVMOrcLLJITGetGlobalPrefix(lljit), NULL, NULL);
    if (!error) LLVMOrcJITDylibAddGenerator(library, process);
    return error;
}

jit *jit_load(diag *d, LLVMMemoryBufferRef object, const char *symbol, const void **address) {
    LLVMOrcLLJITRef lljit = NULL;
    LLVMInitializeNativeTarget();
    LLVMInitializeNativeAsmPrinter();
    if (failed(d, LLVMOrcCreateLLJIT(&lljit, NULL), "LLVM's JIT cannot be made")) {
        LLVMDisposeMemoryBuffer(object);
        return NULL;
    }
    LLVMOrcJITDylibRef     library = LLVMOrcLLJITGetMainJITDylib(lljit);
    LLVMOrcExecutorAddress at = 0;
    bool ok = !failed(d, LLVMOrcLLJITAddObjectFile(lljit, library, object), "the object cannot be loaded");
    ok = ok && !failed(d, see_process(lljit, library), "this process cannot be searched");
    ok = ok && !failed(d, LLVMOrcLLJITLookup(lljit, &at, symbol), symbol);
    *address = (const void *)(uintptr_t)at;
    if (ok) return (jit *)lljit;
    jit_free((jit *)lljit);
    return NULL;
}

void jit_free(jit *j) {
    if (!j) return;
    LLVMErrorRef error = LLVMOrcDisposeLLJIT((LLVMOrcLLJITRef)j);
    if (error) LLVMConsumeError(error);
}
