/* SPDX-License-Identifier: MIT */
#include "libs.h"

#define READS (TS_PROBE(TS_P_SSL_READ) | TS_PROBE(TS_P_GOTLS_READ) | TS_PROBE(TS_P_KTLS_RECV))
#define WRITES (TS_PROBE(TS_P_SSL_WRITE) | TS_PROBE(TS_P_GOTLS_WRITE) | TS_PROBE(TS_P_KTLS_SEND))

const struct lib_probe lib_probes[] = {
	{"ssl_read", TS_PROBE(TS_P_SSL_READ), "plaintext that a program read through OpenSSL"},
	{"ssl_write", TS_PROBE(TS_P_SSL_WRITE), "plaintext that a program wrote through OpenSSL"},
	{"gotls_read", TS_PROBE(TS_P_GOTLS_READ), "plaintext that a Go program read"},
	{"gotls_write", TS_PROBE(TS_P_GOTLS_WRITE), "plaintext that a Go program wrote"},
	{"ktls_recv", TS_PROBE(TS_P_KTLS_RECV), "plaintext that the kernel's own TLS received"},
	{"ktls_send", TS_PROBE(TS_P_KTLS_SEND), "plaintext that the kernel's own TLS sent"},
	{"tls_hello", TS_PROBE(TS_P_TLS_HELLO), "a TLS connection begins, seen at its socket"},
	{"tls_read", READS, "plaintext read, whatever the library"},
	{"tls_write", WRITES, "plaintext written, whatever the library"},
	{"tls_data", READS | WRITES, "plaintext read or written, whatever the library"},
	{"tls_open", TS_PROBE(TS_P_OPEN), "a handshake is done, or failed"},
	{"tls_error", TS_PROBE(TS_P_ERROR), "a handshake or a call failed"},
};
const size_t lib_probes_count = TS_ARRAY_SIZE(lib_probes);

const char *lib_probe_name(enum ts_probe p)
{
	/* Every probe is named before the unions that hold it. */
	size_t i;

	for (i = 0; i < lib_probes_count; i++)
		if (lib_probes[i].probes == TS_PROBE(p))
			return lib_probes[i].name;
	return "?";
}

const char *lib_serves(const struct lib_func *func)
{
	switch (func->role) {
	case TS_ROLE_CLOSE:
		return "(close)";
	case TS_ROLE_BEGIN:
		return "(begin)";
	case TS_ROLE_REASON:
		return "(reason)";
	default:
		return lib_probe_name(func->probe);
	}
}

#define READ .probe = TS_P_SSL_READ, .dir = TS_IN, .int_ret = true
#define WRITE .probe = TS_P_SSL_WRITE, .dir = TS_OUT, .int_ret = true
/* (SSL *, void *, int) and (SSL *, void *, size_t, size_t *) */
#define INT_FORM .conn = 1, .buf = 2, .len = 3, .int_len = true, .ret_mode = TS_RET_LEN
#define EX_FORM .conn = 1, .buf = 2, .len = 3, .out = 4, .ret_mode = TS_RET_OUT

static const struct lib_func openssl_funcs[] = {
	{"SSL_read", READ, INT_FORM},
	{"SSL_read_ex", READ, EX_FORM},
	{"SSL_peek", READ, INT_FORM, .flags = TS_RULE_PEEK},
	{"SSL_peek_ex", READ, EX_FORM, .flags = TS_RULE_PEEK},
	/* Returns a state: 0 is an error, 1 data, 2 the end with 0 bytes. */
	{"SSL_read_early_data", READ, EX_FORM, .flags = TS_RULE_EARLY},
	{"SSL_write", WRITE, INT_FORM},
	{"SSL_write_ex", WRITE, EX_FORM},
	/* (SSL *, const void *, size_t, uint64_t flags, size_t *) */
	{"SSL_write_ex2", WRITE, .conn = 1, .buf = 2, .len = 3, .out = 5, .ret_mode = TS_RET_OUT},
	{"SSL_write_early_data", WRITE, EX_FORM, .flags = TS_RULE_EARLY},
	/* (SSL *, int fd, off_t, size_t, int flags), returns ssize_t; the kernel sends the file. */
	{"SSL_sendfile", .probe = TS_P_SSL_WRITE, .dir = TS_OUT, .conn = 1, .len = 4,
	 .ret_mode = TS_RET_LEN, .flags = TS_RULE_NODATA},
	/* What BIO_f_ssl calls. */
	{"ssl_read_internal", READ, EX_FORM, .inside = {"SSL_read", "SSL_read_ex"}},
	/* From OpenSSL 3.3 on, which brought SSL_write_ex2, it takes that function's arguments. */
	{"ssl_write_internal", WRITE, EX_FORM, .out_alt = 5, .alt_symbol = "SSL_write_ex2",
	 .inside = {"SSL_write", "SSL_write_ex", "SSL_write_ex2"}},
	/* SSL_new calls SSL_clear too, before anything is known of the connection: no harm. */
	{"SSL_do_handshake", .role = TS_ROLE_SHAKE, .probe = TS_P_OPEN, .conn = 1, .int_ret = true},
	/* What programs ask when a call failed, or may be tried again. */
	{"SSL_get_error", .role = TS_ROLE_RESULT, .probe = TS_P_ERROR, .conn = 1, .len = 2,
	 .int_len = true, .int_ret = true},
	{"SSL_free", .role = TS_ROLE_CLOSE, .conn = 1, .refs_of = "SSL_up_ref",
	 .how = TS_HOW_FREED},
	{"SSL_clear", .role = TS_ROLE_CLOSE, .conn = 1, .how = TS_HOW_CLEARED},
};

/* Of libcrypto: (int lib, int reason, ...); before OpenSSL 3 (int lib, int func, int reason, ...)
 */
static const struct lib_func openssl_errors[] = {
	{"ERR_vset_error", .role = TS_ROLE_REASON, .probe = TS_P_ERROR, .conn = 1, .len = 2,
	 .int_len = true},
	{"ERR_put_error", .role = TS_ROLE_REASON, .probe = TS_P_ERROR, .conn = 1, .len = 3,
	 .int_len = true},
};

#define GO_READ                                                                                    \
	.probe = TS_P_GOTLS_READ, .dir = TS_IN, .conn = 1, .buf = 2, .len = 3, .words = 4,         \
	.ret_mode = TS_RET_LEN
#define GO_WRITE                                                                                   \
	.probe = TS_P_GOTLS_WRITE, .dir = TS_OUT, .conn = 1, .buf = 2, .len = 3, .words = 4,       \
	.ret_mode = TS_RET_LEN
#define GO_SHAKE .role = TS_ROLE_SHAKE, .probe = TS_P_OPEN, .conn = 1, .ret_mode = TS_RET_FAILS
#define GO_BEGIN .role = TS_ROLE_BEGIN, .conn = 1, .words = 1
#define GO_CLOSE .role = TS_ROLE_CLOSE, .conn = 1, .words = 1, .how = TS_HOW_CLOSED

/* func (c *Conn) Read(b []byte) (n int, err error), and what forks of crypto/tls made of it. */
static const struct lib_func go_funcs[] = {
	{"crypto/tls.(*Conn).Read", GO_READ},
	{"crypto/tls.(*Conn).Write", GO_WRITE},
	{"crypto/tls.(*Conn).Close", GO_CLOSE},
	{"crypto/tls.(*Conn).clientHandshake", GO_BEGIN},
	{"crypto/tls.(*Conn).serverHandshake", GO_BEGIN},
	/* (c *Conn) (ret error); (c *Conn) (ctx context.Context) (ret error), from Go 1.17 on */
	{"crypto/tls.(*Conn).Handshake", GO_SHAKE, .words = 1},
	{"crypto/tls.(*Conn).handshakeContext", GO_SHAKE, .words = 3},
	{"*tls.(*Conn).Read", GO_READ},
	{"*tls.(*Conn).Write", GO_WRITE},
	{"*tls.(*Conn).Close", GO_CLOSE},
	{"*tls.(*Conn).clientHandshake", GO_BEGIN},
	{"*tls.(*Conn).serverHandshake", GO_BEGIN},
	/* A dot in the last part of a package's path is written %2e. */
	{"*utls%2egit.(*Conn).Read", GO_READ},
	{"*utls%2egit.(*Conn).Write", GO_WRITE},
	{"*utls%2egit.(*Conn).Close", GO_CLOSE},
	{"*utls%2egit.(*Conn).clientHandshake", GO_BEGIN},
	{"*utls%2egit.(*Conn).serverHandshake", GO_BEGIN},
	/* uTLS: type UConn struct { *Conn; ... } */
	{"*.(*UConn).Read", GO_READ, .conn_inside = true},
	{"*.(*UConn).Write", GO_WRITE, .conn_inside = true},
	{"*.(*UConn).Close", GO_CLOSE, .conn_inside = true},
	{"*.(*UConn).clientHandshake", GO_BEGIN, .conn_inside = true},
};

const struct lib_row lib_rows[] = {
	{
		.kind = "openssl",
		/* Whatever makes a connection has the second too: SSL_free calls it. */
		.markers = {"SSL_write", "SSL_CTX_free"},
		.names = {"libssl.so*"},
		.funcs = openssl_funcs,
		.funcs_count = TS_ARRAY_SIZE(openssl_funcs),
	},
	{
		.kind = "go",
		.go = true,
		.funcs = go_funcs,
		.funcs_count = TS_ARRAY_SIZE(go_funcs),
	},
	{
		.kind = "openssl",
		.markers = {"ERR_get_error"},
		.names = {"libcrypto.so*"},
		.funcs = openssl_errors,
		.funcs_count = TS_ARRAY_SIZE(openssl_errors),
		.aside = true,
	},
};
const size_t lib_rows_count = TS_ARRAY_SIZE(lib_rows);

/* int BIO_write(BIO *, const void *, int) */
static const struct lib_func bio_funcs[] = {
	{"BIO_write", .role = TS_ROLE_BIO, .conn = 1, .buf = 2, .len = 3, .int_len = true},
};

const struct lib_row lib_bio = {
	.kind = "openssl",
	.funcs = bio_funcs,
	.funcs_count = TS_ARRAY_SIZE(bio_funcs),
	.aside = true,
};

/*
 * void _dl_debug_state(void), where debuggers stop: <link.h>, r_debug.r_brk. In glibc's and musl's
 * linkers; Debian's file of musl's has the name of its C library.
 */
static const struct lib_func loader_funcs[] = {
	{"_dl_debug_state", .role = TS_ROLE_LOADER},
};

const struct lib_row lib_loader = {
	.kind = "loader",
	.names = {"ld-*.so*", "ld.so*", "libc.so"},
	.funcs = loader_funcs,
	.funcs_count = TS_ARRAY_SIZE(loader_funcs),
	.aside = true,
};

#define SEND .probe = TS_P_KTLS_SEND, .dir = TS_OUT
#define RECV .probe = TS_P_KTLS_RECV, .dir = TS_IN

/*
 * net/tls/tls_sw.c, tls_device.c and tls_main.c. Pages were sent by functions of their own before
 * 6.5. A network card's records go through the same tls_sw_recvmsg.
 */
static const struct lib_func kernel_funcs[] = {
	{"tls_sw_sendmsg", SEND, .program = "message"},
	{"tls_sw_sendpage", SEND, .program = "page"},
	{"tls_device_sendmsg", SEND, .program = "message"},
	{"tls_device_sendpage", SEND, .program = "page"},
	{"tls_sw_recvmsg", RECV, .program = "recv"},
	{"tls_sw_splice_read", RECV, .program = "splice"},
	{"tls_sw_read_sock", RECV, .program = "reader"},
	{"tls_sk_proto_close", .role = TS_ROLE_CLOSE, .program = "close", .how = TS_HOW_CLOSED},
};

const struct lib_row lib_kernel = {
	.kind = "ktls",
	.funcs = kernel_funcs,
	.funcs_count = TS_ARRAY_SIZE(kernel_funcs),
};
