/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch.h"
#include "image_private.h"

/* The kernel loads no program with larger program headers (fs/binfmt_elf.c). */
#define MAX_PHDRS (65536 / sizeof(Elf64_Phdr))
#define MAX_TABLE (256u << 20)

static int broken(const struct image *im, struct ts_err *err, const char *what)
{
	return ts_fail(err, EBADMSG, "%s is truncated or damaged: %s", im->path, what);
}

bool image_in_file(const struct image *im, uint64_t offset, uint64_t size)
{
	return offset <= im->file_size && size <= im->file_size - offset;
}

/* Before libelf looks at it: says in words what kind of file is not for us. */
static int check_ident(const struct image *im, struct ts_err *err)
{
	Elf64_Ehdr h;
	ssize_t n = pread(im->fd, &h, sizeof(h), 0);

	if (n < 0)
		return ts_fail(err, EIO, "cannot read %s: %s", im->path, strerror(errno));
	if (n < SELFMAG || memcmp(h.e_ident, ELFMAG, SELFMAG))
		return ts_fail(err, ENOEXEC, "%s is not an ELF file", im->path);
	if ((size_t)n < sizeof(h))
		return broken(im, err, "it ends within its header");
	if (h.e_ident[EI_CLASS] != ELFCLASS64)
		return ts_fail(err, ENOEXEC, "%s is not a 64-bit program: only those are traced",
			       im->path);
	if (h.e_ident[EI_DATA] != ELFDATA2LSB)
		return ts_fail(err, ENOEXEC, "%s is big-endian: not supported", im->path);
	if (h.e_type != ET_EXEC && h.e_type != ET_DYN)
		return ts_fail(err, ENOEXEC, "%s is neither a program nor a shared library",
			       im->path);
	if (!arch_find(h.e_machine))
		return ts_fail(
			err, ENOEXEC,
			"%s is built for ELF machine %u: only x86_64 and arm64 are supported",
			im->path, h.e_machine);
	if (h.e_phentsize != sizeof(Elf64_Phdr) || !image_in_file(im, h.e_phoff, 0) ||
	    !image_in_file(im, h.e_shoff, (uint64_t)h.e_shnum * sizeof(Elf64_Shdr)))
		return broken(im, err, "its header tables reach beyond its end");
	return 0;
}

static int read_segment(struct image *im, const GElf_Phdr *p, struct ts_err *err)
{
	struct range r = {p->p_vaddr, p->p_filesz, p->p_offset, p->p_flags};

	if (p->p_type == PT_TLS)
		im->tls = *p;
	im->interp |= p->p_type == PT_INTERP;
	if (p->p_type != PT_LOAD && p->p_type != PT_DYNAMIC)
		return 0;
	if (!image_in_file(im, r.offset, r.size)) {
		if (p->p_type == PT_LOAD && p->p_flags & PF_X)
			return broken(im, err, "its code reaches beyond its end");
		r.size = r.offset < im->file_size ? im->file_size - r.offset : 0;
	}
	if (p->p_type == PT_LOAD)
		im->loads[im->loads_count++] = r;
	else
		im->dynamic = r;
	return 0;
}

static int read_segments(struct image *im, const GElf_Ehdr *h, struct ts_err *err)
{
	GElf_Phdr p;
	size_t count, i;
	int ret = 0;

	if (elf_getphdrnum(im->elf, &count) || !count || count > MAX_PHDRS ||
	    !image_in_file(im, h->e_phoff, count * sizeof(Elf64_Phdr)))
		return broken(im, err, "it has no usable program headers");
	im->loads = calloc(count, sizeof(*im->loads));
	if (!im->loads)
		return ts_fail(err, ENOMEM, "out of memory");
	for (i = 0; !ret && i < count; i++) {
		if (!gelf_getphdr(im->elf, (int)i, &p))
			return broken(im, err, "its program headers cannot be read");
		ret = read_segment(im, &p, err);
	}
	return ret;
}

static bool is_build_id(const GElf_Nhdr *n, const char *name)
{
	/* Go: cmd/internal/buildid, a string of 83 bytes. */
	return n->n_namesz == 4 && ((n->n_type == NT_GNU_BUILD_ID && !memcmp(name, "GNU", 4)) ||
				    (n->n_type == 4 && !memcmp(name, "Go\0", 4)));
}

static void read_build_id(struct image *im, Elf_Scn *scn)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	size_t at = 0, next, name, desc, i;
	const unsigned char *id;
	GElf_Nhdr n;

	while (data && (next = gelf_getnote(data, at, &n, &name, &desc)) > 0) {
		id = (const unsigned char *)data->d_buf + desc;
		if (is_build_id(&n, (char *)data->d_buf + name) &&
		    n.n_descsz <= IMAGE_BUILD_ID / 2) {
			for (i = 0; i < n.n_descsz; i++)
				sprintf(im->build_id + 2 * i, "%02x", id[i]);
			return;
		}
		at = next;
	}
}

static int set_table(struct image *im, struct table *t, Elf_Scn *scn, const GElf_Shdr *s,
		     struct ts_err *err)
{
	GElf_Shdr names;

	t->names_scn = elf_getscn(im->elf, s->sh_link);
	if (!t->names_scn || !gelf_getshdr(t->names_scn, &names) || names.sh_type != SHT_STRTAB ||
	    s->sh_entsize != sizeof(Elf64_Sym) ||
	    !image_in_file(im, names.sh_offset, names.sh_size) ||
	    !image_in_file(im, s->sh_offset, s->sh_size))
		return broken(im, err, "a symbol table reaches beyond its end or has no names");
	if (s->sh_size > MAX_TABLE || names.sh_size > MAX_TABLE) {
		ts_verbose("image", "%s: a symbol table of more than %u MiB is not read", im->path,
			   MAX_TABLE >> 20);
		return 0;
	}
	t->syms_scn = scn;
	return 0;
}

static void add_plt(struct image *im, const GElf_Shdr *s)
{
	static const char *const plts[] = {".plt", ".plt.sec", ".plt.got", ".iplt"};
	const char *name = elf_strptr(im->elf, im->sections_names, s->sh_name);
	size_t i;

	for (i = 0; name && i < TS_ARRAY_SIZE(plts) && im->plts_count < MAX_PLTS; i++)
		if (!strcmp(name, plts[i]))
			im->plts[im->plts_count++] =
				(struct range){s->sh_addr, s->sh_size, s->sh_offset, 0};
}

static int read_sections(struct image *im, struct ts_err *err)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr s;
	int ret = 0;

	/* Where the sections' names cannot be read, there are no PLTs: nothing worse. */
	if (elf_getshdrstrndx(im->elf, &im->sections_names) ||
	    !gelf_getshdr(elf_getscn(im->elf, im->sections_names), &s) ||
	    !image_in_file(im, s.sh_offset, s.sh_size) || s.sh_size > MAX_TABLE)
		im->sections_names = 0;
	while (!ret && (scn = elf_nextscn(im->elf, scn))) {
		if (!gelf_getshdr(scn, &s))
			return broken(im, err, "its section headers cannot be read");
		if (s.sh_type == SHT_DYNSYM && !im->dynsym.names_scn)
			ret = set_table(im, &im->dynsym, scn, &s, err);
		else if (s.sh_type == SHT_SYMTAB && !im->symtab.names_scn)
			ret = set_table(im, &im->symtab, scn, &s, err);
		else if (s.sh_type == SHT_NOTE && !im->build_id[0] && s.sh_size <= 4096 &&
			 image_in_file(im, s.sh_offset, s.sh_size))
			read_build_id(im, scn);
		else if (s.sh_type == SHT_PROGBITS && s.sh_flags & SHF_EXECINSTR)
			add_plt(im, &s);
	}
	return ret;
}

static int image_read_headers(struct image *im, struct ts_err *err)
{
	struct stat st;
	GElf_Ehdr h;
	int ret;

	if (fstat(im->fd, &st))
		return ts_fail(err, EIO, "cannot read %s: %s", im->path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return ts_fail(err, ENOEXEC, "%s is not a regular file", im->path);
	im->file_size = (uint64_t)st.st_size;
	ret = check_ident(im, err);
	if (ret)
		return ret;
	elf_version(EV_CURRENT);
	im->elf = elf_begin(im->fd, ELF_C_READ, NULL);
	if (!im->elf || elf_kind(im->elf) != ELF_K_ELF || !gelf_getehdr(im->elf, &h))
		return broken(im, err, elf_errmsg(-1));
	im->machine = h.e_machine;
	im->type = h.e_type;
	ret = read_segments(im, &h, err);
	return ret ? ret : read_sections(im, err);
}

int image_open(struct image **out, int fd, const char *path, struct ts_err *err)
{
	struct image *im = calloc(1, sizeof(*im));
	int ret;

	*out = NULL;
	if (!im)
		return ts_fail(err, ENOMEM, "out of memory");
	im->fd = fd;
	im->path = strdup(path);
	ret = im->path ? image_read_headers(im, err) : ts_fail(err, ENOMEM, "out of memory");
	if (ret) {
		image_close(im);
		return ret;
	}
	*out = im;
	return 0;
}

void image_close(struct image *im)
{
	if (!im)
		return;
	elf_end(im->elf);
	free(im->loads);
	image_relocs_free(&im->relocs);
	free(im->dynsym.starts);
	free(im->symtab.starts);
	free(im->path);
	free(im);
}

const char *image_path(const struct image *im)
{
	return im->path;
}

int image_fd(const struct image *im)
{
	return im->fd;
}

uint16_t image_machine(const struct image *im)
{
	return im->machine;
}

bool image_is_fixed(const struct image *im)
{
	return im->type == ET_EXEC;
}

const char *image_build_id(const struct image *im)
{
	return im->build_id;
}

bool image_has_symtab(const struct image *im)
{
	return im->symtab.syms_scn;
}

static const struct range *range_of(const struct range *r, size_t n, uint64_t addr, uint32_t flags)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (addr >= r[i].addr && addr - r[i].addr < r[i].size &&
		    (r[i].flags & flags) == flags)
			return &r[i];
	return NULL;
}

const struct range *image_load_of(const struct image *im, uint64_t addr, uint32_t flags)
{
	return range_of(im->loads, im->loads_count, addr, flags);
}

int image_offset(const struct image *im, uint64_t addr, uint64_t *offset)
{
	const struct range *r = image_load_of(im, addr, PF_X);

	if (!r)
		return -ENOENT;
	*offset = r->offset + (addr - r->addr);
	return 0;
}

bool image_in_plt(const struct image *im, uint64_t addr)
{
	return range_of(im->plts, im->plts_count, addr, 0);
}
