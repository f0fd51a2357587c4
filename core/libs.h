/* SPDX-License-Identifier: MIT */
/*
 * The probe table: what is known of TLS libraries, as constant data. A library is one row. Adding
 * one is described in core/README.md.
 */
#ifndef TLSSCOPE_LIBS_H
#define TLSSCOPE_LIBS_H

#include "base.h"

/* The probes that users name; bits in ts_sub.probes. */
enum ts_probe {
	TS_P_SSL_READ,
	TS_P_SSL_WRITE,
	TS_P_GOTLS_READ,
	TS_P_GOTLS_WRITE,
	TS_P_KTLS_RECV,
	TS_P_KTLS_SEND,
	TS_P_TLS_HELLO, /* on the wire: of no library, and no source's */
	TS_P_OPEN,
	TS_P_ERROR,
	TS_P_COUNT
};
#define TS_PROBE(p) (1ull << (p))
/* Handshakes and errors: what any call may bring, whatever its function's probe. */
#define TS_PROBES_OPEN (TS_PROBE(TS_P_OPEN) | TS_PROBE(TS_P_ERROR))

/*
 * Whether nothing but the kernel's TLS is asked for: then its control records are wanted too, and
 * what a library above shows as well.
 */
static inline bool lib_kernel_only(uint64_t probes)
{
	return !(probes & ~(TS_PROBE(TS_P_KTLS_RECV) | TS_PROBE(TS_P_KTLS_SEND)));
}

/* A probe's name, or a union of several. */
struct lib_probe {
	const char *name;
	uint64_t probes;
	const char *help;
};
extern const struct lib_probe lib_probes[];
extern const size_t lib_probes_count;
const char *lib_probe_name(enum ts_probe p); /* never a union's */

/*
 * One function. Arguments are numbered from 1 as the C ABI passes them; 0: there is none. int_len:
 * the length is an int, not a size_t. Where `inside` is set, the function may have no symbol: then
 * it is the one function that all those named there call (found by disassembly). The out
 * argument may also be `out_alt`: which, the callers' code shows; where none of them calls it,
 * `out_alt` holds where the row's function `alt_symbol` is there. A function of TS_ROLE_CLOSE
 * or TS_ROLE_BEGIN has no probe: it serves all of them. One of TS_ROLE_REASON has its arguments in
 * conn and len, and one of TS_ROLE_RESULT in len what the call before returned.
 *
 * Of a Go row, a name that begins with an asterisk is what a function's name ends with, and
 * arguments are numbered by words: a slice is three (address, length, capacity). The first result
 * is what ret_mode takes for the return value.
 */
#define LIB_MAX_INSIDE 3
struct lib_func {
	const char *name;
	enum ts_probe probe;
	enum ts_role role;
	enum ts_dir dir;
	enum ts_ret_mode ret_mode;
	uint32_t flags; /* enum ts_rule_flags */
	uint8_t conn, buf, len, out, out_alt;
	bool conn_inside;      /* the connection is what the argument's first word points to */
	uint8_t words;	       /* of a Go row: how many words the arguments have */
	bool int_len, int_ret; /* 32-bit length, 32-bit return value */
	const char *inside[LIB_MAX_INSIDE];
	const char *alt_symbol;
	const char *refs_of; /* TS_ROLE_CLOSE: the function that counts one reference more */
	enum ts_how how;     /* TS_ROLE_CLOSE */
	const char *program; /* of the kernel's row: what of bpf/ktls.bpf.c enters it */
};

/* What a function is probed for: its probe's name; or "(close)" and the like, which serve all. */
const char *lib_serves(const struct lib_func *func);

/* The events that a function may bring. */
static inline uint64_t lib_events(const struct lib_func *func)
{
	uint64_t own = TS_PROBE(func->probe);

	/* The kernel's functions know of no handshake. */
	return func->program ? own : own | TS_PROBES_OPEN;
}

/*
 * A row is of Go programs, which tell by themselves that they are, or of files that define all its
 * markers: the first alone may be a wrapper's (LD_PRELOAD), which passes calls on to the library,
 * and knows nothing of its connections.
 */
struct lib_row {
	const char *kind; /* "openssl" */
	bool go;
	const char *markers[2];
	const char *names[4]; /* base names to look for in the system's library folders: globs */
	const struct lib_func *funcs;
	size_t funcs_count;
	bool aside; /* explains what others bring: nothing of its own to tell */
};
extern const struct lib_row lib_rows[];
extern const size_t lib_rows_count;
/* How memory BIOs get their records, in OpenSSL's files: probed where a connection has one. */
extern const struct lib_row lib_bio;
/* Dynamic linkers: what they call when they have loaded something. names: of their mappings. */
extern const struct lib_row lib_loader;
/* The kernel's own TLS, which is in no file. LIB_KERNEL stands where others have a path. */
extern const struct lib_row lib_kernel;
#define LIB_KERNEL "kernel"

#endif
