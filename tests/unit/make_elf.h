/* SPDX-License-Identifier: MIT */
/* Builds small ELF files in memory, with code and symbols as a test wants them. */
#ifndef TLSSCOPE_MAKE_ELF_H
#define TLSSCOPE_MAKE_ELF_H

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where the code lies: the address differs from the offset, as in programs at a fixed address. */
#define ELF_CODE_ADDR 0x401000u
#define ELF_CODE_OFFSET 0x1000u
#define ELF_MAX 0x8000u

/* Code that grows; at is the address of its next byte. */
struct code_buf {
	uint8_t bytes[0x4000];
	size_t len;
	uint64_t dynamic; /* where the dynamic section is among it; 0: there is none */
};
static inline uint64_t code_at(const struct code_buf *c)
{
	return ELF_CODE_ADDR + c->len;
}
static inline void code_add(struct code_buf *c, const void *bytes, size_t len)
{
	memcpy(c->bytes + c->len, bytes, len);
	c->len += len;
}
#define CODE(c, ...) code_add(c, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))
/* x86: an opcode (0xe8 call, 0xe9 jmp) with a 32-bit distance. */
static inline void code_x86(struct code_buf *c, uint8_t opcode, uint64_t target)
{
	int32_t rel = (int32_t)(target - (code_at(c) + 5));

	code_add(c, &opcode, 1);
	code_add(c, &rel, 4);
}
static inline void code_word(struct code_buf *c, uint32_t word)
{
	code_add(c, &word, 4);
}
/* arm64: 0x94000000 bl, 0x14000000 b. */
static inline void code_arm64(struct code_buf *c, uint32_t opcode, uint64_t target)
{
	code_word(c, opcode | (((uint32_t)(target - code_at(c)) >> 2) & 0x3ffffff));
}

/*
 * Makes of the code at plt an entry of the PLT for a slot, and adds what the dynamic linker is told
 * of that: a symbol with this value, 0: another file's. marked: it begins as entries do where
 * branches are tracked.
 */
static inline void code_plt(struct code_buf *c, uint16_t machine, uint64_t plt, uint64_t slot,
			    uint64_t value, bool marked)
{
	uint8_t *at = c->bytes + (plt - ELF_CODE_ADDR);
	Elf64_Rela relas[100] = {{0}};
	Elf64_Sym symbols[3] = {
		{0}, {.st_shndx = 1, .st_value = ELF_CODE_ADDR}, {.st_value = value}};
	Elf64_Dyn dynamic[] = {{DT_JMPREL, {0}},
			       {DT_PLTRELSZ, {sizeof(relas)}},
			       {DT_PLTREL, {DT_RELA}},
			       {DT_SYMTAB, {0}},
			       {DT_NULL, {0}}};
	uint32_t words[2], pages = (uint32_t)((slot >> 12) - (plt >> 12));
	int32_t distance;

	if (machine == EM_X86_64) {
		memcpy(at, "\xf3\x0f\x1e\xfa\xf2", marked ? 5 : 0);
		at += marked ? 5 : 0;
		distance = (int32_t)(slot - (plt + (marked ? 5 : 0) + 6));
		memcpy(at, "\xff\x25", 2);
		memcpy(at + 2, &distance, 4);
	} else {
		memcpy(at, "\x5f\x24\x03\xd5", marked ? 4 : 0);
		words[0] = 0x90000010u | (pages & 3) << 29 | (pages >> 2 & 0x7ffff) << 5;
		words[1] = 0xf9400211u | (uint32_t)(slot & 0xfff) / 8 << 10;
		memcpy(at + (marked ? 4 : 0), words, sizeof(words));
	}
	symbols[2].st_shndx = value ? 1 : SHN_UNDEF;
	relas[0] = (Elf64_Rela){slot - 8, ELF64_R_INFO(1, 7), 0};
	relas[99] = (Elf64_Rela){slot, ELF64_R_INFO(2, 7), 0};
	while (c->len % 8)
		CODE(c, 0);
	dynamic[0].d_un.d_ptr = code_at(c);
	code_add(c, relas, sizeof(relas));
	dynamic[3].d_un.d_ptr = code_at(c);
	code_add(c, symbols, sizeof(symbols));
	c->dynamic = code_at(c);
	code_add(c, dynamic, sizeof(dynamic));
}

struct elf_symbol {
	const char *name;
	uint64_t addr, size;
	uint8_t type;	/* STT_*; 0 is STT_NOTYPE */
	uint16_t shndx; /* 1 is the code; SHN_UNDEF: imported */
	bool symtab;	/* in .symtab, not in .dynsym */
};

struct elf_layout {
	uint16_t machine;
	const struct code_buf *code;
	uint64_t plt, plt_size; /* 0: no .plt */
	const struct elf_symbol *symbols;
	size_t count;
	bool fixed; /* a program that is loaded at the addresses it names */
};

enum {
	SEC_NULL,
	SEC_TEXT,
	SEC_PLT,
	SEC_DYNSYM,
	SEC_DYNSTR,
	SEC_SYMTAB,
	SEC_STRTAB,
	SEC_NOTE,
	SEC_NAMES,
	SEC_COUNT
};

static inline size_t elf_put(uint8_t *file, size_t *used, const void *data, size_t len)
{
	size_t at = (*used + 7) & ~(size_t)7;

	memcpy(file + at, data, len);
	*used = at + len;
	return at;
}

static inline void elf_symbols(uint8_t *file, size_t *used, const struct elf_layout *l, bool symtab,
			       Elf64_Shdr *syms, Elf64_Shdr *strs)
{
	Elf64_Sym table[64] = {{0}};
	char names[2048] = "";
	size_t n = 1, len = 1, i;

	for (i = 0; i < l->count; i++) {
		const struct elf_symbol *s = &l->symbols[i];

		if (s->symtab != symtab)
			continue;
		table[n].st_name = (Elf64_Word)len;
		table[n].st_info = ELF64_ST_INFO(STB_GLOBAL, s->type);
		table[n].st_shndx = s->shndx;
		table[n].st_value = s->addr;
		table[n++].st_size = s->size;
		len += (size_t)sprintf(names + len, "%s", s->name) + 1;
	}
	syms->sh_offset = elf_put(file, used, table, n * sizeof(table[0]));
	syms->sh_size = n * sizeof(table[0]);
	syms->sh_entsize = sizeof(table[0]);
	strs->sh_type = SHT_STRTAB;
	strs->sh_offset = elf_put(file, used, names, len);
	strs->sh_size = len;
}

static inline void elf_headers(uint8_t *file, size_t *used, const struct elf_layout *l,
			       Elf64_Shdr *sections)
{
	static const char names[] = "\0.text\0.plt\0.dynsym\0.dynstr\0.symtab\0.strtab\0.note\0";
	Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}};
	Elf64_Phdr p = {.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_align = 0x1000};
	const char *name = names;
	size_t i;

	for (i = 0; i < SEC_NAMES; i++, name += strlen(name) + 1)
		sections[i].sh_name = (Elf64_Word)(name - names);
	sections[SEC_NAMES].sh_type = SHT_STRTAB;
	sections[SEC_NAMES].sh_offset = elf_put(file, used, names, sizeof(names));
	sections[SEC_NAMES].sh_size = sizeof(names);
	p.p_offset = ELF_CODE_OFFSET;
	p.p_vaddr = p.p_paddr = ELF_CODE_ADDR;
	p.p_filesz = p.p_memsz = l->code->len;
	h.e_type = l->fixed ? ET_EXEC : ET_DYN;
	h.e_machine = l->machine;
	h.e_version = EV_CURRENT;
	h.e_phoff = h.e_ehsize = sizeof(h);
	h.e_phentsize = sizeof(p);
	h.e_phnum = l->code->dynamic ? 2 : 1;
	h.e_shentsize = sizeof(sections[0]);
	h.e_shnum = SEC_COUNT;
	h.e_shstrndx = SEC_NAMES;
	h.e_shoff = elf_put(file, used, sections, SEC_COUNT * sizeof(sections[0]));
	memcpy(file, &h, sizeof(h));
	memcpy(file + sizeof(h), &p, sizeof(p));
	p.p_type = PT_DYNAMIC;
	p.p_offset += l->code->dynamic - ELF_CODE_ADDR;
	p.p_filesz = p.p_memsz = ELF_CODE_ADDR + l->code->len - l->code->dynamic;
	if (l->code->dynamic)
		memcpy(file + sizeof(h) + sizeof(p), &p, sizeof(p));
}

/* Writes the file into `file`, which has ELF_MAX bytes. Returns its size. */
static inline size_t make_elf(const struct elf_layout *l, uint8_t *file)
{
	static const struct {
		Elf64_Nhdr h;
		char name[4];
		uint8_t id[4];
	} note = {{4, 4, NT_GNU_BUILD_ID}, "GNU", {0xde, 0xad, 0xbe, 0xef}};
	Elf64_Shdr s[SEC_COUNT] = {{0}};
	size_t used = ELF_CODE_OFFSET + l->code->len;

	memset(file, 0, ELF_MAX);
	memcpy(file + ELF_CODE_OFFSET, l->code->bytes, l->code->len);
	s[SEC_TEXT] = (Elf64_Shdr){.sh_type = SHT_PROGBITS,
				   .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
				   .sh_addr = ELF_CODE_ADDR,
				   .sh_offset = ELF_CODE_OFFSET,
				   .sh_size = l->code->len};
	s[SEC_PLT] = s[SEC_TEXT];
	s[SEC_PLT].sh_addr = l->plt;
	s[SEC_PLT].sh_size = l->plt_size;
	s[SEC_DYNSYM].sh_type = SHT_DYNSYM;
	s[SEC_DYNSYM].sh_link = SEC_DYNSTR;
	s[SEC_SYMTAB].sh_type = SHT_SYMTAB;
	s[SEC_SYMTAB].sh_link = SEC_STRTAB;
	elf_symbols(file, &used, l, false, &s[SEC_DYNSYM], &s[SEC_DYNSTR]);
	elf_symbols(file, &used, l, true, &s[SEC_SYMTAB], &s[SEC_STRTAB]);
	s[SEC_NOTE].sh_type = SHT_NOTE;
	s[SEC_NOTE].sh_addralign = 4;
	s[SEC_NOTE].sh_offset = elf_put(file, &used, &note, sizeof(note));
	s[SEC_NOTE].sh_size = sizeof(note);
	elf_headers(file, &used, l, s);
	return used;
}

/* A file without a name that holds these bytes. */
static inline int make_file(const void *data, size_t size)
{
	int fd = memfd_create("elf", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, data, size) != (ssize_t)size) {
		close(fd);
		return -1;
	}
	return fd;
}

#endif
