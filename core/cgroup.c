/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"

#define MOUNTS_MAX (8u << 20) /* bytes of mountinfo; a machine of many containers has many */

/* The kernel's \040 for what would end a field. */
static char *unescape(char *field)
{
	char *from = field, *to = field;

	for (; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
		    from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = 0;
	return field;
}

static int add_mount(struct cgroup_mounts *m, const char *controller, const char *root,
		     const char *folder)
{
	struct cgroup_mount *items = realloc(m->items, (m->count + 1) * sizeof(*items)), *new;

	if (!items)
		return -ENOMEM;
	m->items = items;
	new = &items[m->count++];
	new->controller = strdup(controller);
	new->root = strdup(root);
	new->folder = strdup(folder);
	return new->controller &&new->root &&new->folder ? 0 : -ENOMEM;
}

/* What else a mount of v1 shows among its controllers (kernel/cgroup/cgroup-v1.c). */
static bool is_controller(const char *word)
{
	static const char *const others[] = {
		"rw",	"ro",	       "noprefix", "xattr", "cpuset_v2_mode", "clone_children",
		"none", "favordynmods"};
	size_t i;

	for (i = 0; i < TS_ARRAY_SIZE(others); i++)
		if (!strcmp(word, others[i]))
			return false;
	return !strchr(word, '=') || !strncmp(word, "name=", 5);
}

/* "ID PARENT DEVICE ROOT FOLDER OPTIONS [TAGS] - TYPE SOURCE SUPER-OPTIONS" (proc(5)) */
static int parse_mount(struct cgroup_mounts *m, char *line)
{
	char *fields[5], *rest, *type, *options, *word;
	size_t i;
	int ret = 0;

	for (i = 0; i < TS_ARRAY_SIZE(fields); i++)
		if (!(fields[i] = strsep(&line, " ")))
			return 0;
	rest = line ? strstr(line, " - ") : NULL;
	if (!rest)
		return 0;
	rest += 3;
	type = strsep(&rest, " ");
	strsep(&rest, " ");
	options = rest;
	unescape(fields[3]);
	unescape(fields[4]);
	if (!strcmp(type, "cgroup2"))
		return add_mount(m, "", fields[3], fields[4]);
	if (strcmp(type, "cgroup") != 0)
		return 0;
	while (!ret && (word = strsep(&options, ",")))
		if (is_controller(word))
			ret = add_mount(m, word, fields[3], fields[4]);
	return ret;
}

int cgroup_mounts_parse(struct cgroup_mounts *m, char *text)
{
	char *line;
	int ret = 0;

	*m = (struct cgroup_mounts){0};
	while (!ret && (line = strsep(&text, "\n")))
		ret = parse_mount(m, line);
	if (ret)
		cgroup_mounts_free(m);
	return ret;
}

int cgroup_mounts_read(struct cgroup_mounts *m)
{
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC), ret = 0;
	struct ts_buf text = {0};
	char piece[4096];
	ssize_t n = 0;

	*m = (struct cgroup_mounts){0};
	if (fd < 0)
		return -errno;
	while (!ret && text.len < MOUNTS_MAX && (n = read(fd, piece, sizeof(piece))) > 0)
		ret = ts_buf_add(&text, piece, (size_t)n);
	if (n < 0)
		ret = -errno;
	close(fd);
	if (!ret)
		ret = ts_buf_add(&text, "", 1);
	if (!ret)
		ret = cgroup_mounts_parse(m, (char *)text.data);
	ts_buf_free(&text);
	return ret;
}

void cgroup_mounts_free(struct cgroup_mounts *m)
{
	size_t i;

	for (i = 0; i < m->count; i++) {
		free(m->items[i].controller);
		free(m->items[i].root);
		free(m->items[i].folder);
	}
	free(m->items);
	*m = (struct cgroup_mounts){0};
}

/* What of `path` lies below `above`: "" or "/..."; NULL: it does not. */
static const char *below(const char *path, const char *above)
{
	size_t len = strlen(above);

	if (len && above[len - 1] == '/')
		len--;
	return !strncmp(path, above, len) && (!path[len] || path[len] == '/') ? path + len : NULL;
}

static int set_cgroup(struct cgroup *c, const char *controller, size_t controller_len,
		      const char *path, size_t len)
{
	*c = (struct cgroup){0};
	while (len > 1 && path[len - 1] == '/')
		len--;
	if (controller_len < sizeof(c->controller))
		memcpy(c->controller, controller, controller_len);
	c->path = len ? strndup(path, len) : strdup("/");
	return c->path ? 0 : -ENOMEM;
}

/* The folder of a cgroup; NULL: not mounted here, or no memory. */
static char *folder_of(const struct cgroup_mounts *m, const struct cgroup *c)
{
	const char *rest;
	char *path;
	size_t i;

	for (i = 0; i < m->count; i++) {
		rest = strcmp(m->items[i].controller, c->controller)
			       ? NULL
			       : below(c->path, m->items[i].root);
		if (rest)
			return asprintf(&path, "%s%s", m->items[i].folder, rest) < 0 ? NULL : path;
	}
	return NULL;
}

void cgroup_find(const struct cgroup_mounts *m, struct cgroup *c)
{
	char *folder = c->path ? folder_of(m, c) : NULL;
	struct stat st;

	if (c->path)
		c->id = folder && !stat(folder, &st) && S_ISDIR(st.st_mode) ? st.st_ino : 0;
	free(folder);
}

/* Its path, by the kind of handle that cgroup file systems have (linux/exportfs.h: FILEID_KERNFS).
 */
int cgroup_by_id(const struct cgroup_mounts *m, uint64_t id, struct cgroup *out)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + sizeof(id)];
	} h = {.handle = {.handle_bytes = sizeof(id), .handle_type = 0xfe}};
	char self[64], folder[4096];
	const char *rest = NULL;
	ssize_t n;
	size_t i;
	int at, fd;

	*out = (struct cgroup){.id = id};
	memcpy(h.handle.f_handle, &id, sizeof(id));
	for (i = 0; i < m->count && !rest; i++) {
		if (*m->items[i].controller || strcmp(m->items[i].root, "/") != 0)
			continue;
		at = open(m->items[i].folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fd = at < 0 ? -1 : open_by_handle_at(at, &h.handle, O_PATH | O_CLOEXEC);
		snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
		n = fd < 0 ? -1 : readlink(self, folder, sizeof(folder) - 1);
		folder[n > 0 ? n : 0] = 0;
		rest = n > 0 ? below(folder, m->items[i].folder) : NULL;
		if (fd >= 0)
			close(fd);
		if (at >= 0)
			close(at);
	}
	if (!rest)
		return 0;
	out->path = strdup(*rest ? rest : "/");
	return out->path ? 0 : -ENOMEM;
}

/* Below one of the folders where hierarchies are mounted: its longest, which may be in another's.
 */
static int parse_folder(const struct cgroup_mounts *m, const char *value, struct cgroup *out)
{
	const struct cgroup_mount *best = NULL;
	const char *rest = NULL;
	char *path;
	size_t i;
	int ret;

	for (i = 0; i < m->count; i++)
		if (below(value, m->items[i].folder) &&
		    (!best || strlen(m->items[i].folder) > strlen(best->folder)))
			best = &m->items[i];
	if (!best)
		return -ENOENT;
	rest = below(value, best->folder);
	if (asprintf(&path, "%s%s", strcmp(best->root, "/") ? best->root : "", rest) < 0)
		return -ENOMEM;
	ret = set_cgroup(out, best->controller, strlen(best->controller), path, strlen(path));
	free(path);
	return ret;
}

int cgroup_parse(const struct cgroup_mounts *m, const char *value, struct cgroup *out)
{
	const char *colon = strstr(value, ":/");
	unsigned long long id;
	char *end;
	int ret;

	*out = (struct cgroup){0};
	if (isdigit((unsigned char)*value)) {
		errno = 0;
		id = strtoull(value, &end, 10);
		if (!errno && !*end && id)
			return cgroup_by_id(m, id, out);
		/* "4:memory:/x", and "0::/x" */
		if (*end == ':')
			value = end + 1;
	}
	if (colon && colon >= value && !memchr(value, '/', (size_t)(colon - value))) {
		end = memchr(value, ',', (size_t)(colon - value));
		return set_cgroup(out, value, (size_t)((end ? end : colon) - value), colon + 1,
				  strlen(colon + 1));
	}
	if (*value != '/')
		return -ENOENT;
	ret = parse_folder(m, value, out);
	/* A recording may be of another machine. */
	if (ret == -ENOENT)
		value = below(value, "/sys/fs/cgroup") ? below(value, "/sys/fs/cgroup") : value;
	return ret == -ENOENT ? set_cgroup(out, "", 0, value, strlen(value)) : ret;
}

bool cgroup_within(const struct cgroup *c, const struct cgroup *other)
{
	if (!c->path || !other->path)
		return !*c->controller && !*other->controller && c->id == other->id;
	return !strcmp(c->controller, other->controller) && below(c->path, other->path);
}

void cgroup_read(uint32_t pid, char *out, size_t size)
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/cgroup", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, out, size - 1);
		close(fd);
	}
	out[n > 0 ? n : 0] = 0;
}

size_t cgroup_lines(const char *text, struct cgroup_line lines[CGROUP_LINES])
{
	const char *end, *first, *second;
	struct cgroup_line line;
	size_t n = 0;

	for (; *text && n < CGROUP_LINES; text = *end ? end + 1 : end) {
		end = text + strcspn(text, "\n");
		first = memchr(text, ':', (size_t)(end - text));
		second = first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
		if (!second)
			continue;
		line.controllers = first + 1;
		line.controllers_len = (size_t)(second - first - 1);
		line.path = second + 1;
		line.path_len = (size_t)(end - second - 1);
		if (line.controllers_len) {
			lines[n++] = line;
		} else {
			memmove(lines + 1, lines, n++ * sizeof(*lines));
			lines[0] = line;
		}
	}
	return n;
}

int cgroup_of_line(const struct cgroup_line *line, size_t len, struct cgroup *out)
{
	const char *comma = memchr(line->controllers, ',', line->controllers_len);

	return set_cgroup(out, line->controllers,
			  comma ? (size_t)(comma - line->controllers) : line->controllers_len,
			  line->path, len);
}

static bool has_controller(const struct cgroup_line *line, const char *controller)
{
	const char *at = line->controllers, *end = at + line->controllers_len, *comma;
	size_t len = strlen(controller);

	for (;; at = comma + 1) {
		comma = memchr(at, ',', (size_t)(end - at));
		if ((size_t)((comma ? comma : end) - at) == len && !memcmp(at, controller, len))
			return true;
		if (!comma)
			return false;
	}
}

/* The length of the path up to the end of the component of this name; 0: it has none. */
static size_t find_component(const struct cgroup_line *line, const char *name)
{
	const char *at = line->path, *end = at + line->path_len, *next;
	size_t len = strlen(name);

	for (; at < end && *at == '/'; at = next) {
		next = memchr(at + 1, '/', (size_t)(end - at - 1));
		next = next ? next : end;
		if ((size_t)(next - at - 1) == len && !memcmp(at + 1, name, len))
			return (size_t)(next - line->path);
	}
	return 0;
}

/* In the first hierarchy where a component has this name. */
static int find_name(const struct cgroup_line *lines, size_t count, const char *name,
		     struct cgroup *out)
{
	size_t i, len;

	for (i = 0; i < count; i++) {
		len = find_component(&lines[i], name);
		/* Nothing shows the kernel's filter those without a controller. */
		if (len && strncmp(lines[i].controllers, "name=", 5) != 0)
			return cgroup_of_line(&lines[i], len, out);
	}
	return -ENOENT;
}

int cgroup_named(const struct cgroup_mounts *m, const char *value, const char *text,
		 struct cgroup *out)
{
	struct cgroup_line lines[CGROUP_LINES];
	size_t count = cgroup_lines(text, lines), i;
	int ret = cgroup_parse(m, value, out);
	struct cgroup own;
	bool inside;

	if (ret == -ENOENT)
		return find_name(lines, count, value, out);
	for (i = 0; !ret && out->path && i < count; i++) {
		if (!has_controller(&lines[i], out->controller))
			continue;
		ret = cgroup_of_line(&lines[i], lines[i].path_len, &own);
		inside = !ret && below(own.path, out->path);
		free(own.path);
		if (inside)
			return 0;
	}
	free(out->path);
	out->path = NULL;
	return ret ? ret : -ENOENT;
}
