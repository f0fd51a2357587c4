/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "alloc.h"
#include "arch.h"
#include "make_go.h"
#include "resolve.h"

#define SIZE 0x40u /* of each function */
#define GO_ROW (&lib_rows[1])

/* A Go program, as the tests change it before they look at it. */
struct program {
	struct go_file file;
	struct go_func funcs[8];
	struct go_layout layout;
	int fd;
	struct image *im;
	struct resolve_plan plan;
};

static struct program *begin(uint32_t magic, uint16_t machine, const char *version)
{
	struct program *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->layout = (struct go_layout){
		.magic = magic, .machine = machine, .version = version, .funcs = p->funcs};
	return p;
}

static void add(struct program *p, const char *name)
{
	p->funcs[p->layout.count++] = (struct go_func){.name = name, .size = SIZE};
}

static uint64_t addr_of(const struct program *p, size_t n)
{
	return p->file.base + GO_TEXT + n * SIZE;
}

static void code(struct program *p, size_t n, size_t at, const void *bytes, size_t len)
{
	memcpy(p->file.bytes + GO_TEXT + n * SIZE + at, bytes, len);
}

#define CODE_AT(p, n, at, ...)                                                                     \
	code(p, n, at, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

/* Prologues: of the register ABI, and of the one before it. */
#define LIMIT_R14 0x49, 0x3b, 0x66, 0x10 /* cmp rsp, [r14+0x10] */
#define LIMIT_TLS                                                                                  \
	0x64, 0x48, 0x8b, 0x0c, 0x25, 0xf8, 0xff, 0xff, 0xff, /* mov rcx, fs:[-8] */               \
		0x48, 0x3b, 0x61, 0x10			      /* cmp rsp, [rcx+0x10] */

/* A function that looks at the stack's limit and returns at its end. */
static void body_x86(struct program *p, size_t n, bool registers)
{
	uint8_t nops[SIZE];

	memset(nops, 0x90, sizeof(nops));
	code(p, n, 0, nops, SIZE);
	if (registers)
		CODE_AT(p, n, 0, LIMIT_R14);
	else
		CODE_AT(p, n, 0, LIMIT_TLS);
	CODE_AT(p, n, SIZE - 1, 0xc3);
}

static void body_arm64(struct program *p, size_t n)
{
	static const uint8_t nop[] = {0x1f, 0x20, 0x03, 0xd5}, ret[] = {0xc0, 0x03, 0x5f, 0xd6};
	size_t at;

	for (at = 0; at < SIZE; at += 4)
		code(p, n, at, at == SIZE - 4 ? ret : nop, 4);
}

static void look(struct program *p)
{
	const char *bytes = (const char *)p->file.bytes;

	go_end(&p->file, &p->layout);
	p->fd = memfd_create("go", MFD_CLOEXEC);
	assert_true(p->fd >= 0);
	assert_int_equal(write(p->fd, bytes, p->file.size), p->file.size);
	assert_int_equal(image_open(&p->im, p->fd, "program", NULL), 0);
	assert_int_equal(resolve_is(p->im, GO_ROW, NULL), 0);
	assert_int_equal(resolve_any(p->im, GO_ROW, &p->plan, NULL), 0);
}

static void end(struct program *p)
{
	resolve_free(&p->plan);
	image_close(p->im);
	close(p->fd);
	free(p);
}

static bool noted(const struct program *p, const char *text)
{
	return p->plan.notes.len &&
	       memmem(p->plan.notes.data, p->plan.notes.len, text, strlen(text));
}

static const struct resolve_func *hooked(const struct program *p, const char *name)
{
	size_t i;

	for (i = 0; i < p->plan.funcs_count; i++)
		if (!strcmp(p->plan.funcs[i].name, name))
			return &p->plan.funcs[i];
	return NULL;
}

static void check_sites(const struct program *p, const struct resolve_func *f, size_t n)
{
	const uint64_t start = GO_TEXT + n * SIZE;
	bool x86 = p->layout.machine == EM_X86_64;
	size_t i, enters = 0, leaves = 0;
	/* Behind the look at the limit are nops, which kernels emulate on x86_64. */
	size_t cheap = p->file.bytes[start] == 0x49 ? 4 : 13;

	for (i = 0; i < p->plan.sites_count; i++) {
		const struct resolve_site *s = &p->plan.sites[i];

		if (&p->plan.funcs[s->func] != f)
			continue;
		assert_int_not_equal(s->role, RESOLVE_RETURN);
		if (s->role == RESOLVE_LEAVE)
			assert_int_equal(s->offset, start + SIZE - (x86 ? 1 : 4));
		else
			assert_int_equal(s->offset,
					 start + (s->where == RESOLVE_CHEAP ? cheap : 0));
		enters += s->role == RESOLVE_ENTER;
		leaves += s->role == RESOLVE_LEAVE;
	}
	assert_int_equal(enters, x86 ? 2 : 1);
	assert_int_equal(f->rule.ip_back, x86 ? -(int)cheap : 0);
	assert_int_equal(f->rule.sp_back, 0);
	assert_int_equal(leaves, f->rule.sp_leave.kind != TS_VAL_NONE);
}

static void check_value(struct ts_value v, unsigned int kind, unsigned int reg, int disp)
{
	assert_int_equal(v.kind, kind);
	assert_int_equal(v.reg, reg);
	assert_int_equal(v.disp, disp);
	assert_int_equal(v.size, 8);
}

/* Read, Write, Close, and the types that have descriptors. */
static struct program *talker(uint32_t magic, uint16_t machine, const char *version, bool registers)
{
	static const char *const names[] = {"crypto/tls.(*Conn).Read", "crypto/tls.(*Conn).Write",
					    "crypto/tls.(*Conn).Close", "net.(*TCPConn).Read",
					    "net.(*UnixConn).Read"};
	struct program *p = begin(magic, machine, version);
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(names); i++)
		add(p, names[i]);
	go_fill(&p->file, &p->layout);
	for (i = 0; i < TS_ARRAY_SIZE(names); i++)
		if (machine == EM_X86_64)
			body_x86(p, i, registers);
		else
			body_arm64(p, i);
	return p;
}

static void check_talker(const struct program *p)
{
	const struct resolve_func *read = hooked(p, "crypto/tls.(*Conn).Read");
	const struct resolve_func *write = hooked(p, "crypto/tls.(*Conn).Write");
	const struct resolve_func *close = hooked(p, "crypto/tls.(*Conn).Close");

	assert_non_null(read);
	assert_non_null(write);
	assert_non_null(close);
	assert_int_equal(p->plan.funcs_count, 3);
	check_sites(p, read, 0);
	check_sites(p, write, 1);
	check_sites(p, close, 2);
	assert_int_equal(read->func->probe, TS_P_GOTLS_READ);
	assert_int_equal(write->func->probe, TS_P_GOTLS_WRITE);
	assert_int_equal(read->rule.flow_mode, TS_FLOW_GO);
	assert_int_not_equal(read->rule.sp_leave.kind, TS_VAL_NONE);
	assert_int_not_equal(close->rule.sp_leave.kind, TS_VAL_NONE);
	assert_int_equal(read->rule.entry, addr_of(p, 0));
	assert_int_equal(write->rule.fd.types[0], addr_of(p, 3));
	assert_int_equal(write->rule.fd.types[1], addr_of(p, 4));
	assert_string_equal(read->how, "gopclntab");
	assert_false(p->plan.notes.len);
}

static void registers_since_1_17(void **state)
{
	struct program *p = talker(GO_MAGIC_1_16, EM_X86_64, "go1.17.1", true);
	const struct ts_rule *r;

	(void)state;
	look(p);
	check_talker(p);
	r = &hooked(p, "crypto/tls.(*Conn).Read")->rule;
	check_value(r->conn, TS_VAL_REG, 80, 0);
	check_value(r->buf, TS_VAL_REG, 40, 0);
	check_value(r->len, TS_VAL_REG, 88, 0);
	check_value(r->ret, TS_VAL_REG, 80, 0);
	check_value(r->flow, TS_VAL_REG, 8, 0);
	check_value(r->sp_leave, TS_VAL_REG, 152, 0);
	assert_int_equal(r->goid, 152);
	assert_string_equal(p->plan.about, "go1.17.1, arguments in registers, goid by version");
	end(p);
}

/* The code decides: this one's version would have registers. */
static void stack_where_the_code_says_so(void **state)
{
	static const char *const versions[] = {"go1.15.15", "go1.17.1"};
	const struct ts_rule *r;
	struct program *p;
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		p = talker(GO_MAGIC_1_2, EM_X86_64, versions[i], false);
		look(p);
		check_talker(p);
		r = &hooked(p, "crypto/tls.(*Conn).Write")->rule;
		check_value(r->conn, TS_VAL_MEM, 152, 8);
		check_value(r->buf, TS_VAL_MEM, 152, 16);
		check_value(r->len, TS_VAL_MEM, 152, 24);
		check_value(r->ret, TS_VAL_MEM, 152, 40);
		check_value(r->flow, TS_VAL_TLS, 0, -8);
		end(p);
	}
}

static void arm64_by_version(void **state)
{
	static const struct {
		const char *version;
		bool stack;
	} cases[] = {{"go1.9", true}, {"go1.17.1", true}, {"go1.18", false}};
	const struct ts_rule *r;
	struct program *p;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		p = talker(GO_MAGIC_1_16, EM_AARCH64, cases[i].version, false);
		look(p);
		check_talker(p);
		r = &hooked(p, "crypto/tls.(*Conn).Read")->rule;
		check_value(r->flow, TS_VAL_REG, 28 * 8, 0);
		if (cases[i].stack) {
			check_value(r->buf, TS_VAL_MEM, 31 * 8, 16);
			check_value(r->ret, TS_VAL_MEM, 31 * 8, 40);
		} else {
			check_value(r->buf, TS_VAL_REG, 8, 0);
			check_value(r->ret, TS_VAL_REG, 0, 0);
		}
		end(p);
	}
}

static void goid_by_version(void **state)
{
	static const struct {
		const char *version;
		unsigned int goid;
	} cases[] = {{"go1.22.9", 152},
		     {"go1.23.1", 160},
		     {"go1.24.4", 160},
		     {"go1.25", 152},
		     {"go1.99", 152}};
	struct program *p;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		p = talker(GO_MAGIC_1_20, EM_X86_64, cases[i].version, true);
		look(p);
		assert_int_equal(hooked(p, "crypto/tls.(*Conn).Read")->rule.goid, cases[i].goid);
		end(p);
	}
}

static void a_profile_is_told(void **state)
{
	struct program *p = talker(GO_MAGIC_1_20, EM_X86_64, "go1.24.4", true);

	(void)state;
	go_long_string(&p->file, GO_DATA + 33 + strlen("go1.24.4"), "path\tp\nbuild\t-pgo=p\n");
	look(p);
	assert_int_equal(p->plan.funcs_count, 3);
	assert_true(noted(p, "built with a profile (-pgo)"));
	end(p);
}

/* The table of stack depths knows better: a 0xc3 that is no return, or one that would not be safe.
 */
static void a_return_at_another_depth_is_refused(void **state)
{
	struct program *p = talker(GO_MAGIC_1_20, EM_X86_64, "go1.24.4", true);

	(void)state;
	CODE_AT(p, 0, 0x20, 0xc3);
	look(p);
	assert_null(hooked(p, "crypto/tls.(*Conn).Read"));
	assert_non_null(hooked(p, "crypto/tls.(*Conn).Write"));
	assert_true(noted(p, "crypto/tls.(*Conn).Read: not hooked: its code cannot be decoded"));
	end(p);
}

static void what_may_not_return_is_refused(void **state)
{
	struct program *p = talker(GO_MAGIC_1_20, EM_X86_64, "go1.24.4", true);

	(void)state;
	CODE_AT(p, 0, 0x20, 0xe9, 0x00, 0x10, 0x00, 0x00); /* jmp out of it */
	CODE_AT(p, 1, 0, 0x90, 0x90, 0x90, 0x90);	   /* no prologue */
	look(p);
	assert_int_equal(p->plan.funcs_count, 1);
	assert_true(noted(p, "Read: not hooked: it may go on in another function"));
	assert_true(noted(p, "Write: not hooked: its code does not show"));
	end(p);
}

/* Functions that take their arguments in registers. */
static struct program *of_version(const char *version, const char *const *names, size_t count)
{
	struct program *p = begin(GO_MAGIC_1_20, EM_X86_64, version);
	size_t i;

	for (i = 0; i < count; i++)
		add(p, names[i]);
	go_fill(&p->file, &p->layout);
	for (i = 0; i < count; i++)
		body_x86(p, i, true);
	return p;
}

static struct program *with_functions(const char *const *names, size_t count)
{
	return of_version("go1.24.4", names, count);
}

static void a_fork_is_known_by_its_end(void **state)
{
	static const char *const names[] = {
		"example.com/utls.(*UConn).Read", "example.com/utls.(*UConn).Write",
		"example.com/utls.(*Conn).Write", "example.com/mytls.(*myConn).Read",
		"gitlab.com/x/utls%2egit.(*Conn).Read"};
	struct program *p = with_functions(names, TS_ARRAY_SIZE(names));
	const int32_t to_conn = (int32_t)SIZE - 0x25;

	(void)state;
	/* UConn.Write calls Conn.Write: one plaintext, one event. */
	CODE_AT(p, 1, 0x20, 0xe8, to_conn & 0xff, (to_conn >> 8) & 0xff, 0, 0);
	look(p);
	assert_int_equal(p->plan.funcs_count, 3);
	check_value(hooked(p, names[0])->rule.conn, TS_VAL_MEM, 80, 0);
	check_value(hooked(p, names[2])->rule.conn, TS_VAL_REG, 80, 0);
	assert_non_null(hooked(p, names[4]));
	assert_true(noted(p, "example.com/utls.(*UConn).Write: covered by what it calls"));
	/* Without the net package there are no descriptors to be found. */
	assert_int_equal(hooked(p, names[0])->rule.fd.number.steps, 0);
	end(p);
}

/* Whoever calls what is refused is probed in its stead. */
static void what_is_refused_covers_nothing(void **state)
{
	struct program *p = begin(GO_MAGIC_1_20, EM_X86_64, "go1.24.4");
	size_t i;

	(void)state;
	add(p, "example.com/utls.(*Conn).Write");
	add(p, "example.com/utls.(*UConn).Write");
	go_fill(&p->file, &p->layout);
	for (i = 0; i < 2; i++)
		body_x86(p, i, true);
	CODE_AT(p, 0, 0x20, 0xe9, 0x00, 0x10, 0x00, 0x00); /* jmp out of it */
	CODE_AT(p, 1, 0x20, 0xe8, 0x9b, 0xff, 0xff, 0xff); /* call the first one */
	look(p);
	assert_true(noted(p, "(*Conn).Write: not hooked: it may go on in another function"));
	assert_int_equal(p->plan.funcs_count, 1);
	assert_non_null(hooked(p, "example.com/utls.(*UConn).Write"));
	end(p);
}

/* Nothing is wrong with a program that does not talk TLS. */
static void no_tls_is_no_problem(void **state)
{
	struct program *p = begin(GO_MAGIC_1_20, EM_X86_64, "go1.24.4");

	(void)state;
	add(p, "main.main");
	go_fill(&p->file, &p->layout);
	body_x86(p, 0, true);
	look(p);
	assert_int_equal(p->plan.sites_count, 0);
	assert_int_equal(p->plan.notes.len, 0);
	end(p);
}

static void a_table_of_unknown_form_is_told(void **state)
{
	struct program *p = talker(GO_MAGIC_1_20, EM_X86_64, "go1.24.4", true);

	(void)state;
	go_put(&p->file, p->file.table, 0xfffffe00u, 4);
	look(p);
	assert_int_equal(p->plan.sites_count, 0);
	assert_true(noted(p, "and it has no symbols or DWARF that could be used instead"));
	end(p);
}

/* Wherever memory runs out: an error, nothing leaks, and the next try works. */
static void memory_may_run_out(void **state)
{
	struct program *p = talker(GO_MAGIC_1_20, EM_X86_64, "go1.24.4", true);
	struct resolve_plan plan;
	struct ts_err err;
	int result = -1;
	size_t n;

	(void)state;
	look(p);
	for (n = 1; result; n++) {
		alloc_left = n;
		result = resolve_any(p->im, GO_ROW, &plan, &err);
		alloc_left = 0;
		if (result)
			assert_int_equal(result, -ENOMEM);
		else
			assert_int_equal(plan.funcs_count, 3);
		resolve_free(&plan);
	}
	assert_true(n > 10);
	end(p);
}

/* A copy of the program with some bytes changed. */
/* A close of which it is not known where it returns is one at its entry. */
static void a_close_without_returns(void **state)
{
	struct program *p = talker(GO_MAGIC_1_20, EM_X86_64, "go1.24.4", true);
	const uint8_t jump[] = {0xe9, 0, 0x10, 0, 0}; /* out of it */
	const struct resolve_func *close;

	(void)state;
	memcpy(p->file.bytes + GO_TEXT + 3 * SIZE - sizeof(jump), jump, sizeof(jump));
	look(p);
	close = hooked(p, "crypto/tls.(*Conn).Close");
	assert_non_null(close);
	assert_int_equal(close->rule.sp_leave.kind, TS_VAL_NONE);
	check_sites(p, close, 2);
	end(p);
}

/* A connection's first handshake: where it returns is not asked; a fork's layout is not known. */
static void a_handshake_begins_a_connection(void **state)
{
	static const char *const names[] = {"crypto/tls.(*Conn).clientHandshake",
					    "crypto/tls.(*Conn).serverHandshake",
					    "example.com/tls.(*Conn).clientHandshake"};
	struct program *p = with_functions(names, TS_ARRAY_SIZE(names));
	const uint8_t jump[] = {0xe9, 0, 0x10, 0, 0}; /* out of it */
	const struct resolve_func *f;
	size_t i;

	(void)state;
	memcpy(p->file.bytes + GO_TEXT + SIZE - sizeof(jump), jump, sizeof(jump));
	look(p);
	for (i = 0; i < TS_ARRAY_SIZE(names); i++) {
		f = hooked(p, names[i]);
		assert_non_null(f);
		check_sites(p, f, i);
		assert_int_equal(f->rule.role, TS_ROLE_BEGIN);
		assert_int_equal(f->rule.sp_leave.kind, TS_VAL_NONE);
		check_value(f->rule.conn, TS_VAL_REG, 80, 0);
		assert_int_equal(f->rule.shake.version.size, i < 2 ? 2 : 0);
	}
	end(p);
}

/* Where the layout is not known nothing would ever come of a probe: there is none, and that is
 * told.
 */
static void a_handshake_is_told_where_its_layout_is_known(void **state)
{
	static const char *const names[] = {"crypto/tls.(*Conn).Read",
					    "crypto/tls.(*Conn).handshakeContext"};
	static const struct {
		const char *version;
		int name; /* where the server's name is; 0: not known */
	} cases[] = {{"go1.24.4", 224},
		     {"go1.24.4 X:boringcrypto", 224},
		     {"go1.27.3-X:boringcrypto,jsonv2", 232},
		     {"go1.24.4 (Red Hat 1.24.4-1.el9) X:strictfipsruntime", 0},
		     {"go1.24.4-1 X:systemcrypto", 0},
		     {"go1.24.4X:boringcrypto", 0},
		     {"go1.24.4-acme", 0},
		     {"go1.14.15", 0},
		     {"go1.99", 0},
		     {"X:boringcrypto", 0},
		     {NULL, 0}};
	const struct resolve_func *f;
	struct program *p;
	size_t i;

	(void)state;
	for (i = 0; i < TS_ARRAY_SIZE(cases); i++) {
		p = of_version(cases[i].version, names, TS_ARRAY_SIZE(names));
		look(p);
		f = hooked(p, names[1]);
		assert_non_null(hooked(p, names[0]));
		assert_int_equal(!f, !cases[i].name);
		assert_int_equal(noted(p, "handshakeContext: not hooked: where this Go's"), !f);
		if (f)
			assert_int_equal(f->rule.shake.sni.walk.offsets[0], cases[i].name);
		end(p);
	}
}

static struct image *copy(const struct program *p, size_t at, const void *bytes, size_t len)
{
	struct image *im = NULL;
	int fd = memfd_create("copy", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p->file.bytes, p->file.size), p->file.size);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)at), len);
	assert_int_equal(image_open(&im, fd, "copy", NULL), 0);
	return im;
}

static size_t cached_sites(struct resolve_cache *cache, struct image *im)
{
	struct resolve_plan plan;
	size_t sites;
	int fd = image_fd(im);

	assert_int_equal(resolve_cached(cache, im, GO_ROW, &plan, NULL), 0);
	sites = plan.sites_count;
	resolve_free(&plan);
	image_close(im);
	close(fd);
	return sites;
}

static void copies_are_looked_at_once(void **state)
{
	struct resolve_cache *cache = resolve_cache_open(true);
	struct program *p = talker(GO_MAGIC_1_20, EM_X86_64, "go1.24.4", true);
	const uint8_t damage[8] = {0}, jump = 0xe9;

	(void)state;
	assert_non_null(cache);
	p->layout.build_id = 0x12345678;
	look(p);
	assert_int_equal(cached_sites(cache, copy(p, 0, "", 0)), 9);
	/* Without its table only the cache knows where the functions are. */
	assert_int_equal(cached_sites(cache, copy(p, GO_TABLE, damage, sizeof(damage))), 9);
	/* Other code under the same build-id is another program. */
	assert_int_equal(cached_sites(cache, copy(p, GO_TEXT + SIZE - 1, &jump, 1)), 6);
	resolve_cache_close(cache);
	end(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_since_1_17),
		cmocka_unit_test(stack_where_the_code_says_so),
		cmocka_unit_test(arm64_by_version),
		cmocka_unit_test(goid_by_version),
		cmocka_unit_test(a_profile_is_told),
		cmocka_unit_test(a_return_at_another_depth_is_refused),
		cmocka_unit_test(what_may_not_return_is_refused),
		cmocka_unit_test(a_fork_is_known_by_its_end),
		cmocka_unit_test(what_is_refused_covers_nothing),
		cmocka_unit_test(no_tls_is_no_problem),
		cmocka_unit_test(a_table_of_unknown_form_is_told),
		cmocka_unit_test(a_close_without_returns),
		cmocka_unit_test(a_handshake_begins_a_connection),
		cmocka_unit_test(a_handshake_is_told_where_its_layout_is_known),
		cmocka_unit_test(copies_are_looked_at_once),
		cmocka_unit_test(memory_may_run_out),
	};

	return cmocka_run_group_tests_name("resolve_go", tests, NULL, NULL);
}
