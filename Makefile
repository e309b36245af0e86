# llama3: Llama 3 inside PostgreSQL.
#
#   make deps      install what is missing from Debian's packages
#   make           build llama3.so and llama3_engine.so
#   make install   install the extension (as root)
#   make demo      all of that, then a tour on real rows in a private cluster
#   make check     deps, build, install and run every test
#   make bench     speed on random-weight models of true shapes, beside llama.cpp, and of a
#                  server with one of them (hours)
#   make bench-quick   the same in under three minutes
#   make fuzz      the fuzz targets for FUZZ_SECONDS each (600)
#   make check-postgres  PostgreSQL's own tests, with and without llama3 (five minutes)
#   make check-arm64   the engine's tests compiled for arm64, under emulation
#   make demo-model    train the demonstration model again (three hours)
#
# Targets that must work before PostgreSQL's headers are there (deps, check,
# ...) do not include PGXS.

EARLY_GOALS = deps demo check bench bench-quick fuzz check-postgres check-arm64 demo-model
GOALS = $(or $(MAKECMDGOALS),all)

ifneq ($(filter $(EARLY_GOALS),$(GOALS)),)

.PHONY: $(EARLY_GOALS)
.NOTPARALLEL:

SUDO = $(if $(filter 0,$(shell id -u)),,sudo)

deps:
	@./test/install-deps

demo:
	@./demo/run

check: deps
	@echo "building and installing"
	@$(MAKE) -s all
	@$(SUDO) $(MAKE) -s install
	@./test/run

bench: deps
	@echo "building and installing"
	@$(MAKE) -s all bench-programs
	@$(SUDO) $(MAKE) -s install
	@./test/bench/run --json build/bench.json --svg build/bench.svg
	@./test/bench/server
	@BENCH_ROWS=$(or $(BENCH_ROWS),200) BENCH_ROUNDS=$(or $(BENCH_ROUNDS),3) ./test/bench/sql

bench-quick: deps
	@echo "building"
	@$(MAKE) -s bench-programs
	@./test/bench/run --quick

fuzz: deps
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) ./test/run fuzz

check-postgres: deps
	@$(MAKE) -s all
	@$(SUDO) $(MAKE) -s install
	@./test/postgres/run

check-arm64: deps
	@$(SUDO) ./test/arm64/run

demo-model: deps
	@./demo/train/recipe

else

EXTENSION = llama3
MODULE_big = llama3
DATA = llama3--1.0.sql
DOCS = README.md

# ---------------------------------------------------------------- the engine
# BASE is in both shared objects; RUN (compute, threads, OpenBLAS) only in the
# engine worker's.
ENGINE_RUN_SRCS = $(filter-out %/cpu.c %/cpu_detect.c,$(wildcard src/engine/kernels/*.c)) \
	$(addprefix src/engine/,$(addsuffix .c,pool kv attention forward sampler scheduler answer lookup score \
	model request labels stops admission trie automaton automaton_build mask constrain))
ENGINE_BASE_SRCS = $(filter-out $(ENGINE_RUN_SRCS),$(wildcard src/engine/*.c)) \
	src/engine/kernels/cpu.c src/engine/kernels/cpu_detect.c
ENGINE_BASE_OBJS = $(ENGINE_BASE_SRCS:.c=.o)
ENGINE_OBJS = $(ENGINE_BASE_OBJS) $(patsubst %.c,%.o,$(wildcard $(ENGINE_RUN_SRCS)))

WORKER_OBJS = src/postgres/worker.o
POSTGRES_OBJS = $(filter-out $(WORKER_OBJS),$(patsubst %.c,%.o,$(wildcard src/postgres/*.c)))

OBJS = $(POSTGRES_OBJS) $(ENGINE_BASE_OBJS)

BASE_LIBS = -ljansson -lutf8proc -lm
BLAS_LIBS = $(shell pkg-config --libs openblas 2>/dev/null || echo -lopenblas)
BLAS_CFLAGS = $(shell pkg-config --cflags openblas 2>/dev/null)
SHLIB_LINK = $(BASE_LIBS)

# ------------------------------------------------------------------- flags
# The server's headers are system headers to us, so that our warnings are
# about our code.  Contraction is off because the order and the kind of every
# floating-point operation is part of the answer.  No -march: instruction sets
# are chosen at run time.
PG_CONFIG ?= pg_config
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) -Isrc/engine -Isrc/postgres
WARNINGS = -Wall -Wextra -Werror -Wno-declaration-after-statement
PG_CFLAGS = -std=gnu11 $(WARNINGS) -ffp-contract=off -MMD -MP

EXTRA_CLEAN = llama3_engine.so $(ENGINE_OBJS) $(WORKER_OBJS) build \
	$(shell find src -name '*.d' 2>/dev/null)

# The bitcode that PGXS would make is for inlining into JIT expressions; calls
# that take milliseconds do not profit.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(PGXS)),)
$(error PostgreSQL's server headers are not installed: run "make deps" first)
endif
include $(PGXS)

ifeq ($(shell expr $(VERSION_NUM) \>= 150000),0)
$(error llama3 needs PostgreSQL 15 or later, $(PG_CONFIG) is of $(VERSION))
endif

# The server fixes the parameters of callbacks and SQL functions; the engine's
# symbols are each shared object's own.
src/postgres/%.o: override CFLAGS += -Wno-unused-parameter
src/engine/%.o: override CFLAGS += -fvisibility=hidden -pthread
src/engine/kernels/%.o: override CPPFLAGS += $(BLAS_CFLAGS)

-include $(shell find src -name '*.d' 2>/dev/null)

all: llama3_engine.so

# Which object goes where is said above: link again when that changes.
llama3.so: Makefile
llama3_engine.so: $(WORKER_OBJS) $(ENGINE_OBJS) Makefile
	$(CC) $(CFLAGS) -shared -pthread -o $@ $(WORKER_OBJS) $(ENGINE_OBJS) $(LDFLAGS) $(LDFLAGS_SL) $(BASE_LIBS) $(BLAS_LIBS)

install: install-engine install-model
install-engine: llama3_engine.so
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	$(INSTALL_SHLIB) llama3_engine.so '$(DESTDIR)$(pkglibdir)/llama3_engine.so'

# The demonstration model, which a server loads that is told of no other.
DEMO_MODEL = demo/llama3-demo.gguf
install-model:
	$(MKDIR_P) '$(DESTDIR)$(datadir)/llama3'
	$(INSTALL_DATA) $(DEMO_MODEL) '$(DESTDIR)$(datadir)/llama3/'

uninstall: uninstall-engine uninstall-model
uninstall-engine:
	rm -f '$(DESTDIR)$(pkglibdir)/llama3_engine.so'
uninstall-model:
	rm -f '$(DESTDIR)$(datadir)/llama3/$(notdir $(DEMO_MODEL))'
.PHONY: install-engine install-model uninstall-engine uninstall-model

# --------------------------------------------------- programs of the tests
# build/VARIANT/... holds test programs and, for the sanitizer variants, the
# engine's objects compiled again.
TEST_CFLAGS = -std=gnu11 -D_GNU_SOURCE -O2 -g $(WARNINGS) -ffp-contract=off -MMD -MP -pthread \
	-Isrc/engine -Itest -Idemo/train $(BLAS_CFLAGS) -fno-omit-frame-pointer
# Whole loops over tokens and parameters: let the compiler vectorise them.
TRAINER_CFLAGS = -O3
TEST_LIBS = $(BASE_LIBS) $(BLAS_LIBS)
ENGINE_SRCS = $(ENGINE_OBJS:.o=.c)

CC_plain = $(CC)
SAN_plain =
CC_asan = clang
SAN_asan = -fsanitize=address,undefined -fno-sanitize-recover=all -DL3_SANITIZED
CC_tsan = clang
SAN_tsan = -fsanitize=thread -DL3_SANITIZED
CC_fuzz = clang
SAN_fuzz = -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DL3_SANITIZED

ABOVE_AVX2_SRCS = $(wildcard src/engine/kernels/avx512*.c src/engine/kernels/avxvnni.c src/engine/kernels/amx*.c)
# Programs that see the levels that the CPU has not got, too (test/kernels/emulated_levels.h).
ifneq ($(filter x86_64%,$(shell $(CC) -dumpmachine)),)
EMULATED_LEVELS_LINK = $(addprefix -Wl$(comma)--wrap=,l3_cpu_detect l3_kernels_avxvnni l3_kernels_avx512 \
	l3_kernels_avx512vnni l3_kernels_amx l3_amx_usable)
endif
comma = ,
TOOL_SRCS = $(wildcard test/tools/*.c)
TRAINER_SRCS = $(filter-out %/main.c,$(wildcard demo/train/*.c))
REFERENCE_SRCS = $(filter-out %_main.c,$(wildcard test/reference/*.c))
UNIT_TESTS = $(patsubst test/unit/%.c,%,$(wildcard test/unit/test_*.c))
UNIT_SHARED = $(filter-out test/unit/test_%.c,$(wildcard test/unit/*.c))
FUZZERS = $(patsubst test/fuzz/%.c,%,$(wildcard test/fuzz/fuzz_*.c))

define VARIANT_RULES
ENGINE_$(1) = $(patsubst %.c,build/$(1)/%.o,$(ENGINE_SRCS))
REFERENCE_$(1) = $(patsubst %.c,build/$(1)/%.o,$(REFERENCE_SRCS) $(UNIT_SHARED))
TRAINER_$(1) = $(patsubst %.c,build/$(1)/%.o,$(TRAINER_SRCS))
.SECONDARY: $$(ENGINE_$(1)) $$(REFERENCE_$(1)) $$(TRAINER_$(1))
build/$(1)/%.o: %.c
	@mkdir -p $$(dir $$@)
	$$(CC_$(1)) $$(TEST_CFLAGS) $$(SAN_$(1)) -c -o $$@ $$<
# The kernels above AVX2 for CPUs without, whose functions pass vectors of AVX-512 all the same.
build/$(1)/in_avx2/%.o: src/engine/kernels/%.c
	@mkdir -p $$(dir $$@)
	$$(CC_$(1)) $$(TEST_CFLAGS) -include test/kernels/levels_in_avx2.h -Wno-psabi $$(SAN_$(1)) -c -o $$@ $$<
build/$(1)/demo/train/%.o: TEST_CFLAGS += $(TRAINER_CFLAGS)
build/$(1)/test_trainer%: build/$(1)/test/unit/test_trainer%.o $$(TRAINER_$(1)) $$(ENGINE_$(1))
	$$(CC_$(1)) $$(SAN_$(1)) -pthread -o $$@ $$^ $$(TEST_LIBS)
build/$(1)/test_%: build/$(1)/test/unit/test_%.o $$(ENGINE_$(1)) $$(REFERENCE_$(1))
	$$(CC_$(1)) $$(SAN_$(1)) $$(LEVELS_LINK) -pthread -o $$@ $$^ $$(TEST_LIBS)
EMULATED_LEVELS_$(1) = $$(patsubst src/engine/kernels/%.c,build/$(1)/in_avx2/%.o,$$(ABOVE_AVX2_SRCS)) \
	build/$(1)/test/kernels/emulated_levels.o build/$(1)/test/kernels/amx_emulator.o
build/$(1)/test_forward build/$(1)/test_numerics: $$(EMULATED_LEVELS_$(1))
build/$(1)/test_forward build/$(1)/test_numerics: LEVELS_LINK = $$(EMULATED_LEVELS_LINK)
build/$(1)/checkkernels: build/$(1)/test/kernels/checkkernels.o $$(EMULATED_LEVELS_$(1)) $$(ENGINE_$(1))
	$$(CC_$(1)) $$(SAN_$(1)) $$(EMULATED_LEVELS_LINK) -pthread -o $$@ $$^ $$(TEST_LIBS)
build/$(1)/fuzz_%: build/$(1)/test/fuzz/fuzz_%.o $$(ENGINE_$(1))
	$$(CC_$(1)) $$(SAN_$(1)) -fsanitize=fuzzer -pthread -o $$@ $$^ $$(TEST_LIBS)
build/$(1)/mkmodel: $$(patsubst %.c,build/$(1)/%.o,$$(TOOL_SRCS))
	$$(CC_$(1)) $$(SAN_$(1)) -o $$@ $$^ -lm
endef
$(foreach v,plain asan tsan fuzz,$(eval $(call VARIANT_RULES,$(v))))
-include $(shell find build -name '*.d' 2>/dev/null)

build/plain/encode_stdin: build/plain/test/tokenizer/encode_stdin.o $(ENGINE_plain)
	$(CC) -pthread -o $@ $^ $(TEST_LIBS)
build/plain/schema_texts: build/plain/test/schema/schema_texts.o $(ENGINE_plain)
	$(CC) -pthread -o $@ $^ $(TEST_LIBS)
# Not of the tests, but made of the same objects.
.PHONY: trainer
trainer: build/plain/trainer
build/plain/trainer: build/plain/demo/train/main.o $(TRAINER_plain) $(ENGINE_plain)
	$(CC) -pthread -o $@ $^ $(TEST_LIBS)
build/plain/stream_client: test/client/stream_client.c
	@mkdir -p $(dir $@)
	$(CC) -std=gnu11 -O2 -g $(WARNINGS) -Itest -I$(shell $(PG_CONFIG) --includedir) -o $@ $< -lpq

TEST_PROGRAMS_plain = $(addprefix build/plain/,$(UNIT_TESTS) mkmodel \
	$(if $(wildcard test/kernels/checkkernels.c),checkkernels) \
	$(if $(wildcard test/tokenizer/encode_stdin.c),encode_stdin) \
	$(if $(wildcard test/schema/schema_texts.c),schema_texts) \
	$(if $(wildcard test/client/stream_client.c),stream_client))
TEST_PROGRAMS_asan = $(addprefix build/asan/,$(UNIT_TESTS) checkkernels mkmodel)
TEST_PROGRAMS_tsan = $(addprefix build/tsan/,$(filter test_pool test_placement test_forward test_engine test_kv test_constrained test_lookup test_shared_prefix,$(UNIT_TESTS)))
TEST_PROGRAMS_fuzz = $(addprefix build/fuzz/,$(FUZZERS))

.PHONY: test-programs test-programs-asan test-programs-tsan test-programs-fuzz bench-programs
test-programs: $(TEST_PROGRAMS_plain)
test-programs-asan: $(TEST_PROGRAMS_asan)
test-programs-tsan: $(TEST_PROGRAMS_tsan)
test-programs-fuzz: $(TEST_PROGRAMS_fuzz)
BENCH_PROGRAMS = $(addprefix build/plain/,engine rows masks)
bench-programs: build/plain/mkmodel $(BENCH_PROGRAMS)
$(BENCH_PROGRAMS): build/plain/%: build/plain/test/bench/%.o build/plain/test/bench/loaded.o \
		build/plain/test/bench/machine.o $(ENGINE_plain)
	$(CC) -pthread -o $@ $^ $(TEST_LIBS)

endif
