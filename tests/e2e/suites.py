# SPDX-License-Identifier: MIT
"""
Programs of other Debian suites, unpacked into folders of their own. They are fetched once, by an
apt with its own configuration (the machine's stays as it is), and kept in the user's cache.
"""
import contextlib
import fcntl
import glob
import os
import shutil
import subprocess
import time

from harness import Skip

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SECURITY = {"bullseye", "bookworm", "trixie"}
PACKAGES = ["base-files", "openssl", "curl", "coreutils", "dash"]


class Unavailable(Exception):
    pass


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(
        os.environ.get("HOME") or "/root", ".cache")
    return os.path.join(home, "tlsscope-tests")


def run(*argv, **options):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       stdin=subprocess.DEVNULL, **options)
    return p.returncode, p.stdout.decode(errors="replace")


def or_unavailable(what, status, out):
    if status:
        raise Unavailable(f"{what}: {out.strip()[-300:]}")


@contextlib.contextmanager
def locked(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def mirrors():
    """Where this machine gets Debian from, by what a source there calls itself."""
    _, out = run("apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)",
                 "Created-By: Packages", "Origin: Debian")
    return dict(line.split("|", 1) for line in out.splitlines() if "|" in line)


def sources_of(suite):
    where = mirrors()
    if "Debian" not in where:
        raise Unavailable("this machine's apt has no source of Debian")
    sources = [("Debian", suite)]
    if suite in SECURITY and "Debian-Security" in where:
        sources.append(("Debian-Security", f"{suite}-security"))
    return "".join(f"deb [signed-by={KEYS}] {where[label]} {name} main\n"
                   for label, name in sources)


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except FileNotFoundError:
        return None


def apt_of(suite, arch):
    """
    The words with which apt-get and apt-cache know a suite and nothing of this machine, after
    "apt-get"; its lists are at most a day old. Or Unavailable.
    """
    if not os.path.exists(KEYS):
        raise Unavailable(f"{KEYS} is not there (debian-archive-keyring)")
    folder = os.path.join(cache(), f"apt-{suite}-{arch}")
    os.makedirs(f"{folder}/lists/partial", exist_ok=True)
    options = {
        "Dir::Etc::sourcelist": f"{folder}/sources", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": folder, "Dir::State::lists": f"{folder}/lists",
        "Dir::State::status": f"{folder}/status", "Dir::Cache": folder,
        "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "", "APT::Architecture": arch,
        "APT::Architectures": arch, "APT::Sandbox::User": "root", "Debug::NoLocking": "true",
        "Acquire::Languages": "none", "Acquire::Check-Valid-Until": "false",
        "Acquire::GzipIndexes": "true", "APT::Install-Recommends": "false",
        "Acquire::Retries": "2", "Acquire::http::Timeout": "20",
    }
    words = ["-q"] + [w for k, v in options.items() for w in ("-o", f"{k}={v}")]
    with locked(folder):
        done, sources = f"{folder}/updated", sources_of(suite)
        if not os.path.exists(done) or time.time() - os.path.getmtime(done) > 86400 or \
                read(f"{folder}/sources") != sources:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(done)
            with open(f"{folder}/sources", "w") as f:
                f.write(sources)
            open(f"{folder}/status", "w").close()
            or_unavailable("apt-get update", *run("apt-get", *words, "update"))
            open(done, "w").close()
    return words


def fetch(suite, arch, folder, packages, alone, leave_out):
    """Downloads and unpacks into folder/root. alone: without what the packages depend on."""
    apt = apt_of(suite, arch)
    for name in ("archives/partial", "root"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    if callable(packages):
        packages = packages(run("apt-cache", *apt, "pkgnames")[1].split())
    step = ["download"] if alone else ["install", "-y", "--download-only"]
    or_unavailable("apt-get " + step[0], *run(
        "apt-get", *apt, "-o", f"Dir::Cache::archives={folder}/archives", *step, *packages,
        cwd=f"{folder}/archives"))
    # base-files makes lib a link to usr/lib where the suite has it so: everything else after it.
    debs = sorted(glob.glob(f"{folder}/archives/*.deb"), key=lambda d: "/base-files_" not in d)
    without = "".join(f" --exclude='{pattern}'" for pattern in leave_out)
    for deb in debs:
        or_unavailable("dpkg-deb", *run(
            "sh", "-c", f'dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1"{without}', deb,
            f"{folder}/root"))
    shutil.rmtree(f"{folder}/archives")


def links(root):
    """What the packages' own scripts would have made."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if os.path.isdir(f"{root}/usr/{name}") and not os.path.lexists(f"{root}/{name}"):
            os.symlink(f"usr/{name}", f"{root}/{name}")
    if not os.path.exists(f"{root}/bin/sh"):
        os.symlink("dash", f"{root}/bin/sh")
    os.makedirs(f"{root}/tmp", exist_ok=True)
    os.makedirs(f"{root}/dev", exist_ok=True)
    if not os.path.exists(f"{root}/dev/null"):
        os.mknod(f"{root}/dev/null", 0o020666, os.makedev(1, 3))
    or_unavailable("its curl does not run", *run("chroot", root, "curl", "--version"))


def obtained(lab, name, get):
    """
    The cache's folder of this name. get(folder) fills it the first time; what it cannot have, a run
    asks for only once. Skip with the reason.
    """
    folder, missing = os.path.join(cache(), name), os.path.join(lab.base, f"no-{name}")
    with locked(folder):
        if not os.path.exists(f"{folder}/complete"):
            try:
                if os.path.exists(missing):
                    with open(missing) as f:
                        raise Unavailable(f.read())
                shutil.rmtree(folder, ignore_errors=True)
                os.makedirs(folder)
                get(folder)
            except Unavailable as e:
                with open(missing, "w") as f:
                    f.write(str(e))
                raise Skip(f"{name} cannot be had: {e}")
            open(f"{folder}/complete", "w").close()
    return folder


def architecture():
    return subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE,
                          check=True).stdout.decode().strip()


def unpacked(lab, suite):
    """The root of a suite that one can chroot into."""
    arch = architecture()

    def get(folder):
        fetch(suite, arch, folder, PACKAGES, False, ())
        links(f"{folder}/root")
    return obtained(lab, f"{suite}-{arch}", get) + "/root"


def packages_of(lab, suite, name, packages, leave_out=()):
    """
    A folder with some packages of a suite and nothing that they depend on, to be run where they
    are. packages: their names, or a function that chooses from all names.
    """
    arch = architecture()
    return obtained(lab, f"{name}-{suite}-{arch}", lambda folder: fetch(
        suite, arch, folder, packages, True, leave_out)) + "/root"


def from_npm(lab, package, version):
    """The folder node_modules with a package of npm, whose own scripts are not run."""
    lab.need("npm")

    def get(folder):
        or_unavailable("npm install", *run(
            "npm", "install", "--prefix", folder, "--no-save", "--ignore-scripts", "--no-audit",
            "--no-fund", "--loglevel=error", "--cache", f"{folder}/cache", f"{package}@{version}",
            env=dict(os.environ, HOME=folder), timeout=240))
        shutil.rmtree(f"{folder}/cache", ignore_errors=True)
    name = "npm-" + package.replace("@", "").replace("/", "-")
    return obtained(lab, f"{name}-{version}", get) + "/node_modules"
