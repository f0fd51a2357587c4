/* SPDX-License-Identifier: MIT */
/* Builds programs in memory that have debugging information as Go's linker writes it. */
#ifndef TLSSCOPE_MAKE_DWARF_H
#define TLSSCOPE_MAKE_DWARF_H

#include <dwarf.h>
#include <elf.h>
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Where the functions of dwarf_program lie. */
#define DWARF_READ 0x401020u
#define DWARF_READ_SIZE 0x3c1u
#define DWARF_SMALL 0x401800u
#define DWARF_SMALL_SIZE 0x11u
#define DWARF_FILE_MAX 0x20000u

struct dwarf_bytes {
	uint8_t data[0x8000];
	size_t len;
};

static inline void dwarf_add(struct dwarf_bytes *b, const void *data, size_t len)
{
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static inline void dwarf_number(struct dwarf_bytes *b, uint64_t value, size_t size)
{
	value = htole64(value);
	dwarf_add(b, &value, size);
}

static inline void dwarf_big_endian(struct dwarf_bytes *b, uint64_t value, size_t size)
{
	value = htobe64(value);
	dwarf_add(b, (const uint8_t *)&value + sizeof(value) - size, size);
}

static inline void dwarf_leb(struct dwarf_bytes *b, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		dwarf_number(b, value | 0x80, 1);
	dwarf_number(b, value, 1);
}

static inline void dwarf_string(struct dwarf_bytes *b, const char *s)
{
	dwarf_add(b, s, strlen(s) + 1);
}

enum dwarf_abbrev {
	AB_END,
	AB_UNIT,
	AB_STRUCT,
	AB_MEMBER,
	AB_TYPEDEF,
	AB_FUNCTION,
	AB_INLINED,  /* a function that is inlined where it is called */
	AB_CONCRETE, /* its code, where it has any */
	AB_LABEL,    /* looks like a function */
	AB_VARIABLE, /* looks like a member */
	AB_EMPTY,
	AB_JUMPING, /* says itself where the next entry is */
	AB_TYPE_UNIT,
	AB_UNIT_STRX, /* whose name is in .debug_str */
	AB_COUNT
};

#define DWARF_ATTRIBUTES 4 /* at most, with the zeros that end them */
struct dwarf_shape {
	uint8_t tag, children;
	uint8_t attributes[DWARF_ATTRIBUTES][2]; /* and forms */
};

static inline void dwarf_shapes(struct dwarf_bytes *out, int version)
{
	const uint8_t low = version < 5 ? DW_FORM_addr : DW_FORM_addrx;
	const uint8_t high = version < 5 ? DW_FORM_addr : DW_FORM_udata;
	const struct dwarf_shape shapes[AB_COUNT] = {
		[AB_UNIT] = {DW_TAG_compile_unit,
			     1,
			     {{DW_AT_name, DW_FORM_string}, {DW_AT_addr_base, DW_FORM_sec_offset}}},
		[AB_STRUCT] = {DW_TAG_structure_type,
			       1,
			       {{DW_AT_name, DW_FORM_string}, {DW_AT_byte_size, DW_FORM_udata}}},
		[AB_MEMBER] = {DW_TAG_member,
			       0,
			       {{DW_AT_name, DW_FORM_string},
				{DW_AT_data_member_location, DW_FORM_udata}}},
		[AB_TYPEDEF] = {DW_TAG_typedef, 0, {{DW_AT_name, DW_FORM_string}}},
		[AB_FUNCTION] = {DW_TAG_subprogram,
				 1,
				 {{DW_AT_name, DW_FORM_string},
				  {DW_AT_low_pc, low},
				  {DW_AT_high_pc, high}}},
		[AB_INLINED] = {DW_TAG_subprogram,
				0,
				{{DW_AT_name, DW_FORM_string}, {DW_AT_inline, DW_FORM_data1}}},
		[AB_CONCRETE] = {DW_TAG_subprogram,
				 0,
				 {{DW_AT_abstract_origin, DW_FORM_ref_addr},
				  {DW_AT_low_pc, low},
				  {DW_AT_high_pc, high}}},
		[AB_LABEL] = {DW_TAG_label,
			      1,
			      {{DW_AT_name, DW_FORM_string},
			       {DW_AT_low_pc, low},
			       {DW_AT_high_pc, high}}},
		[AB_VARIABLE] = {DW_TAG_variable,
				 0,
				 {{DW_AT_name, DW_FORM_string},
				  {DW_AT_data_member_location, DW_FORM_udata}}},
		[AB_EMPTY] = {DW_TAG_structure_type,
			      0,
			      {{DW_AT_declaration, DW_FORM_flag_present}}},
		[AB_JUMPING] = {DW_TAG_typedef, 1, {{DW_AT_sibling, DW_FORM_ref4}}},
		[AB_TYPE_UNIT] = {DW_TAG_type_unit, 1, {{DW_AT_name, DW_FORM_string}}},
		[AB_UNIT_STRX] = {DW_TAG_compile_unit,
				  1,
				  {{DW_AT_str_offsets_base, DW_FORM_sec_offset},
				   {DW_AT_name, DW_FORM_strx1},
				   {DW_AT_addr_base, DW_FORM_sec_offset}}},
	};
	size_t i, k;

	for (i = 1; i < AB_COUNT; i++) {
		dwarf_leb(out, i);
		dwarf_leb(out, shapes[i].tag);
		dwarf_number(out, shapes[i].children, 1);
		for (k = 0; k < DWARF_ATTRIBUTES; k++) {
			dwarf_leb(out, shapes[i].attributes[k][0]);
			dwarf_leb(out, shapes[i].attributes[k][1]);
			if (!shapes[i].attributes[k][0])
				break;
		}
	}
	dwarf_number(out, 0, 1);
}

/* The parts of a program's debugging information, in the order of dwarf_part_names. */
enum { PART_INFO, PART_ABBREV, PART_STR, PART_STR_OFFSETS, PART_ADDR, PART_COUNT };
static const char *const dwarf_part_names[PART_COUNT] = {"debug_info", "debug_abbrev", "debug_str",
							 "debug_str_offsets", "debug_addr"};

struct dwarf_parts {
	struct dwarf_bytes part[PART_COUNT];
	int version;
};

static inline size_t dwarf_unit(struct dwarf_parts *d, uint8_t type, const char *name)
{
	struct dwarf_bytes *b = &d->part[PART_INFO];
	size_t at = b->len;

	dwarf_number(b, 0, 4);
	dwarf_number(b, (uint64_t)d->version, 2);
	if (d->version >= 5) {
		dwarf_number(b, type, 1);
		dwarf_number(b, 8, 1);
		dwarf_number(b, 0, 4);
	} else {
		dwarf_number(b, 0, 4);
		dwarf_number(b, 8, 1);
	}
	if (type == DW_UT_type)
		dwarf_add(b, "signatur\x18\0\0\0", 12);
	dwarf_leb(b, type == DW_UT_type ? AB_TYPE_UNIT : name ? AB_UNIT : AB_UNIT_STRX);
	if (name)
		dwarf_string(b, name);
	else
		dwarf_add(b, "\x08\0\0\0\0", 5);
	if (type != DW_UT_type)
		dwarf_number(b, 8, 4);
	return at;
}

static inline void dwarf_unit_end(struct dwarf_parts *d, size_t at)
{
	struct dwarf_bytes *b = &d->part[PART_INFO];
	uint32_t length;

	dwarf_number(b, AB_END, 1);
	length = htole32((uint32_t)(b->len - at - 4));
	memcpy(b->data + at, &length, 4);
}

static inline void dwarf_struct(struct dwarf_bytes *b, const char *name, const char *member,
				uint64_t offset)
{
	dwarf_leb(b, AB_STRUCT);
	dwarf_string(b, name);
	dwarf_leb(b, offset + 8);
	dwarf_leb(b, AB_VARIABLE);
	dwarf_string(b, member);
	dwarf_leb(b, 0);
	dwarf_leb(b, AB_MEMBER);
	dwarf_string(b, member);
	dwarf_leb(b, offset);
	dwarf_number(b, AB_END, 1);
}

/* index: of its address in .debug_addr. */
static inline void dwarf_code(struct dwarf_parts *d, uint64_t low, uint64_t size, uint64_t index)
{
	struct dwarf_bytes *b = &d->part[PART_INFO];

	if (d->version >= 5) {
		dwarf_leb(b, index);
		dwarf_leb(b, size);
	} else {
		dwarf_number(b, low, 8);
		dwarf_number(b, low + size, 8);
	}
}

/* Has a member, but is no struct. */
static inline void dwarf_label(struct dwarf_parts *d, const char *name, const char *member)
{
	struct dwarf_bytes *b = &d->part[PART_INFO];

	dwarf_leb(b, AB_LABEL);
	dwarf_string(b, name);
	dwarf_code(d, DWARF_SMALL, 1, 1);
	dwarf_leb(b, AB_MEMBER);
	dwarf_string(b, member);
	dwarf_leb(b, 1);
	dwarf_number(b, AB_END, 1);
}

static inline void dwarf_functions(struct dwarf_parts *d)
{
	struct dwarf_bytes *b = &d->part[PART_INFO];
	size_t inlined;

	dwarf_leb(b, AB_INLINED);
	dwarf_string(b, "crypto/tls.gone");
	dwarf_number(b, 1, 1);
	inlined = b->len;
	dwarf_leb(b, AB_INLINED);
	dwarf_string(b, "crypto/tls.small");
	dwarf_number(b, 1, 1);
	dwarf_label(d, "crypto/tls.(*Conn).Read", "n");
	dwarf_leb(b, AB_FUNCTION);
	dwarf_string(b, "crypto/tls.(*Conn).Read");
	dwarf_code(d, DWARF_READ, DWARF_READ_SIZE, 0);
	dwarf_struct(b, "inner", "crypto/tls.(*Conn).Read", 1);
	dwarf_number(b, AB_END, 1);
	dwarf_leb(b, AB_CONCRETE);
	dwarf_number(b, inlined, 4);
	dwarf_code(d, DWARF_SMALL, DWARF_SMALL_SIZE, 1);
}

/* version: 4 (Go until 1.24) or 5. */
static inline void dwarf_program(struct dwarf_parts *d, int version)
{
	struct dwarf_bytes *b = &d->part[PART_INFO];
	size_t unit;

	memset(d, 0, sizeof(*d));
	d->version = version;
	dwarf_shapes(&d->part[PART_ABBREV], version);
	dwarf_add(&d->part[PART_STR], "main", sizeof("main"));
	dwarf_add(&d->part[PART_STR_OFFSETS], "\x08\0\0\0\x05\0\0\0\0\0\0", 12);
	dwarf_add(&d->part[PART_ADDR], "\x14\0\0\0\x05\0\x08", 8);
	dwarf_number(&d->part[PART_ADDR], DWARF_READ, 8);
	dwarf_number(&d->part[PART_ADDR], DWARF_SMALL, 8);
	unit = dwarf_unit(d, DW_UT_compile, version < 5 ? "main" : NULL);
	dwarf_leb(b, AB_EMPTY);
	dwarf_struct(b, "main.T", "x", 40);
	dwarf_struct(b, "twice", "x", 48);
	dwarf_unit_end(d, unit);
	unit = dwarf_unit(d, DW_UT_compile, "crypto/tls");
	dwarf_functions(d);
	dwarf_unit_end(d, unit);
	if (version >= 5) {
		unit = dwarf_unit(d, DW_UT_type, "crypto/tls");
		dwarf_struct(b, "crypto/tls.Conn", "conn", 99);
		dwarf_unit_end(d, unit);
	}
	unit = dwarf_unit(d, DW_UT_compile, "runtime");
	dwarf_struct(b, "runtime.m", "goid", 8);
	dwarf_label(d, "runtime.g", "goid");
	dwarf_leb(b, AB_TYPEDEF);
	dwarf_string(b, "runtime.g");
	dwarf_struct(b, "runtime.g", "goid", 152);
	dwarf_struct(b, "crypto/tls.Conn", "conn", 16);
	dwarf_struct(b, "twice", "x", 56);
	dwarf_unit_end(d, unit);
}

enum dwarf_packing { PACK_NONE, PACK_ELF, PACK_GNU };

/* zlib's form, with nothing made smaller. */
static inline void dwarf_deflate(struct dwarf_bytes *out, const struct dwarf_bytes *in)
{
	uint32_t a = 1, b = 0;
	size_t i;

	for (i = 0; i < in->len; i++) {
		a = (a + in->data[i]) % 65521;
		b = (b + a) % 65521;
	}
	dwarf_add(out, "\x78\x01\x01", 3);
	dwarf_number(out, in->len, 2);
	dwarf_number(out, ~in->len, 2);
	dwarf_add(out, in->data, in->len);
	dwarf_big_endian(out, b << 16 | a, 4);
}

static inline void dwarf_pack(struct dwarf_bytes *out, const struct dwarf_bytes *in,
			      enum dwarf_packing how)
{
	const Elf64_Chdr header = {ELFCOMPRESS_ZLIB, 0, in->len, 1};

	out->len = 0;
	if (how == PACK_NONE) {
		dwarf_add(out, in->data, in->len);
		return;
	}
	if (how == PACK_ELF) {
		dwarf_add(out, &header, sizeof(header));
	} else {
		dwarf_add(out, "ZLIB", 4);
		dwarf_big_endian(out, in->len, 8);
	}
	dwarf_deflate(out, in);
}

static inline size_t dwarf_put(uint8_t *file, size_t *used, const void *data, size_t len)
{
	size_t at = (*used + 7) & ~(size_t)7;

	memcpy(file + at, data, len);
	*used = at + len;
	return at;
}

/* Writes a program into `file`, which has DWARF_FILE_MAX bytes. Returns its size. */
static inline size_t dwarf_file(const struct dwarf_parts *d, enum dwarf_packing how, uint8_t *file)
{
	Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_phoff = sizeof(h),
			.e_ehsize = sizeof(h),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 1,
			.e_shentsize = sizeof(Elf64_Shdr),
			.e_shnum = PART_COUNT + 2,
			.e_shstrndx = PART_COUNT + 1};
	const Elf64_Phdr p = {PT_LOAD, PF_R | PF_X, 0, 0x400000, 0x400000, 0x200, 0x200, 0x1000};
	Elf64_Shdr s[PART_COUNT + 2] = {{0}};
	static struct dwarf_bytes packed;
	char names[256] = "";
	size_t used = 0x200, len = 1, i;

	memset(file, 0, used);
	for (i = 0; i < PART_COUNT; i++) {
		s[i + 1].sh_name = (Elf64_Word)len;
		len += (size_t)sprintf(names + len, how == PACK_GNU ? ".z%s" : ".%s",
				       dwarf_part_names[i]) +
		       1;
		dwarf_pack(&packed, &d->part[i], how);
		s[i + 1].sh_type = SHT_PROGBITS;
		s[i + 1].sh_flags = how == PACK_ELF ? SHF_COMPRESSED : 0;
		s[i + 1].sh_addralign = 1;
		s[i + 1].sh_offset = dwarf_put(file, &used, packed.data, packed.len);
		s[i + 1].sh_size = packed.len;
	}
	s[i + 1].sh_name = 0;
	s[i + 1].sh_type = SHT_STRTAB;
	s[i + 1].sh_offset = dwarf_put(file, &used, names, len);
	s[i + 1].sh_size = len;
	h.e_shoff = dwarf_put(file, &used, s, sizeof(s));
	memcpy(file, &h, sizeof(h));
	memcpy(file + sizeof(h), &p, sizeof(p));
	return used;
}

#endif
