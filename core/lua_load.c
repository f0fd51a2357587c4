/* SPDX-License-Identifier: MIT */
/* From text to a chunk: files, embedded modules and recipes, and what a syntax error says of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "embed.h"
#include "lua_host.h"

/*
 * Hands the text over a byte at a time: the parser then has read just to the end of the token
 * that it complains of.
 */
struct reader {
	const char *text;
	size_t len, read;
};

static const char *read_byte(lua_State *L, void *data, size_t *size)
{
	struct reader *r = data;

	(void)L;
	*size = r->read < r->len;
	return *size ? &r->text[r->read++] : NULL;
}

/* A first line that begins with # is the kernel's, a byte order mark nobody's. */
static size_t skip_start(const char *text, size_t len)
{
	size_t skip = len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;
	const char *newline;

	if (skip == len || text[skip] != '#')
		return skip;
	newline = memchr(text, '\n', len);
	return newline ? (size_t)(newline - text) : len;
}

static int load_text(lua_State *L, const char *chunk, const char *text, size_t len)
{
	struct reader r = {text, len, skip_start(text, len)};
	int err = lua_load(L, read_byte, &r, chunk, "t");

	if (err == LUA_ERRSYNTAX)
		host_syntax_error(L, text, len, r.read);
	return err;
}

struct load {
	const char *chunk;
	const struct ts_buf *text;
};

/* Keeps the text too: whoever calls frees it, so nothing here may leave with an error. */
static int load_kept(lua_State *L)
{
	const struct load *l = lua_touserdata(L, 1);
	const char *text = l->text->data ? (const char *)l->text->data : "";

	host_keep_source(L, l->chunk, text, l->text->len);
	return load_text(L, l->chunk, text, l->text->len) ? lua_error(L) : 1;
}

int host_load_buffer(lua_State *L, const char *chunk, struct ts_buf *text)
{
	struct load l = {chunk, text};
	int err;

	lua_pushcfunction(L, load_kept);
	lua_pushlightuserdata(L, &l);
	err = lua_pcall(L, 1, 1, 0);
	ts_buf_free(text);
	return err;
}

int host_load_embedded(lua_State *L, const char *path)
{
	const struct embed_file *f = embed_find(path);
	int err;

	if (!f) {
		lua_pushnil(L);
		return LUA_OK;
	}
	err = luaL_loadbufferx(L, (const char *)f->data, (size_t)(f->end - f->data), path, "b");
	if (!err) {
		lua_getfield(L, LUA_REGISTRYINDEX, HOST_LIBRARY);
		lua_setupvalue(L, -2, 1);
	}
	return err;
}

static bool trusted_owner(uid_t owner)
{
	const char *sudo = getenv("SUDO_UID");

	return !owner || owner == geteuid() || owner == getuid() ||
	       (sudo && *sudo && (unsigned long)owner == strtoul(sudo, NULL, 10));
}

static int check_one(const char *path, const struct stat *st, struct ts_err *err)
{
	if (st->st_mode & S_IWOTH)
		return ts_fail(err, EACCES, "module refused: everybody may write to '%s'", path);
	if (!trusted_owner(st->st_uid))
		return ts_fail(err, EACCES,
			       "module refused: '%s' belongs neither to root nor to you", path);
	return 0;
}

/* Whether only root and the user can have written the open file, in the folder it was found in. */
static int check_module(const char *path, const struct stat *file, struct ts_err *err)
{
	const char *slash = strrchr(path, '/');
	char folder[4096];
	struct stat st;

	if (!slash || slash - path >= (ptrdiff_t)sizeof(folder))
		return ts_fail(err, EINVAL, "module refused: the path '%s' is too long", path);
	memcpy(folder, path, (size_t)(slash - path));
	folder[slash - path] = 0;
	if (stat(*folder ? folder : "/", &st))
		return ts_fail(err, errno, "cannot look at '%s': %s", folder, strerror(errno));
	if (!S_ISREG(file->st_mode))
		return ts_fail(err, EACCES, "module refused: '%s' is not a file", path);
	return check_one(folder, &st, err) ? -EACCES : check_one(path, file, err);
}

static int read_all(int fd, const char *path, struct ts_buf *out, struct ts_err *err)
{
	char block[16384];
	ssize_t n;

	while ((n = read(fd, block, sizeof(block))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ts_fail(err, errno, "cannot read '%s': %s", path, strerror(errno));
		if (out->len > HOST_TEXT_MAX)
			return ts_fail(err, EFBIG, "'%s' is too large for a script", path);
		if (ts_buf_add(out, block, (size_t)n))
			return ts_fail(err, ENOMEM, "no memory to read '%s'", path);
	}
	return 0;
}

int host_read_file(const char *path, struct ts_buf *out, bool checked, struct ts_err *err)
{
	bool is_stdin = !strcmp(path, "-");
	int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int ret = 0;

	if (fd < 0)
		return ts_fail(err, errno, "cannot read '%s': %s", path, strerror(errno));
	if (fstat(fd, &st))
		ret = ts_fail(err, errno, "cannot look at '%s': %s", path, strerror(errno));
	else if (S_ISDIR(st.st_mode))
		ret = ts_fail(err, EISDIR, "cannot read '%s': it is a folder", path);
	else if (checked)
		ret = check_module(path, &st, err);
	if (!ret)
		ret = read_all(fd, is_stdin ? "standard input" : path, out, err);
	if (ret)
		ts_buf_free(out);
	if (!is_stdin)
		close(fd);
	return ret;
}
