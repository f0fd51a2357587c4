/* SPDX-License-Identifier: MIT */
/* What the ways of finding functions share: resolve_symbols.c, resolve_go.c. */
#ifndef TLSSCOPE_RESOLVE_PRIVATE_H
#define TLSSCOPE_RESOLVE_PRIVATE_H

#include "arch.h"
#include "resolve.h"

/* One plan that is being made. no_memory: something of it is missing, it cannot be used. */
struct resolve_work {
	struct image *im;
	const struct arch *arch;
	const struct lib_row *row;
	struct resolve_plan *plan;
	bool no_memory;
};

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

/* Where the connections of an image with OpenSSL tell of their handshakes. resolve_shake.c */
void resolve_shake(struct resolve_work *w, struct ts_shake *out);

/* The same of Go 1.minor's crypto/tls.Conn; nothing, where it is not known. */
struct ts_shake resolve_go_shake(int minor);

/* What a rule has under every ABI; addr: where the function begins. */
struct ts_rule resolve_rule(const struct resolve_work *w, const struct lib_func *func,
			    uint64_t addr);

#endif
