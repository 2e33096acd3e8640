# ggufc: an ahead-of-time compiler for GGUF models.
#
#   make demo     install what is missing, build, compile the demo model, tell a story
#   make test     the same set-up, then every test
#   make all      build only          make bench    measure          make install PREFIX=…
#   make asan     the tests under AddressSanitizer and UBSan         make fuzz, lint, clean
#
# Everything is built in out/.

LLVM_VERSION ?= 19
LLVM_CONFIG  ?= llvm-config-$(LLVM_VERSION)
CLANG        ?= clang-$(LLVM_VERSION)
PREFIX       ?= /usr/local
OUT          ?= out
OPT          ?= -O2 -g
VERSION      := 0.1.0

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef -Werror
CFLAGS   ?=
ALL_CFLAGS = -std=c11 $(OPT) $(WARNINGS) -D_GNU_SOURCE -Iinclude -pthread -MMD -MP $(SANITIZE) $(CFLAGS)
LLVM_CPPFLAGS = -isystem $(shell $(LLVM_CONFIG) --includedir)
LLVM_LIBS     = $(shell $(LLVM_CONFIG) --ldflags --libs)

compiler_obj := $(patsubst %.c,$(OUT)/obj/%.o,$(filter-out compiler/main.c,$(wildcard compiler/*.c))) \
                $(OUT)/obj/gen/arch_builtin.o $(OUT)/obj/gen/model_header.o
runtime_obj  := $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard runtime/*.c))
tests        := $(patsubst tests/%.c,$(OUT)/tests/%,$(wildcard tests/test_*.c))
tools        := $(patsubst tests/tools/%.c,$(OUT)/tools/%,$(wildcard tests/tools/*.c))

all: $(OUT)/ggufc $(OUT)/libggufc_runtime.a

# ---- building

$(OUT)/ggufc: $(OUT)/obj/compiler/main.o $(OUT)/libggufc.a | $(OUT)/libggufc_runtime.a
	$(CC) $(SANITIZE) -pthread -o $@ $^ $(LLVM_LIBS) -lm

$(OUT)/libggufc.a: $(compiler_obj)
	rm -f $@ && $(AR) rcs $@ $^

$(OUT)/libggufc_runtime.a: $(runtime_obj)
	rm -f $@ && $(AR) rcs $@ $^

$(OUT)/obj/compiler/%.o: compiler/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LLVM_CPPFLAGS) -DGGUFC_VERSION='"$(VERSION)"' -c -o $@ $<

# The runtime ends up in every executable: sections let the linker drop what one does not use.
$(OUT)/obj/runtime/%.o: runtime/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -ffunction-sections -fdata-sections -c -o $@ $<

# The part that evaluates the graph knows no libc.
$(OUT)/obj/runtime/eval.o: ALL_CFLAGS += -ffreestanding

$(OUT)/gen/arch_builtin.c: templates/arch/builtin.sh $(wildcard templates/arch/*.arch)
	@mkdir -p $(@D)
	sh $^ >$@.tmp && mv $@.tmp $@

$(OUT)/gen/model_header.c: templates/model.h.in
	@mkdir -p $(@D)
	{ echo 'extern const char model_header_text[]; const char model_header_text[] ='; \
	  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/    "&\\n"/' $<; echo ';'; } >$@.tmp && mv $@.tmp $@

$(OUT)/obj/gen/%.o: $(OUT)/gen/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Icompiler -c -o $@ $<

# ---- tests

$(OUT)/tests/%: tests/%.c $(OUT)/libggufc.a $(OUT)/libggufc_runtime.a Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Icompiler -Iruntime -Itests -o $@ $(filter %.c %.a,$^) $(LLVM_LIBS) -lcmocka -lm

$(OUT)/tools/%: tests/tools/%.c $(OUT)/libggufc.a Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Icompiler -o $@ $(filter %.c %.a,$^) -lm

clean:
	rm -rf $(OUT)/*

.PHONY: all demo test bench deps install lint asan fuzz clean
.SECONDARY:

-include $(shell find $(OUT)/obj $(OUT)/tests $(OUT)/tools -name '*.d' 2>/dev/null)
