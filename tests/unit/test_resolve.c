/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "alloc.h"
#include "arch.h"
#include "make_ssl.h"
#include "resolve.h"

/* The hooked function of this name, with its sites at addr; NULL if it is not hooked. */
static const struct resolve_func *hooked(const struct lib *l, const char *name, uint64_t addr)
{
	const struct resolve_plan *p = &l->plan;
	const struct resolve_func *f = NULL;
	size_t i, enters = 0, returns = 0;

	for (i = 0; i < p->sites_count; i++) {
		if (strcmp(p->funcs[p->sites[i].func].func->name, name))
			continue;
		f = &p->funcs[p->sites[i].func];
		assert_int_equal(p->sites[i].offset, addr - ELF_CODE_ADDR + ELF_CODE_OFFSET);
		enters += p->sites[i].role == RESOLVE_ENTER;
		returns += p->sites[i].role == RESOLVE_RETURN;
	}
	if (f) {
		assert_int_equal(enters, 1);
		assert_int_equal(returns, f->func->role != TS_ROLE_CLOSE);
	}
	return f;
}

static uint64_t addr_of(const struct lib *l, const char *name)
{
	size_t i;

	for (i = 0; i < l->count; i++)
		if (!strcmp(l->symbols[i].name, name))
			return l->symbols[i].addr;
	fail_msg("no symbol %s", name);
	return 0;
}

static const struct resolve_func *hooked_at_symbol(const struct lib *l, const char *name)
{
	const struct resolve_func *f = hooked(l, name, addr_of(l, name));

	assert_non_null(f);
	assert_string_equal(f->how, "dynsym");
	return f;
}

static bool noted(const struct lib *l, const char *text)
{
	return memmem(l->plan.notes.data, l->plan.notes.len, text, strlen(text));
}

static void same_value(struct ts_value v, uint16_t reg, uint8_t size, int32_t disp)
{
	assert_int_equal(v.kind, TS_VAL_REG);
	assert_int_equal(v.reg, reg);
	assert_int_equal(v.size, size);
	assert_int_equal(v.disp, disp);
}

/* Both internal functions, found and hooked, with the result of the write in argument `out`. */
static void internals_hooked(const struct lib *l, int out)
{
	const struct arch *a = arch_find(l->machine);
	const struct resolve_func *r = hooked(l, "ssl_read_internal", l->read);
	const struct resolve_func *w = hooked(l, "ssl_write_internal", l->write);

	assert_non_null(r);
	assert_non_null(w);
	assert_string_equal(r->how, "call target of SSL_read, SSL_read_ex");
	same_value(r->rule.out, a->args[3], 8, 0);
	same_value(w->rule.out, a->args[out - 1], 8, 0);
	assert_int_equal(r->rule.dir, TS_IN);
	assert_int_equal(w->rule.dir, TS_OUT);
	assert_int_equal(w->rule.ret_mode, TS_RET_OUT);
	assert_int_equal(w->rule.role, TS_ROLE_CALL);
	assert_int_equal(w->rule.flow_mode, TS_FLOW_THREAD);
	same_value(w->rule.conn, a->args[0], 8, 0);
	same_value(w->rule.buf, a->args[1], 8, 0);
	same_value(w->rule.len, a->args[2], 8, 0);
	same_value(w->rule.ret, a->ret, 4, 0);
	same_value(w->rule.sp, a->sp, 8, 0);
	same_value(w->rule.sp_leave, a->sp, 8, -a->sp_return);
	assert_null(hooked(l, "SSL_read", 0));
	assert_null(hooked(l, "SSL_read_ex", 0));
	assert_null(hooked(l, "SSL_write", 0));
	assert_true(noted(l, "SSL_write: covered by ssl_write_internal\n"));
}

static void read_side(struct lib *l)
{
	int_form(l, "SSL_read", l->read, 4);
	ex_form(l, "SSL_read_ex", l->read);
}

/* OpenSSL 1.1.1 to 3.2: (conn, buf, len, result). */
static void test_30(void **state)
{
	static const uint16_t machines[] = {EM_X86_64, EM_AARCH64};
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct lib *l = begin(machines[i]);

		read_side(l);
		int_form(l, "SSL_write", l->write, 4);
		ex_form(l, "SSL_write_ex", l->write);
		plan(l);
		internals_hooked(l, 4);
		assert_null(hooked(l, "SSL_write_ex", 0));
		assert_int_equal(l->plan.funcs_count, 2);
		assert_true(noted(l, "SSL_sendfile: not in this file\n"));
		end(l);
	}
}

/* From 3.3: flags before the result. SSL_write_ex goes on in SSL_write_ex2, directly or by the PLT.
 */
static void test_35(void **state)
{
	static const uint16_t machines[] = {EM_X86_64, EM_AARCH64};
	enum { DIRECTLY, BY_PLT, BY_PLT_ELSEWHERE, BY_PLT_UNKNOWN, WAYS };
	size_t i, way;

	(void)state;
	for (i = 0; i < 2 * WAYS; i++) {
		struct lib *l = begin(machines[i / WAYS]);
		uint64_t slot = ELF_CODE_ADDR + 0x20010, ex2;

		way = i % WAYS;
		read_side(l);
		int_form(l, "SSL_write", l->write, 5);
		ex_form(l, "SSL_write_ex2", l->write);
		ex2 = addr_of(l, "SSL_write_ex2");
		tail_form(l, "SSL_write_ex", way == DIRECTLY ? ex2 : l->plt + 0x10);
		if (way == BY_PLT || way == BY_PLT_ELSEWHERE)
			code_plt(&l->code, l->machine, l->plt + 0x10, slot, way == BY_PLT ? ex2 : 0,
				 false);
		plan(l);
		internals_hooked(l, 5);
		assert_null(hooked(l, "SSL_write_ex2", 0));
		if (way == DIRECTLY || way == BY_PLT)
			assert_null(hooked(l, "SSL_write_ex", 0));
		else
			hooked_at_symbol(l, "SSL_write_ex");
		end(l);
	}
}

static void all_at_symbols(const struct lib *l)
{
	hooked_at_symbol(l, "SSL_read");
	hooked_at_symbol(l, "SSL_read_ex");
	assert_null(hooked(l, "ssl_read_internal", 0));
	assert_true(noted(l, "ssl_read_internal: not hooked: "));
	assert_true(noted(l, "BIO_f_ssl"));
}

/* Two candidates, none proved, a caller that cannot be read, only one caller: no internal. */
static void test_unproved(void **state)
{
	static const uint8_t junk = 0x06;
	uint64_t from;
	int i;

	(void)state;
	for (i = 0; i < 5; i++) {
		struct lib *l = begin(EM_X86_64);

		marker(l);
		from = code_at(&l->code);
		if (i == 0 || i == 4)
			call(l, l->helper);
		if (i != 1)
			local(l, 4);
		call(l, l->read);
		if (i == 3)
			code_add(&l->code, &junk, 1);
		ret(l);
		named(l, "SSL_read", from);
		from = code_at(&l->code);
		if (i == 0)
			call(l, l->helper);
		call(l, i == 2 ? l->write : l->read);
		ret(l);
		named(l, "SSL_read_ex", from);
		plan(l);
		if (i < 4) {
			all_at_symbols(l);
		} else {
			/* Proved, but SSL_read calls a nameless function too: is it covered? */
			assert_non_null(hooked(l, "ssl_read_internal", l->read));
			hooked_at_symbol(l, "SSL_read");
			assert_null(hooked(l, "SSL_read_ex", 0));
		}
		end(l);
	}
}

static void test_one_caller(void **state)
{
	struct lib *l = begin(EM_X86_64);

	(void)state;
	int_form(l, "SSL_read", l->helper, 4);
	int_form(l, "SSL_write", l->helper, 4);
	plan(l);
	hooked_at_symbol(l, "SSL_read");
	hooked_at_symbol(l, "SSL_write");
	assert_int_equal(l->plan.funcs_count, 2);
	end(l);
}

/* What calls through a pointer, has other flags or does not call the internal is not covered. */
static void test_not_covered(void **state)
{
	struct lib *l = begin(EM_X86_64);
	uint64_t from;

	(void)state;
	marker(l);
	from = code_at(&l->code);
	local(l, 4);
	call(l, l->read);
	CODE(&l->code, 0xff, 0x50, 0x38); /* call [rax + 0x38] */
	ret(l);
	named(l, "SSL_read", from);
	ex_form(l, "SSL_read_ex", l->read);
	ex_form(l, "SSL_read_early_data", addr_of(l, "SSL_read_ex"));
	ex_form(l, "SSL_peek_ex", l->read);
	plan(l);
	assert_non_null(hooked(l, "ssl_read_internal", l->read));
	hooked_at_symbol(l, "SSL_read");
	assert_null(hooked(l, "SSL_read_ex", 0));
	assert_int_equal(hooked_at_symbol(l, "SSL_read_early_data")->rule.flags, TS_RULE_EARLY);
	assert_int_equal(hooked_at_symbol(l, "SSL_peek_ex")->rule.flags, TS_RULE_PEEK);
	end(l);
}

/* As in node: the internals have names, and the exported functions hold copies of their code. */
static void test_inlined(void **state)
{
	int i;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct lib *l = begin(EM_X86_64);
		const struct arch *a = &arch_x86_64;

		symbol(l, "ssl_read_internal", l->read, 1)->symtab = true;
		symbol(l, "ssl_write_internal", l->write, 1)->symtab = true;
		symbol(l, "ssl_start_async_job", l->helper, 1)->symtab = true;
		int_form(l, "SSL_read", l->helper, 4);
		ex_form(l, "SSL_read_ex", l->helper);
		int_form(l, "SSL_write", l->helper, 4);
		ex_form(l, i ? "SSL_write_ex2" : "SSL_write_ex", l->helper);
		plan(l);
		hooked_at_symbol(l, "SSL_read");
		hooked_at_symbol(l, "SSL_write");
		assert_string_equal(hooked(l, "ssl_read_internal", l->read)->how, "symtab");
		same_value(hooked(l, "ssl_read_internal", l->read)->rule.out, a->args[3], 8, 0);
		same_value(hooked(l, "ssl_write_internal", l->write)->rule.out, a->args[3 + i], 8,
			   0);
		end(l);
	}
}

/* Every function by itself: what its rule says. */
static void test_rules(void **state)
{
	const struct arch *a = &arch_arm64;
	struct lib *l = begin(EM_AARCH64);
	const struct resolve_func *f;
	size_t i;

	(void)state;
	for (i = 0; i < lib_rows[0].funcs_count; i++) {
		if (!lib_rows[0].funcs[i].inside[0])
			symbol(l, lib_rows[0].funcs[i].name, code_at(&l->code), 0);
		ret(l);
	}
	symbol(l, "SSL_write_ex", 0x10, 0)->symtab = true;
	plan(l);
	f = hooked_at_symbol(l, "SSL_read");
	same_value(f->rule.len, a->args[2], 4, 0);
	same_value(f->rule.ret, a->ret, 4, 0);
	assert_int_equal(f->rule.ret_mode, TS_RET_LEN);
	assert_int_equal(f->rule.out.kind, TS_VAL_NONE);
	f = hooked_at_symbol(l, "SSL_write_ex2");
	same_value(f->rule.out, a->args[4], 8, 0);
	f = hooked_at_symbol(l, "SSL_sendfile");
	assert_int_equal(f->rule.buf.kind, TS_VAL_NONE);
	assert_int_equal(f->rule.flags, TS_RULE_NODATA);
	same_value(f->rule.len, a->args[3], 8, 0);
	same_value(f->rule.ret, a->ret, 8, 0);
	f = hooked_at_symbol(l, "SSL_free");
	assert_int_equal(f->rule.role, TS_ROLE_CLOSE);
	same_value(f->rule.conn, a->args[0], 8, 0);
	assert_int_equal(f->rule.ret.kind, TS_VAL_NONE);
	hooked_at_symbol(l, "SSL_clear");
	hooked_at_symbol(l, "SSL_peek");
	hooked_at_symbol(l, "SSL_write_early_data");
	f = hooked_at_symbol(l, "SSL_do_handshake");
	assert_int_equal(f->rule.role, TS_ROLE_SHAKE);
	assert_int_equal(f->rule.shake.busy.size, 0);
	same_value(f->rule.ret, a->ret, 4, 0);
	hooked_at_symbol(l, "SSL_get_error");
	assert_int_equal(l->plan.funcs_count, 14);
	end(l);
}

static void test_odd_symbols(void **state)
{
	struct lib *l = begin(EM_X86_64);

	(void)state;
	symbol(l, "SSL_write", l->write, 1);
	symbol(l, "SSL_write_ex", 0x10, 1);   /* outside the code */
	symbol(l, "SSL_clear", l->helper, 1); /* two names of one function */
	symbol(l, "SSL_free", l->helper, 1);
	plan(l);
	hooked_at_symbol(l, "SSL_write");
	assert_null(hooked(l, "SSL_write_ex", 0));
	assert_true(noted(l, "SSL_write_ex: not hooked: its address is outside"));
	assert_int_equal(l->plan.funcs_count, 2);
	assert_true(noted(l, "the same code as SSL_free"));
	end(l);
}

static void test_row(void **state)
{
	struct lib *l = begin(EM_X86_64);

	(void)state;
	symbol(l, "SSL_write", 0, 0)->shndx = SHN_UNDEF;
	symbol(l, "my_SSL_write", l->read, 1);
	open_lib(l);
	assert_int_equal(resolve_is(l->im, &lib_rows[0], NULL), -ENOENT);
	assert_int_equal(resolve_is(l->im, &lib_rows[1], NULL), -ENOENT);
	end(l);
}

/* What defines some functions and hands on to a library is not one. */
static void test_wrapper(void **state)
{
	struct lib *l = begin(EM_X86_64);

	(void)state;
	l->count = 0;
	symbol(l, "SSL_write", l->write, 1);
	symbol(l, "SSL_do_handshake", l->read, 1);
	symbol(l, "SSL_CTX_free", 0, 0)->shndx = SHN_UNDEF;
	open_lib(l);
	assert_int_equal(resolve_is(l->im, &lib_rows[0], NULL), -ENOENT);
	end(l);
}

static void test_other_machine(void **state)
{
	const struct arch *host = arch_host();
	struct lib *l = begin(host == &arch_x86_64 ? EM_AARCH64 : EM_X86_64);
	struct ts_err err;

	(void)state;
	symbol(l, "SSL_write", l->write, 1);
	open_lib(l);
	assert_int_equal(resolve_image(l->im, &lib_rows[0], &l->plan, &err), -ENOEXEC);
	assert_non_null(strstr(err.text, "libssl is built for "));
	assert_int_equal(l->plan.sites_count, 0);
	end(l);
}

/* Wherever memory runs out: an error, nothing leaks, and the next try works. */
static void test_no_memory(void **state)
{
	struct lib *l = begin(EM_X86_64);
	struct resolve_plan p;
	struct ts_err err;
	size_t n;
	int result = -1;

	(void)state;
	read_side(l);
	symbol(l, "SSL_write", l->write, 1);
	open_lib(l);
	for (n = 1; result; n++) {
		alloc_left = n;
		result = resolve_any(l->im, &lib_rows[0], &p, &err);
		alloc_left = 0;
		if (result) {
			assert_int_equal(result, -ENOMEM);
			assert_null(p.funcs);
		}
		resolve_free(&p);
	}
	assert_true(n > 6);
	for (n = 1, result = -1; result; n++) {
		struct image *im;

		alloc_left = n;
		result = image_open(&im, image_fd(l->im), "libssl", &err);
		alloc_left = 0;
		assert_int_equal(!im, result != 0);
		image_close(im);
	}
	assert_true(n > 3);
	end(l);
}

/* Where connections have their descriptors takes both libraries of OpenSSL. */
static void descriptors_of(const char *path, struct image *ssl, struct resolve_plan *p)
{
	const struct ts_bio *bio = &p->funcs[0].rule.bio;
	struct image *crypto;
	char beside[300];
	int fd;

	assert_int_equal(resolve_bio(p, ssl, NULL), 0);
	assert_int_equal(bio->number, 0);
	snprintf(beside, sizeof(beside), "%.*slibcrypto.so.3", (int)(strrchr(path, '/') + 1 - path),
		 path);
	fd = open(beside, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(image_open(&crypto, fd, beside, NULL), 0);
	assert_int_equal(resolve_bio(p, ssl, crypto), 0);
	assert_int_equal(bio->read.steps, 1);
	assert_int_equal(bio->write.steps, 1);
	assert_int_equal(bio->type.steps, 2);
	assert_int_equal(bio->name.steps, 2);
	assert_int_equal(bio->name.offsets[0], bio->type.offsets[0]);
	assert_int_equal(bio->number % 4, 0);
	assert_true(bio->number > bio->type.offsets[0] && bio->number < bio->next);
	/* A file that has none of these functions. */
	assert_int_equal(resolve_bio(p, crypto, crypto), 0);
	assert_non_null(
		memmem(p->notes.data, p->notes.len, "SSL_get_rbio and SSL_get_wbio do", 32));
	image_close(crypto);
	close(fd);
}

/* The system's own libssl, where there is one: the internals of the real thing are found. */
static void test_system(void **state)
{
	struct resolve_plan p;
	struct image *im;
	glob_t found;
	size_t i, internals = 0;
	int fd;

	(void)state;
	if (glob("/usr/lib/*/libssl.so.3", 0, NULL, &found)) {
		print_message("there is no /usr/lib/*/libssl.so.3 here\n");
		skip();
	}
	fd = open(found.gl_pathv[0], O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(image_open(&im, fd, found.gl_pathv[0], NULL), 0);
	assert_int_equal(resolve_any(im, &lib_rows[0], &p, NULL), 0);
	for (i = 0; i < p.funcs_count; i++) {
		internals += p.funcs[i].func->inside[0] && p.funcs[i].inner == i;
		assert_int_equal(p.funcs[i].rule.shake.busy.size, 4);
		assert_int_equal(p.funcs[i].rule.shake.state.size, 4);
	}
	assert_int_equal(internals, 2);
	assert_true(strlen(image_build_id(im)) >= 16);
	descriptors_of(found.gl_pathv[0], im, &p);
	resolve_free(&p);
	image_close(im);
	close(fd);
	globfree(&found);
}

/* SSL_read with an end (a nop), SSL_read_ex without. */
static struct lib *counted(void)
{
	struct lib *l = begin(EM_X86_64);
	uint64_t from = code_at(&l->code);

	local(l, 4);
	call(l, l->read);
	CODE(&l->code, 0x90, 0xc3);
	named(l, "SSL_read", from);
	from = code_at(&l->code);
	call(l, l->read);
	ret(l);
	named(l, "SSL_read_ex", from);
	marker(l);
	return l;
}

/* The functions that are probed where calls are only counted; their number. */
static size_t aside(const struct lib *l, const struct resolve_func *list[8])
{
	const struct resolve_plan *p = &l->plan;
	size_t i, n = 0;

	for (i = 0; i < p->funcs_count; i++) {
		if (p->funcs[i].inner == i)
			continue;
		assert_string_equal(p->funcs[p->funcs[i].inner].func->name, "ssl_read_internal");
		list[n++] = &p->funcs[i];
	}
	for (i = 0; i < p->sites_count; i++)
		assert_int_equal(p->sites[i].where == RESOLVE_ASIDE,
				 p->funcs[p->sites[i].func].inner != p->sites[i].func);
	return n;
}

static void test_ends(void **state)
{
	const struct resolve_func *list[8];
	struct lib *l = counted();

	(void)state;
	plan(l);
	assert_int_equal(aside(l, list), 2);
	assert_string_equal(list[0]->name, "SSL_read");
	assert_int_equal(list[0]->rule.role, TS_ROLE_END);
	assert_string_equal(list[0]->cost, "nop at +8, emulated");
	assert_string_equal(list[1]->name, "SSL_read_ex");
	assert_true(list[1]->rule.flags & TS_RULE_WATCH);
	assert_int_equal(list[1]->rule.role, TS_ROLE_CALL);
	end(l);
}

/* Somebody else calls it, jumps to it, or takes its address: then nobody counts at ends. */
static void test_ends_unproved(void **state)
{
	enum { CALLS, JUMPS, SHORTLY, TAKES, NAMES, EXPORTS, NO_END, WAYS };
	const struct resolve_func *list[8];
	struct lib *l;
	size_t way;

	(void)state;
	for (way = 0; way < WAYS; way++) {
		l = way == NO_END ? begin(EM_X86_64) : counted();
		if (way == CALLS)
			call(l, l->read);
		else if (way == JUMPS)
			jump(l, l->read);
		else if (way == SHORTLY)
			CODE(&l->code, 0xeb, (uint8_t)(l->read - code_at(&l->code) - 2));
		else if (way == TAKES) /* lea rax, [rip + ...] */
			CODE(&l->code, 0x48, 0x8d), code_x86(&l->code, 0x05, l->read);
		else if (way == NAMES) /* mov eax, its address */
			l->fixed = true, CODE(&l->code, 0xb8),
			code_word(&l->code, (uint32_t)l->read);
		else if (way == EXPORTS)
			symbol(l, "ssl_read_internal", l->read, 1);
		else
			read_side(l), marker(l);
		ret(l);
		plan(l);
		assert_int_equal(aside(l, list), 0);
		assert_true(noted(l, "ssl_read_internal: two probes a call"));
		end(l);
	}
}

static void test_probes(void **state)
{
	(void)state;
	assert_string_equal(lib_probe_name(TS_P_SSL_READ), "ssl_read");
	assert_string_equal(lib_probe_name(TS_P_SSL_WRITE), "ssl_write");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_30),
		cmocka_unit_test(test_35),
		cmocka_unit_test(test_unproved),
		cmocka_unit_test(test_one_caller),
		cmocka_unit_test(test_not_covered),
		cmocka_unit_test(test_inlined),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_odd_symbols),
		cmocka_unit_test(test_wrapper),
		cmocka_unit_test(test_row),
		cmocka_unit_test(test_other_machine),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_system),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_ends_unproved),
		cmocka_unit_test(test_probes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
