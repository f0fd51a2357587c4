/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "container.h"

#define ID_LEN 64

/* A part of a path, not ended with NUL. */
struct part {
	const char *at;
	size_t len;
};

static bool starts(struct part p, const char *text)
{
	return p.len >= strlen(text) && !memcmp(p.at, text, strlen(text));
}

static bool ends(struct part p, const char *text)
{
	size_t len = strlen(text);

	return p.len >= len && !memcmp(p.at + p.len - len, text, len);
}

static struct part without(struct part p, size_t before, size_t after)
{
	return (struct part){p.at + before, p.len - before - after};
}

static void copy(char *out, size_t size, struct part p)
{
	size_t len = p.len < size ? p.len : size - 1;

	memcpy(out, p.at, len);
	out[len] = 0;
}

static bool is_hex(struct part p)
{
	size_t i;

	for (i = 0; i < p.len; i++)
		if (!(p.at[i] >= '0' && p.at[i] <= '9') && !(p.at[i] >= 'a' && p.at[i] <= 'f'))
			return false;
	return true;
}

/* systemd's \x2d for what its names cannot have. */
static void copy_unescaped(char *out, size_t size, struct part p)
{
	const char *digits = "0123456789abcdef", *high, *low;
	size_t i, used = 0;

	for (i = 0; i < p.len && used + 1 < size; i++) {
		out[used] = p.at[i];
		if (p.len - i >= 4 && p.at[i] == '\\' && p.at[i + 1] == 'x') {
			high = strchr(digits, p.at[i + 2]);
			low = strchr(digits, p.at[i + 3]);
			if (high && low && high - digits + (low - digits)) {
				out[used] = (char)((high - digits) << 4 | (low - digits));
				i += 3;
			}
		}
		used++;
	}
	out[used] = 0;
}

/* "docker-ID.scope", "libpod-ID", "PREFIX:cri-containerd:ID", "ID" */
static bool take_id(struct part p, struct container *c)
{
	static const struct {
		const char *before, *runtime;
	} forms[] = {
		{"docker", "docker"},
		{"cri-containerd", "containerd"},
		{"nerdctl", "containerd"},
		{"crio", "cri-o"},
		{"libpod-payload", "podman"},
		{"libpod", "podman"},
		{"", ""},
	};
	size_t i, len, colons = 0;

	p.len -= ends(p, ".scope") ? strlen(".scope") : 0;
	/* A runtime without systemd may make a cgroup of systemd's words: SLICE:RUNTIME:ID. */
	for (i = p.len; i && colons < 2; i--)
		colons += p.at[i - 1] == ':';
	p = without(p, colons == 2 ? i + 1 : 0, 0);
	for (i = 0; i < TS_ARRAY_SIZE(forms); i++) {
		len = strlen(forms[i].before);
		if (!starts(p, forms[i].before) || p.len != len + (len != 0) + ID_LEN ||
		    (len && !strchr("-:", p.at[len])) || !is_hex(without(p, p.len - ID_LEN, 0)))
			continue;
		copy(c->id, sizeof(c->id), without(p, p.len - ID_LEN, 0));
		ts_copy(c->runtime, sizeof(c->runtime), forms[i].runtime);
		c->name[0] = 0;
		return true;
	}
	return false;
}

/* Runtimes that know their containers by name. `above` is the part before. */
static bool take_name(struct part p, struct part above, struct container *c)
{
	const char *runtime = "lxc";

	if (starts(p, "lxc.payload.")) {
		p = without(p, strlen("lxc.payload."), 0);
	} else if (starts(p, "machine-") && ends(p, ".scope")) {
		p = without(p, strlen("machine-"), strlen(".scope"));
		/* Of libvirt: virtual machines have no processes here. */
		if (starts(p, "qemu\\x2d") || starts(p, "qemu-"))
			return false;
		runtime = "systemd-nspawn";
	} else if (starts(p, "systemd-nspawn@") && ends(p, ".service")) {
		p = without(p, strlen("systemd-nspawn@"), strlen(".service"));
		runtime = "systemd-nspawn";
	} else if ((above.len != 3 || !starts(above, "lxc")) &&
		   (above.len != 11 || !starts(above, "lxc.payload"))) {
		return false;
	}
	if (!p.len || p.len >= CONTAINER_NAME)
		return false;
	copy_unescaped(c->id, sizeof(c->id), p);
	memcpy(c->name, c->id, sizeof(c->name));
	ts_copy(c->runtime, sizeof(c->runtime), runtime);
	return true;
}

/* "podUID", "kubepods-burstable-podUID.slice", with _ for - in the latter. */
static void take_pod(struct part p, struct container *c)
{
	struct part uid = p;
	size_t i;

	if (starts(p, "kubepods") && ends(p, ".slice")) {
		uid = without(p, 0, strlen(".slice"));
		for (i = uid.len; i && uid.at[i - 1] != '-'; i--)
			;
		uid = without(uid, i, 0);
	}
	if (!starts(uid, "pod"))
		return;
	uid = without(uid, 3, 0);
	if ((uid.len != 36 && uid.len != 32) || uid.len >= sizeof(c->pod_uid))
		return;
	for (i = 0; i < uid.len; i++) {
		c->pod_uid[i] = uid.at[i] == '_' ? '-' : uid.at[i];
		if (c->pod_uid[i] != '-' && !is_hex((struct part){uid.at + i, 1}))
			break;
	}
	c->pod_uid[i == uid.len ? i : 0] = 0;
}

/* The length of the path up to the end of the innermost container's part; 0: there is none. */
static size_t parse_path(const struct cgroup_line *line, struct container *c)
{
	struct part above = {"", 0}, p;
	const char *at = line->path, *end = at + line->path_len;
	size_t found = 0;

	*c = (struct container){0};
	for (; at < end && *at == '/'; at = p.at + p.len) {
		p.at = at + 1;
		at = memchr(p.at, '/', (size_t)(end - p.at));
		p.len = (size_t)((at ? at : end) - p.at);
		take_pod(p, c);
		if (take_id(p, c) || take_name(p, above, c))
			found = (size_t)(p.at + p.len - line->path);
		if (found && starts(above, "docker") && above.len == 6 && !*c->runtime)
			ts_copy(c->runtime, sizeof(c->runtime), "docker");
		above = p;
	}
	return found;
}

bool container_parse(const char *text, struct container *out, struct cgroup *place)
{
	struct cgroup_line lines[CGROUP_LINES];
	size_t count = cgroup_lines(text, lines), i, len;

	for (i = 0; i < count; i++) {
		len = parse_path(&lines[i], out);
		/* A filter finds no hierarchy without a controller; the others have it too. */
		if (!len || (place && !strncmp(lines[i].controllers, "name=", 5)))
			continue;
		return !place || !cgroup_of_line(&lines[i], len, place);
	}
	*out = (struct container){0};
	return false;
}

const char *container_label(const struct container *c, char out[CONTAINER_NAME])
{
	memcpy(out, *c->name ? c->name : c->id, CONTAINER_NAME);
	if (!*c->name)
		out[12] = 0;
	return out;
}

bool container_is(const struct container *c, const char *value)
{
	size_t len = strlen(value);

	if (!strcmp(c->name, value) || !strcmp(c->pod, value) || !strcmp(c->pod_uid, value))
		return *value;
	return len >= 3 && !strncmp(c->id, value, len) && is_hex((struct part){value, len});
}
