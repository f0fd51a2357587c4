/* SPDX-License-Identifier: MIT */
/* What the ways of finding functions share: resolve_symbols.c, resolve_go.c. */
#ifndef TLSSCOPE_RESOLVE_PRIVATE_H
#define TLSSCOPE_RESOLVE_PRIVATE_H

#include "arch.h"
#include "disasm.h"
#include "resolve.h"

/* One plan that is being made. no_memory: something of it is missing, it cannot be used. */
struct resolve_work {
	struct image *im;
	const struct arch *arch;
	const struct lib_row *row;
	struct resolve_plan *plan;
	bool ends; /* functions with `inner` are wanted */
	bool no_memory;
};

/* As resolve_image. */
int resolve_with(struct image *im, const struct lib_row *row, bool ends, struct resolve_plan *out,
		 struct ts_err *err);

/* Fill the plan, and set no_memory where that fails. 0 or -ENOMEM. */
int resolve_symbols(struct resolve_work *w);
int resolve_go(struct resolve_work *w);

void resolve_note(struct resolve_work *w, const char *format, ...) TS_PRINTF(2, 3);

/* Appends a function; its sites follow. NULL: no memory. Valid until the next one. */
struct resolve_func *resolve_add_func(struct resolve_work *w, const struct lib_func *func,
				      const char *name);
void resolve_add_site(struct resolve_work *w, struct resolve_site site); /* func is filled in */
/*
 * Adds the enter sites of the function that was added last, whose rule is there, and its return
 * sites where `returns`. sym: its code; size 0: not known.
 */
void resolve_add_enter(struct resolve_work *w, struct resolve_func *f,
		       const struct image_symbol *sym, uint64_t offset, bool returns);

/* A function that calls the one which does the work. */
struct resolve_caller {
	const struct lib_func *func;
	const char *name, *how;
	struct image_symbol sym;
	struct ts_rule rule;
	bool called; /* by a function that is probed itself */
	/* What resolve_add_ends finds: */
	size_t calls; /* 0: it does not, and is no concern */
	bool ends;    /* all of its returns pass: */
	struct disasm_end end;
};

struct resolve_ends {
	uint64_t inner; /* code of the function that was added last; its name: */
	const char *name;
	struct resolve_caller callers[LIB_MAX_INSIDE]; /* that are not probed themselves */
	size_t count;
	struct resolve_caller nameless; /* one without a symbol, where there is one */
};

/*
 * Adds the functions that are probed where the last one's calls are only counted, if all who use it
 * are known; or a note that says why not. resolve_ends.c
 */
void resolve_add_ends(struct resolve_work *w, struct resolve_ends *ends);

/* Where the connections of an image with OpenSSL tell of their handshakes. resolve_shake.c */
void resolve_shake(struct resolve_work *w, struct ts_shake *out);

/* The same of Go 1.minor's crypto/tls.Conn; nothing, where it is not known. */
struct ts_shake resolve_go_shake(int minor);

/* What a rule has under every ABI; addr: where the function begins. */
struct ts_rule resolve_rule(const struct resolve_work *w, const struct lib_func *func,
			    uint64_t addr);

#endif
