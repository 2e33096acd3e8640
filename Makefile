# ggufc: an ahead-of-time compiler for GGUF models.
#
#   make demo     install what is missing, build, compile the demo model, tell a story
#   make test     the same set-up, then every test
#   make help     everything else, and what can be set
#
# Everything is built in out/. Recipes that need tools come in two: `test` installs what is missing
# and calls make again for `test-now`, so that whatever asks for LLVM's flags finds LLVM.

VERSION := 0.1.0

PREFIX ?= /usr/local
OUT    ?= out
OPT    ?= -O2 -g
WERROR ?= -Werror
T      ?=

# LLVM 19, or else the first newer one that is installed. Never the unsuffixed llvm-config.
ifndef LLVM_VERSION
LLVM_VERSION := $(or $(firstword $(foreach v,19 20 21 22,$(if \
                $(shell command -v llvm-config-$(v)),$(v)))),19)
endif
LLVM_CONFIG ?= llvm-config-$(LLVM_VERSION)
CLANG       ?= clang-$(LLVM_VERSION)

# As many jobs as there are processors, unless -j says how many: GNU make tells its makefiles only
# since 4.4 whether it does.
asked := $(filter -j% --jobs%,$(MAKEFLAGS) $(shell tr '\0' ' ' </proc/$$PPID/cmdline 2>/dev/null))
ifeq ($(MAKELEVEL)$(asked),0)
MAKEFLAGS += -j$(shell nproc 2>/dev/null || echo 2)
endif
MAKEFLAGS += --no-print-directory

# One line for each command; V=1 shows the commands.
Q   := $(if $(V),,@)
say  = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)')

# ---- flags

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef $(WERROR)
CFLAGS   ?=
LDFLAGS  ?=
SANITIZE ?=
PLAIN_CFLAGS = -std=c11 $(OPT) $(WARNINGS) -D_GNU_SOURCE -Iinclude -pthread -MMD -MP $(CFLAGS)
ALL_CFLAGS   = $(PLAIN_CFLAGS) $(SANITIZE)

# What llvm-config says, asked for once and only by what needs it.
llvm = $(or $(shell $(LLVM_CONFIG) $(1) 2>/dev/null),$(error $(LLVM_CONFIG) is missing; `make deps` installs it))
LLVM_CPPFLAGS = $(eval LLVM_CPPFLAGS := -isystem $$(call llvm,--includedir))$(LLVM_CPPFLAGS)
LLVM_LIBS     = $(eval LLVM_LIBS := $$(call llvm,--ldflags --libs --system-libs))$(LLVM_LIBS)

# Files of the compiler have names of their own, whatever folder they are in.
COMPILER_INCLUDES := -Icompiler $(patsubst %/,-I%,$(wildcard compiler/*/))

# ---- what there is

compiler_src := $(wildcard compiler/*.c compiler/*/*.c)
compiler_obj := $(patsubst %.c,$(OUT)/obj/%.o,$(filter-out compiler/main.c,$(compiler_src))) \
                $(OUT)/obj/gen/arch_builtin.o \
                $(patsubst templates/%.in,$(OUT)/obj/gen/%.o,$(wildcard templates/*.in))
runtime_obj  := $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard runtime/*.c))
tests        := $(patsubst tests/%.c,$(OUT)/tests/%,$(wildcard tests/test_*.c))
tools        := $(patsubst tests/tools/%.c,$(OUT)/tools/%,$(wildcard tests/tools/*.c))
demo_model   := tests/models/storyteller-q8_0.gguf
demo         := $(OUT)/storyteller

# Under a sanitizer the runtime is built twice: plain for the executables that ggufc makes,
# instrumented for the tests that call it.
checked_runtime := $(OUT)/$(if $(SANITIZE),checked/)libggufc_runtime.a
checked_obj     := $(patsubst %.c,$(OUT)/obj/checked/%.o,$(wildcard runtime/*.c))

all: $(OUT)/ggufc $(OUT)/libggufc_runtime.a

# ---- building

$(OUT)/ggufc: $(OUT)/obj/compiler/main.o $(OUT)/libggufc.a $(checked_runtime) | $(OUT)/libggufc_runtime.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(SANITIZE) -pthread $(LDFLAGS) -o $@ $^ $(LLVM_LIBS) -lm

$(OUT)/libggufc.a: $(compiler_obj)
$(OUT)/libggufc_runtime.a: $(runtime_obj)
ifneq ($(SANITIZE),)
$(checked_runtime): $(checked_obj)
endif

%.a:
	$(call say,AR,$@)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(OUT)/obj/compiler/%.o: compiler/%.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(COMPILER_INCLUDES) -Iruntime $(LLVM_CPPFLAGS) -DGGUFC_VERSION='"$(VERSION)"' -c -o $@ $<

# What interprets a model is measured against what is compiled: it gets the flags that such code is
# given, and this machine's instructions (NATIVE= for a ggufc that runs on others).
NATIVE ?= $(shell $(CC) -march=native -E -xc /dev/null >/dev/null 2>&1 && echo -march=native)
fast    = $(if $(SANITIZE),-O2,-O3 $(NATIVE) -ffp-contract=fast)
fast_quant := $(patsubst %,$(OUT)/obj/compiler/quant/quant_%.o,read unpack unpack_iq)
$(OUT)/obj/compiler/interp/%.o $(fast_quant): PLAIN_CFLAGS += $(fast)
$(OUT)/obj/compiler/quantize/quantize_rows.o: PLAIN_CFLAGS += $(fast)

# Blocks have the same bytes on every machine: nothing is contracted.
exact = $(if $(SANITIZE),-O2,-O3 $(NATIVE)) -ffp-contract=off
exact_quant := $(wildcard $(patsubst %,compiler/quant/quant_%*.c,fit search write))
$(patsubst %.c,$(OUT)/obj/%.o,$(exact_quant)): PLAIN_CFLAGS += $(exact)

# The runtime ends up in every executable: sections let the linker drop what one does not use. Of a shared library
# programs see what ggufc/runtime.h declares.
$(OUT)/obj/runtime/%.o: runtime/%.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(PLAIN_CFLAGS) -fPIC -fvisibility=hidden -ffunction-sections -fdata-sections -c -o $@ $<

# The part that evaluates the graph knows no libc.
$(OUT)/obj/runtime/eval.o: PLAIN_CFLAGS += -ffreestanding

$(OUT)/obj/checked/runtime/%.o: runtime/%.c Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(OUT)/gen/arch_builtin.c: templates/arch/builtin.sh $(wildcard templates/arch/*.arch)
	@mkdir -p $(@D)
	$(Q)sh $^ >$@.tmp && mv $@.tmp $@

# templates/model.h.in becomes the string model_h_text, and so does any other.
$(OUT)/gen/%.c: templates/%.in
	@mkdir -p $(@D)
	$(Q){ echo 'extern const char $(subst .,_,$*)_text[]; const char $(subst .,_,$*)_text[] ='; \
	  sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/    "&\\n"/' $<; echo ';'; } >$@.tmp && mv $@.tmp $@

$(OUT)/obj/gen/%.o: $(OUT)/gen/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(COMPILER_INCLUDES) -c -o $@ $<

$(demo): $(demo_model) $(OUT)/ggufc $(OUT)/libggufc_runtime.a
	$(call say,GGUFC,$@)
	$(Q)$(OUT)/ggufc $< -o $@

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/ggufc \
	           $(DESTDIR)$(PREFIX)/include/ggufc
	install -m 755 $(OUT)/ggufc $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(OUT)/libggufc_runtime.a $(OUT)/libggufc.a $(DESTDIR)$(PREFIX)/lib/ggufc
	install -m 644 include/ggufc/*.h $(DESTDIR)$(PREFIX)/include/ggufc

clean:
	rm -rf $(OUT)/*

# ---- demo and tests

deps:
	@OUT='$(OUT)' CC='$(CC)' sh tests/deps.sh '$(LLVM_CONFIG)' $(extras)

demo test bench: deps
	@$(MAKE) $@-now

demo-now: all
	@sh tests/demo.sh $(OUT)/ggufc $(demo_model) $(demo)

# T=NAME, or T="NAME NAME", runs tests/test_NAME.c only.
chosen := $(if $(T),$(patsubst %,$(OUT)/tests/test_%,$(T)),$(tests))

test-now: all tests $(demo)
	@GGUFC=$(abspath $(OUT)/ggufc) GGUFC_TOOLS=$(abspath $(OUT)/tools) \
	 GGUFC_DEMO_EXE=$(abspath $(demo)) sh tests/run_tests.sh $(OUT)/tests $(notdir $(chosen))

bench-now: all $(OUT)/tools/make_model $(OUT)/tools/measure
	@sh tests/bench.sh $(OUT)

tests: $(chosen) $(tools)

$(OUT)/tests/%: tests/%.c $(OUT)/libggufc.a $(checked_runtime) Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(COMPILER_INCLUDES) -Iruntime -Itests $(LLVM_CPPFLAGS) $(LDFLAGS) -o $@ \
	      $< $(filter %.a,$^) $(LLVM_LIBS) -lcmocka -lm

$(OUT)/tools/%: tests/tools/%.c $(OUT)/libggufc.a Makefile
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(COMPILER_INCLUDES) $(LDFLAGS) -o $@ $< $(filter %.a,$^) -lm

# ---- checks of the code

sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=undefined

# A leak is an error. The demo, linked with the instrumented runtime, then says a few words itself.
asan: deps
	@ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
	 $(MAKE) OUT=$(OUT)/asan SANITIZE='$(sanitizers) -fno-omit-frame-pointer' OPT='-O1 -g' T='$(T)' asan-now

asan-now: test-now $(OUT)/cc $(checked_runtime)
	@CC=$(OUT)/cc $(OUT)/ggufc $(demo_model) --runtime=$(checked_runtime) -o $(OUT)/storyteller-checked
	$(OUT)/storyteller-checked -p "Once upon a time," -n 40 -s 1 -t 2
	@$(OUT)/storyteller-checked --info >/dev/null

# What ggufc links with: the compiler, told to bring the sanitizers.
$(OUT)/cc: Makefile
	@mkdir -p $(@D)
	@{ echo '#!/bin/sh'; echo 'exec $(CC) $(SANITIZE) "$$@"'; } >$@ && chmod +x $@

# The compiler at work, and the executable with one thread and with two. Valgrind knows no AVX-512.
VALGRIND     := valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite
VALGRIND_CPU ?= $(if $(filter x86_64,$(shell uname -m)),x86-64-v3,generic)

valgrind: extras = valgrind
valgrind: deps
	@$(MAKE) valgrind-now

valgrind-now: all
	$(VALGRIND) $(OUT)/ggufc $(demo_model) --cpu=$(VALGRIND_CPU) -o $(OUT)/storyteller-valgrind
	$(VALGRIND) $(OUT)/storyteller-valgrind -p "Once upon a time," -n 40 -s 1 -t 1
	$(VALGRIND) $(OUT)/storyteller-valgrind -p "Once upon a time," -n 40 -s 1 -t 2
	$(VALGRIND) $(OUT)/storyteller-valgrind --info >/dev/null

# F=NAME runs tests/fuzz_NAME.c only; what breaks it is left in out/fuzz/.
FUZZ_SECONDS ?= 600
F            ?= $(patsubst tests/fuzz_%.c,%,$(wildcard tests/fuzz_*.c))

fuzz: extras = clang
fuzz: deps
	@$(MAKE) $(OUT)/tools/broken_gguf
	@$(MAKE) OUT=$(OUT)/fuzz CC='$(CLANG)' OPT='-O1 -g' WERROR= \
	         SANITIZE='$(sanitizers) -fsanitize=fuzzer-no-link' fuzzers
	@for f in $(F); do sh tests/fuzz.sh $(OUT) $$f $(FUZZ_SECONDS) || exit 1; done

fuzzers: $(F:%=$(OUT)/fuzz_%)

$(OUT)/fuzz_%: tests/fuzz_%.c $(OUT)/libggufc.a Makefile
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer $(COMPILER_INCLUDES) -Itests -o $@ $(filter %.c %.a,$^) $(LLVM_LIBS) -lm

# All that clang has to say of the C, but for what is a matter of taste, contradicts C11, or belongs
# to the other compiler; and shellcheck of the scripts.
LINT := -fsyntax-only -Weverything -Werror $(addprefix -Wno-,unsafe-buffer-usage padded \
        declaration-after-statement pre-c11-compat double-promotion float-equal switch-default \
        switch-enum cast-align cast-qual sign-conversion disabled-macro-expansion format \
        format-nonliteral comma reserved-identifier bad-function-cast atomic-implicit-seq-cst)

lint: extras = clang shellcheck
lint: deps
	@$(MAKE) lint-now

lint-now: $(OUT)/gen/arch_builtin.c
	$(CLANG) -std=c11 -D_GNU_SOURCE -Iinclude $(COMPILER_INCLUDES) -Iruntime -Itests $(LLVM_CPPFLAGS) \
	    -DGGUFC_VERSION='"$(VERSION)"' $(LINT) \
	    $(compiler_src) $(wildcard runtime/*.c tests/*.c tests/tools/*.c)
	shellcheck --exclude=SC1087 tests/*.sh templates/arch/*.sh .ci/run

#: make demo       install what is missing, build, compile the demo model, tell a story
#: make test       the same set-up, then every test; T=NAME for tests/test_NAME.c only
#: make all        build only: out/ggufc, out/libggufc_runtime.a
#: make install    to PREFIX=/usr/local, below DESTDIR
#: make bench      README's tables; LLAMA_BENCH=FILE and IK_LLAMA_BENCH=FILE add llama.cpp's and
#:                 ik_llama.cpp's figures, BENCH_QUICK=1 is short; more in tests/bench.sh
#: make asan       the tests under AddressSanitizer and UBSan; T=NAME as above
#: make valgrind   the compiler and the demo under valgrind
#: make fuzz       what reads files, against libFuzzer, for FUZZ_SECONDS=600 each; F=NAME for one
#: make lint       clang's warnings, shellcheck
#: make deps       install what is missing (apt-get) and do nothing else
#: make clean      remove what is in out/
#:
#: LLVM_VERSION=N  another LLVM than 19         CC=…, CFLAGS=…, OPT="-O2 -g"   how C is compiled
#: OUT=FOLDER      build elsewhere than in out/ WERROR=                        let warnings pass
#: V=1             show the commands            -jN                            N jobs at a time
#: NATIVE=         interpret with any machine's instructions, not only this one's
help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

.PHONY: all demo demo-now test test-now tests bench bench-now deps install lint asan fuzz valgrind clean help
.SECONDARY:
.DELETE_ON_ERROR:

-include $(shell find $(OUT)/obj $(OUT)/tests $(OUT)/tools -name '*.d' 2>/dev/null)
