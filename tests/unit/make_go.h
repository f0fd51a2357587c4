/* SPDX-License-Identifier: MIT */
/*
 * Builds small programs in memory as Go's linker makes them: buildinfo, gopclntab in each of its
 * forms, moduledata, and the relocations of a PIE. Go's text begins a little behind the code's
 * start, as in programs that have C code too.
 */
#ifndef TLSSCOPE_MAKE_GO_H
#define TLSSCOPE_MAKE_GO_H

#include <stddef.h>

#include "make_elf.h"

/* Where the parts are in the file; their addresses are these and the base. */
#define GO_CODE 0x1000u
#define GO_TEXT 0x1100u
#define GO_TABLE 0x2000u
#define GO_TABLE_MAX 0x2000u
#define GO_DATA 0x4000u /* buildinfo, a string, the dynamic section, moduledata; then a table */
#define GO_STRING 0x4100u
#define GO_DYNAMIC 0x4200u
#define GO_MODULE 0x4300u
#define GO_DATA_TABLE 0x4400u
#define GO_RELAS 0x6800u
#define GO_MAX 0xe000u

#define GO_MAGIC_1_2 0xfffffffbu
#define GO_MAGIC_1_16 0xfffffffau
#define GO_MAGIC_1_18 0xfffffff0u
#define GO_MAGIC_1_20 0xfffffff1u

enum go_sections {
	GO_NAMED,  /* as Go makes them */
	GO_MERGED, /* gopclntab has none of its own: a PIE by the C linker */
	GO_NONE	   /* no section headers */
};

struct go_func {
	const char *name;
	uint32_t size;	  /* 0: the table does not tell */
	uint32_t padding; /* until the next one */
	bool hole;	  /* not known to Go */
};

struct go_layout {
	uint32_t magic;
	uint16_t machine;
	bool pie;
	bool no_text; /* the header does not tell where the text is, as since Go 1.26 */
	enum go_sections sections;
	const char *version;  /* NULL: no buildinfo */
	const char *settings; /* NULL: buildinfo has none */
	bool old_version;     /* buildinfo has the address of a string */
	uint32_t build_id;    /* 0: none */
	const struct go_func *funcs;
	size_t count;
};

struct go_file {
	uint8_t bytes[GO_MAX];
	size_t size;
	uint64_t base; /* addresses less places in the file */
	size_t table;  /* where gopclntab is */
	size_t table_size;
	bool pie;
	uint16_t machine;
	Elf64_Rela relas[1200];
	size_t relas_count;
};

static inline void go_put(struct go_file *f, size_t at, uint64_t value, size_t width)
{
	memcpy(f->bytes + at, &value, width);
}

static inline void go_rela(struct go_file *f, uint64_t addr, uint64_t info, int64_t addend)
{
	f->relas[f->relas_count++] = (Elf64_Rela){addr, info, addend};
}

/* An address, in a PIE by a relocation alone. */
static inline void go_addr(struct go_file *f, size_t at, uint64_t addr)
{
	if (f->pie)
		go_rela(f, f->base + at,
			f->machine == EM_X86_64 ? R_X86_64_RELATIVE : R_AARCH64_RELATIVE,
			(int64_t)addr);
	else
		go_put(f, at, addr, 8);
}

static inline unsigned int go_step(const struct go_file *f)
{
	return f->machine == EM_X86_64 ? 1 : 4;
}

/*
 * A function's table: depth 0 for one instruction of four bytes, 0x90 until the last one, 0 at
 * that. Returns its length.
 */
static inline size_t go_pcsp(struct go_file *f, size_t at, uint32_t size)
{
	unsigned int step = go_step(f), middle = (size - 8) / step;
	const uint8_t table[] = {2,
				 (uint8_t)(4 / step),
				 0xa0, /* 0x90, zigzag and in two bytes */
				 2,
				 (uint8_t)(middle | 0x80),
				 (uint8_t)(middle >> 7),
				 0x9f,
				 2,
				 (uint8_t)(4 / step),
				 0};

	memcpy(f->bytes + at, table, sizeof(table));
	return sizeof(table);
}

/* What stands at the same places in all of a table's forms, or nearly so. */
struct go_form {
	size_t width, functab, names, pcs; /* places in the table; names and pcs grow */
	size_t names_base, pcs_base, funcs_base;
	bool parts;
};

static inline struct go_form go_form_of(uint32_t magic)
{
	struct go_form form = {8, 16, 0x1800, 0x1c00, 0, 0, 0, false};

	if (magic == GO_MAGIC_1_2)
		return form;
	form.width = magic == GO_MAGIC_1_16 ? 8 : 4;
	form.names_base = form.names = magic == GO_MAGIC_1_16 ? 64 : 72;
	form.pcs_base = form.pcs = 0x1000;
	form.pcs++; /* 0 stands for no table */
	form.functab = form.funcs_base = 0x1400;
	form.parts = true;
	return form;
}

static inline void go_header(struct go_file *f, const struct go_layout *l,
			     const struct go_form *form)
{
	size_t at = f->table + (form->width == 4 ? 32 : 24);

	go_put(f, f->table, l->magic, 4);
	go_put(f, f->table + 6, go_step(f), 1);
	go_put(f, f->table + 7, 8, 1);
	go_put(f, f->table + 8, l->count, 8);
	if (!form->parts)
		return;
	if (form->width == 4 && !l->no_text)
		go_addr(f, f->table + 24, f->base + GO_TEXT);
	go_put(f, at, form->names_base, 8);
	go_put(f, at + 24, form->pcs_base, 8);
	go_put(f, at + 32, form->funcs_base, 8);
}

static inline void go_start(struct go_file *f, size_t at, size_t width, uint64_t code)
{
	if (width == 8)
		go_addr(f, at, f->base + GO_TEXT + code);
	else
		go_put(f, at, code, 4);
}

static inline void go_table(struct go_file *f, const struct go_layout *l)
{
	struct go_form form = go_form_of(l->magic);
	size_t width = form.width, entry = f->table + form.functab, i, len;
	size_t func = entry + (2 * l->count + 1) * width + 8;
	uint64_t code = 0;

	go_header(f, l, &form);
	for (i = 0; i < l->count; i++, entry += 2 * width) {
		const struct go_func *fn = &l->funcs[i];

		go_start(f, entry, width, code);
		code += fn->size + fn->padding;
		if (fn->hole) {
			go_put(f, entry + width, UINT64_MAX, width);
			continue;
		}
		func = (func + 7) & ~(size_t)7;
		go_put(f, entry + width, func - f->table - form.funcs_base, width);
		go_start(f, func, width, code - fn->size - fn->padding);
		go_put(f, func + width, form.names - form.names_base, 4);
		len = strlen(fn->name) + 1;
		memcpy(f->bytes + f->table + form.names, fn->name, len);
		form.names += len;
		if (fn->size) {
			go_put(f, func + width + 12, form.pcs - form.pcs_base, 4);
			form.pcs += go_pcsp(f, f->table + form.pcs, fn->size);
		}
		func += width + 40;
	}
	go_start(f, entry, width, code);
}

/* The address of gopclntab, its names, and where the first function and the text are. */
static inline void go_module(struct go_file *f, const struct go_layout *l)
{
	struct go_form form = go_form_of(l->magic);

	go_addr(f, GO_MODULE, f->base + f->table);
	go_addr(f, GO_MODULE + 8, f->base + f->table + form.names_base);
	go_addr(f, GO_MODULE + 160, f->base + GO_TEXT);
	go_addr(f, GO_MODULE + 176, f->base + GO_TEXT);
}

/* Behind its length, in three bytes. */
static inline void go_long_string(struct go_file *f, size_t at, const char *text)
{
	size_t len = strlen(text);

	go_put(f, at, (len & 0x7f) | 0x80 | ((len >> 7 & 0x7f) | 0x80) << 8 | len >> 14 << 16, 3);
	memcpy(f->bytes + at + 3, text, len);
}

static inline void go_buildinfo(struct go_file *f, const char *version, bool old)
{
	size_t len = strlen(version);

	memcpy(f->bytes + GO_DATA, "\xff Go buildinf:\x08", 15);
	memcpy(f->bytes + GO_STRING, version, len);
	if (old) {
		go_addr(f, GO_DATA + 16, f->base + GO_DATA + 32);
		go_addr(f, GO_DATA + 32, f->base + GO_STRING);
		go_put(f, GO_DATA + 40, len, 8);
		return;
	}
	f->bytes[GO_DATA + 15] = 2;
	f->bytes[GO_DATA + 32] = (uint8_t)len;
	memcpy(f->bytes + GO_DATA + 33, version, len);
}

static inline void go_sections(struct go_file *f, const struct go_layout *l)
{
	static const char names[] = "\0.text\0.gopclntab\0.go.buildinfo\0.go.module\0.names"
				    "\0.note.go.buildid";
	const struct {
		Elf64_Nhdr header;
		char name[4];
		uint32_t id;
	} note = {{4, 4, 4}, "Go", l->build_id};
	Elf64_Ehdr *h = (Elf64_Ehdr *)f->bytes;
	Elf64_Shdr s[7] = {{0}};
	const char *name = names;
	size_t used = (f->size + 7) & ~(size_t)7, i;

	for (i = 1; i < 7; i++) {
		name += strlen(name) + 1;
		s[i].sh_name = (Elf64_Word)(name - names);
		s[i].sh_type = SHT_PROGBITS;
		s[i].sh_flags = SHF_ALLOC;
	}
	s[1].sh_offset = GO_CODE;
	s[1].sh_size = GO_TABLE - GO_CODE;
	s[1].sh_flags |= SHF_EXECINSTR;
	s[2].sh_offset = f->table;
	s[2].sh_size = f->table_size;
	s[3].sh_offset = GO_DATA;
	s[3].sh_size = GO_STRING - GO_DATA;
	s[4].sh_offset = GO_MODULE;
	s[4].sh_size = GO_DATA_TABLE - GO_MODULE;
	s[2].sh_flags &= l->sections == GO_NAMED ? SHF_ALLOC : 0u;
	s[3].sh_flags &= l->version ? SHF_ALLOC : 0u;
	s[4].sh_flags &= l->no_text && l->sections == GO_NAMED ? SHF_ALLOC : 0u;
	for (i = 1; i < 5; i++)
		s[i].sh_addr = f->base + s[i].sh_offset;
	s[5] = (Elf64_Shdr){.sh_name = s[5].sh_name, .sh_type = SHT_STRTAB};
	s[5].sh_offset = elf_put(f->bytes, &used, names, sizeof(names));
	s[5].sh_size = sizeof(names);
	s[6].sh_type = SHT_NOTE;
	s[6].sh_addralign = 4;
	s[6].sh_offset = elf_put(f->bytes, &used, &note, sizeof(note));
	s[6].sh_size = sizeof(note);
	used = (used + 7) & ~(size_t)7;
	h->e_shoff = elf_put(f->bytes, &used, s, sizeof(s));
	h->e_shentsize = sizeof(s[0]);
	h->e_shnum = l->build_id ? 7 : 6;
	h->e_shstrndx = 5;
	f->size = used;
}

static inline void go_dynamic(struct go_file *f)
{
	const Elf64_Dyn d[] = {
		{DT_RELA, {f->base + GO_RELAS}},
		{DT_RELASZ, {f->relas_count * sizeof(f->relas[0])}},
		{DT_RELAENT, {sizeof(f->relas[0])}},
		{DT_FLAGS_1, {DF_1_PIE}},
		{DT_NULL, {0}},
	};

	memcpy(f->bytes + GO_DYNAMIC, d, sizeof(d));
	memcpy(f->bytes + GO_RELAS, f->relas, f->relas_count * sizeof(f->relas[0]));
}

enum { GO_PHDR_CODE, GO_PHDR_TABLE, GO_PHDR_DATA, GO_PHDR_RELAS, GO_PHDR_DYNAMIC, GO_PHDRS };

/* Puts the headers before what is in the file. */
static inline void go_headers(struct go_file *f)
{
	Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}};
	const size_t relas = f->relas_count * sizeof(f->relas[0]);
	Elf64_Phdr p[GO_PHDRS] = {
		{.p_type = PT_LOAD, PF_R | PF_X, GO_CODE, 0, 0, GO_TABLE - GO_CODE, 0, 0x1000},
		{.p_type = PT_LOAD, PF_R, GO_TABLE, 0, 0, GO_DATA - GO_TABLE, 0, 0x1000},
		{.p_type = PT_LOAD, PF_R | PF_W, GO_DATA, 0, 0, GO_RELAS - GO_DATA, 0, 0x1000},
		{.p_type = PT_LOAD, PF_R, GO_RELAS, 0, 0, relas, 0, 0x1000},
		{.p_type = f->pie ? PT_DYNAMIC : PT_NULL, PF_R, GO_DYNAMIC, 0, 0, 0x80, 0, 8},
	};
	size_t i;

	for (i = 0; i < GO_PHDRS; i++) {
		p[i].p_vaddr = p[i].p_paddr = f->base + p[i].p_offset;
		p[i].p_memsz = p[i].p_filesz;
	}
	h.e_type = f->pie ? ET_DYN : ET_EXEC;
	h.e_machine = f->machine;
	h.e_version = EV_CURRENT;
	h.e_phoff = h.e_ehsize = sizeof(h);
	h.e_phentsize = sizeof(p[0]);
	h.e_phnum = GO_PHDRS;
	h.e_shentsize = sizeof(Elf64_Shdr);
	memcpy(f->bytes, &h, sizeof(h));
	memcpy(f->bytes + sizeof(h), p, sizeof(p));
	f->size = GO_RELAS + relas;
	if (f->pie)
		go_dynamic(f);
}

static inline void go_begin(struct go_file *f, const struct go_layout *l)
{
	/* Of the relocations only those that are counted are looked at. */
	memset(f, 0, offsetof(struct go_file, relas));
	f->relas_count = 0;
	f->pie = l->pie;
	f->machine = l->machine;
	f->base = l->pie ? 0 : 0x400000;
	f->table = l->sections != GO_NAMED && l->pie ? GO_DATA_TABLE : GO_TABLE;
	f->table_size = GO_TABLE_MAX;
}

/* Makes all of the file. A test changes bytes, or relocations, before or after go_end. */
static inline void go_fill(struct go_file *f, const struct go_layout *l)
{
	go_begin(f, l);
	go_table(f, l);
	go_module(f, l);
	if (l->version)
		go_buildinfo(f, l->version, l->old_version);
	if (l->settings)
		go_long_string(f, GO_DATA + 33 + strlen(l->version), l->settings);
}

static inline void go_end(struct go_file *f, const struct go_layout *l)
{
	go_headers(f);
	if (l->sections != GO_NONE)
		go_sections(f, l);
}

static inline void make_go(struct go_file *f, const struct go_layout *l)
{
	go_fill(f, l);
	go_end(f, l);
}

#endif
