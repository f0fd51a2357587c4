# SPDX-License-Identifier: MIT
# One Makefile; all output goes to build/. `make help` lists what it does.

VERSION := 0.1.0
B := build
prefix ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
LUA ?= lua5.4
PKGS := libbpf libelf $(LUA) capstone nettle libnghttp2 zlib libbrotlidec libzstd readline

# CFLAGS and LDFLAGS are the user's; everything that the code needs is added here.
CFLAGS ?= -O2 -g
WARN := -std=c11 -Wall -Wextra -Werror
DEFS := -D_GNU_SOURCE -DTS_VERSION='"$(VERSION)"'
ifeq ($(SAN),1)
B := build/san
SANITIZE := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
ifeq ($(SAN),fuzz)
B := build/fuzz
CC := $(CLANG)
SANITIZE := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
endif

# pkg-config runs once, and only when something is compiled.
pkgs = $(if $(shell pkg-config --exists $(2) && echo y),$(shell pkg-config $(1) $(2)),$\
	$(error not all of $(2) can be found: run `make deps`))
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(call pkgs,--cflags,$(PKGS)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $$(call pkgs,--libs,$(PKGS)))$(PKG_LIBS)
BPF_INCLUDE = $(eval BPF_INCLUDE := -I$$(call pkgs,--variable=includedir,libbpf))$(BPF_INCLUDE)
# Debian 12 has no libdwarf.pc, and that of Debian 13 names a folder that is not there.
DWARF_DIR = $(or $(wildcard /usr/include/libdwarf /usr/include/libdwarf-[0-9]),$\
	$(error libdwarf cannot be found: run `make deps`))
# libhttp-parser has no .pc file.
# Not -Icore: <dwarf.h> is libdwarf's, "dwarf.h" is ours.
ALL_CFLAGS = $(CFLAGS) $(WARN) $(SANITIZE) $(DEFS) -iquote core \
	$(addprefix -isystem ,$(DWARF_DIR)) $(patsubst -I%,-isystem %,$(PKG_CFLAGS))
ALL_LDFLAGS = $(LDFLAGS) $(SANITIZE)
LIBS = $(PKG_LIBS) -ldwarf -lhttp_parser -lm

CORE := $(filter-out core/main.c,$(wildcard core/*.c))
OBJS := $(CORE:core/%.c=$(B)/core/%.o)
BPF := $(patsubst bpf/%.bpf.c,$(B)/bpf/%.bpf.o,$(wildcard bpf/*.bpf.c))
EMBED := $(BPF) $(patsubst %,$(B)/%,$(wildcard lua/*.lua)) $(wildcard scripts/*.lua)
UNIT := $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/test_*.c))
FUZZ := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
MAN := $(wildcard man/*.[0-9])

# V=1 shows the commands.
run = $(if $(V),,@echo "  $(1) $@";)

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all
all: $(B)/tlsscope $(B)/tlsscope.d.lua ## build build/tlsscope (this is also what plain `make` does)

$(B)/tlsscope: $(B)/core/main.o $(B)/libtlsscope.a
	$(call run,LD)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# Types for editors, of the one table of the API.
$(B)/tlsscope.d.lua: $(B)/tlsscope
	$(call run,TYPES)$< help d.lua >$@

$(B)/libtlsscope.a: $(OBJS) $(B)/embed.o
	@rm -f $@
	$(call run,AR)$(AR) rcs $@ $^

$(B)/core/%.o: core/%.c Makefile
	@mkdir -p $(@D)
	$(call run,CC)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# No architecture's headers: one object serves all of them.
$(B)/bpf/%.bpf.o: bpf/%.bpf.c Makefile
	@mkdir -p $(@D)
	$(call run,BPF)$(CLANG) -target bpf -mcpu=v2 -O2 -g -Wall -Wextra -Werror -Ibpf $(BPF_INCLUDE) \
		-MMD -MP -c -o $@ $<

$(B)/lua/%.lua: lua/%.lua core/embed.lua
	@mkdir -p $(@D)
	$(call run,LUA)$(LUA) core/embed.lua $< >$@

# The list changes when a file is added or removed; the files themselves are named too.
$(B)/embed.list: FORCE
	@mkdir -p $(@D)
	@echo '$(EMBED)' | cmp -s - $@ || echo '$(EMBED)' >$@
$(B)/embed.c: core/embed.sh $(B)/embed.list $(EMBED)
	$(call run,EMBED)sh core/embed.sh $(B) $(EMBED) >$@
$(B)/embed.o: $(B)/embed.c
	$(call run,CC)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# A test that includes alloc.h makes allocations fail.
WRAP_ALLOC := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
$(B)/unit/%: tests/unit/%.c $(B)/libtlsscope.a Makefile
	@mkdir -p $(@D)
	$(call run,TEST)$(CC) $(ALL_CFLAGS) -Itests/unit $(ALL_LDFLAGS) -MMD -MP -MF $@.d -o $@ $< \
		$(if $(shell grep '^#include "alloc.h"' $<),$(WRAP_ALLOC)) \
		$(B)/libtlsscope.a -lcmocka -lbrotlienc $(LIBS)

$(B)/fuzz/%: tests/fuzz/%.c $(B)/libtlsscope.a
	@mkdir -p $(@D)
	$(call run,FUZZ)$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer -MMD -MP -MF $@.d -o $@ $< $(B)/libtlsscope.a -lbrotlienc $(LIBS)

-include $(OBJS:.o=.d) $(B)/core/main.d $(BPF:.o=.d) $(UNIT:=.d) $(FUZZ:=.d)

.PHONY: FORCE deps demo test test-vm unit check bench fuzz install uninstall clean help
FORCE:

deps: ## install, with apt, what building and testing need and is missing
	@tests/deps build test vm

demo: ## install what is missing, build, and watch a real HTTPS server for a few seconds
	@tests/deps build demo
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@tests/demo $(B)/tlsscope

test: ## install what is missing, build, run all tests
	@tests/deps build test vm
	@$(MAKE) --no-print-directory -j$$(nproc) all unit
	@tests/run $(B)

test-vm: ## run most end-to-end tests on kernels of Debian from 5.10 on, in QEMU (25 minutes)
	@tests/deps build test vm
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@tests/run --only vm-all $(B)

unit: $(UNIT) ## build the unit tests (SAN=1: with the address and undefined-behaviour sanitizers)

CHECKS := check-layers check-format check-tidy check-cppcheck check-lua check-shell check-man \
	  check-gcc check-clang check-san
.PHONY: $(CHECKS)
check: ## install what is missing, then formatter, linters, both compilers, sanitizers
	@tests/deps build test check
	@$(MAKE) --no-print-directory -k $(CHECKS)

SOURCES := $(wildcard core/*.[ch] bpf/*.[ch] tests/unit/*.[ch] tests/fuzz/*.c tests/victims/*.c \
	tests/bench/*.[ch])
SHELL_SCRIPTS = completion/tlsscope.bash \
	$(shell grep -lE '^\#!/bin/(ba)?sh' tests/* tests/*/* core/*.sh .ci/* 2>/dev/null)
check-layers:
	tests/check-layers
# The layout is that of clang-format 14 (Debian 12); other versions differ in details.
check-format:
	@case $$(clang-format --version) in \
	*"version 14."*) echo clang-format --dry-run; clang-format --dry-run -Werror $(SOURCES) ;; \
	*) echo "layout not checked: it is that of clang-format 14, and here is" \
		"$$(clang-format --version)" ;; esac
check-tidy: $(patsubst core/%.c,$(B)/tidy/%.ok,$(wildcard core/*.c))
$(B)/tidy/%.ok: core/%.c $(wildcard core/*.h bpf/*.h) .clang-tidy
	@mkdir -p $(@D)
	$(call run,TIDY)clang-tidy --quiet $< -- $(ALL_CFLAGS) 2>/dev/null && touch $@
# Debian 13's takes arrays that a loop fills for uninitialized; the compilers and clang-tidy look too.
check-cppcheck:
	cppcheck --quiet --error-exitcode=1 --enable=warning,portability --inline-suppr \
		--suppress=missingIncludeSystem --suppress=uninitvar --suppress=normalCheckLevelMaxBranches \
		'--suppress=nullPointerOutOfMemory:tests/unit/*' --std=c11 -D_GNU_SOURCE -DTS_VERSION='""' \
		-D'LIBBPF_OPTS(type, name, ...)=struct type name' \
		-Icore core tests/unit tests/fuzz
check-lua:
	luacheck --quiet $(wildcard lua scripts tests/lua core/*.lua)
check-shell:
	shellcheck $(SHELL_SCRIPTS)
check-man:
	$(if $(MAN),mandoc -T lint -W warning $(MAN))
check-gcc:
	$(MAKE) --no-print-directory B=$(B)/gcc CC=gcc all unit
check-clang:
	$(MAKE) --no-print-directory B=$(B)/clang CC=$(CLANG) all unit
check-san:
	$(MAKE) --no-print-directory SAN=1 B=$(B)/san all unit
	tests/run --only unit $(B)/san

BENCH := $(addprefix $(B)/bench/,load bare bare.bpf.o)
$(B)/bench/load: $(wildcard tests/bench/load*.[ch]) Makefile
	@mkdir -p $(@D)
	$(call run,BENCH)$(CC) $(CFLAGS) $(WARN) -D_GNU_SOURCE $(LDFLAGS) -o $@ $(filter %.c,$^) -lssl -lcrypto -lpthread
$(B)/bench/bare.bpf.o: $(addprefix tests/bench/bare,.bpf.c .h) $(addprefix bpf/,kernel.h task.h file.h) Makefile
	@mkdir -p $(@D)
	$(call run,BPF)$(CLANG) -target bpf -mcpu=v2 -O2 -g -Wall -Wextra -Werror -Ibpf $(BPF_INCLUDE) -c -o $@ $<
$(B)/bench/bare: tests/bench/bare.c tests/bench/bare.h $(B)/libtlsscope.a
	@mkdir -p $(@D)
	$(call run,BENCH)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(B)/libtlsscope.a $(LIBS)

bench: ## measure what tracing costs, against peers and the least possible (10 minutes; bench-LINE: one line)
	@tests/deps build bench
	@$(MAKE) --no-print-directory -j$$(nproc) all $(BENCH)
	@tests/bench/run -b $(B) $(LINE)
bench-%:
	@$(MAKE) --no-print-directory bench LINE=$*

FUZZ_RUNS ?= 100000
FUZZ_SECONDS ?= 60
fuzz: ## run each fuzzer for FUZZ_RUNS inputs (100000), or FUZZ_SECONDS (60)
	@tests/deps fuzz
	@mkdir -p $(B)
	@if echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
		$(CLANG) -w -x c -fsanitize=fuzzer -o $(B)/has-fuzzer - 2>/dev/null; \
	then $(MAKE) --no-print-directory -j$$(nproc) SAN=fuzz B=$(B)/fuzz run-fuzzers; \
	else echo "skip fuzz: $(CLANG) has no libFuzzer here (Debian: libclang-rt-VERSION-dev)"; fi
.PHONY: run-fuzzers
run-fuzzers: $(FUZZ)
	@for f in $(FUZZ); do mkdir -p $$f.corpus; \
	$$f -runs=$(FUZZ_RUNS) -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=10 \
		-artifact_prefix=$$f. $$f.corpus >$$f.log 2>&1 && \
	{ printf '%s: ' $$f; grep '^Done' $$f.log; } || { tail -60 $$f.log; exit 1; }; done

DOC = $(DESTDIR)$(prefix)/share/doc/tlsscope
MAN_DIR = $(DESTDIR)$(prefix)/share/man
BASH_DIR = $(DESTDIR)$(prefix)/share/bash-completion/completions
ZSH_DIR = $(DESTDIR)$(prefix)/share/zsh/site-functions
install: $(B)/tlsscope $(B)/tlsscope.d.lua ## install the program, its manual, the recipes' sources and shell completion (DESTDIR, prefix)
	install -d $(DESTDIR)$(prefix)/bin $(DOC)/scripts
	install -m 755 $(B)/tlsscope $(DESTDIR)$(prefix)/bin/tlsscope
	install -m 644 $(wildcard README.md LICENSE*) $(B)/tlsscope.d.lua $(DOC)
	install -D -m 644 completion/tlsscope.bash $(BASH_DIR)/tlsscope
	install -D -m 644 completion/_tlsscope $(ZSH_DIR)/_tlsscope
	install -m 644 $(wildcard scripts/*.lua) $(DOC)/scripts
	for m in $(MAN); do install -D -m 644 $$m $(MAN_DIR)/man$${m##*.}/$${m##*/} || exit 1; done

uninstall: ## remove what `make install` installed
	rm -f $(DESTDIR)$(prefix)/bin/tlsscope $(BASH_DIR)/tlsscope $(ZSH_DIR)/_tlsscope
	rm -f $(foreach m,$(MAN),$(MAN_DIR)/man$(subst .,,$(suffix $m))/$(notdir $m))
	rm -rf $(DOC)

clean: ## remove build/
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r t h; do printf '  make %-10s %s\n' "$$t" "$$h"; done
