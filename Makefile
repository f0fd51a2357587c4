# SPDX-License-Identifier: MIT
# One Makefile, no recursion. `make help` lists what it does; all output goes to build/.

VERSION := 0.1.0
B := build
prefix ?= /usr/local
DESTDIR ?=
CC ?= gcc
CLANG ?= clang
PKGS := libbpf libelf lua5.4 capstone

CFLAGS ?= -O2 -g
WARN := -std=c11 -Wall -Wextra -Werror
DEFS := -D_GNU_SOURCE -DTS_VERSION='"$(VERSION)"'
# CFLAGS is the user's; everything that the code needs is added here.
ALL_CFLAGS = $(CFLAGS) $(WARN) $(DEFS) -Icore $(shell pkg-config --cflags $(PKGS))
LIBS = $(shell pkg-config --libs $(PKGS)) -lm
ifeq ($(SAN),1)
B := build/san
CFLAGS += -O1 -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
LDFLAGS += -fsanitize=address,undefined
endif

CORE := $(filter-out core/main.c,$(wildcard core/*.c))
OBJS := $(CORE:core/%.c=$(B)/core/%.o)
BPF := $(patsubst bpf/%.bpf.c,$(B)/bpf/%.bpf.o,$(wildcard bpf/*.bpf.c))
EMBED := $(BPF) $(wildcard lua/*.lua) $(wildcard scripts/*.lua)
UNIT := $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/test_*.c))

.PHONY: all
all: $(B)/tlsscope

$(B)/tlsscope: $(B)/core/main.o $(B)/libtlsscope.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libtlsscope.a: $(OBJS) $(B)/embed.o
	rm -f $@
	$(AR) rcs $@ $^

$(B)/core/%.o: core/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# No architecture's headers: one object serves all of them.
$(B)/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) Makefile
	@mkdir -p $(@D)
	$(CLANG) -target bpf -mcpu=v2 -O2 -g -Wall -Wextra -Werror -Ibpf -c -o $@ $<

$(B)/embed.c: core/embed.sh $(EMBED) Makefile
	@mkdir -p $(@D)
	sh core/embed.sh $(B) $(EMBED) >$@
$(B)/embed.o: $(B)/embed.c
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/unit/%: tests/unit/%.c $(B)/libtlsscope.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests/unit $(LDFLAGS) -MMD -MP -o $@ $< $(B)/libtlsscope.a -lcmocka $(LIBS)

-include $(OBJS:.o=.d) $(B)/core/main.d $(UNIT:=.d)
