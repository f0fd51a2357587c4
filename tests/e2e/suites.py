# SPDX-License-Identifier: MIT
"""
Programs of other Debian suites, unpacked into folders of their own. They are fetched once, by an
apt with its own configuration (the machine's stays as it is), and kept in the user's cache.
"""
import fcntl
import glob
import os
import shutil
import subprocess

from harness import Skip

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SECURITY = {"bullseye", "trixie"}
PACKAGES = ["base-files", "openssl", "curl", "coreutils", "dash"]


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(
        os.environ.get("HOME") or "/root", ".cache")
    return os.path.join(home, "tlsscope-tests")


def run(*argv, env=None):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env,
                       stdin=subprocess.DEVNULL)
    return p.returncode, p.stdout.decode(errors="replace")


def mirrors():
    """Where this machine gets Debian from, by what a source there calls itself."""
    _, out = run("apt-get", "indextargets", "--format", "$(LABEL)|$(REPO_URI)",
                 "Created-By: Packages", "Origin: Debian")
    return dict(line.split("|", 1) for line in out.splitlines() if "|" in line)


def fetch(suite, arch, folder):
    """Downloads and unpacks into folder/root. Returns None, or why it could not."""
    if not os.path.exists(KEYS):
        return f"{KEYS} is not there (debian-archive-keyring)"
    where = mirrors()
    if "Debian" not in where:
        return "this machine's apt has no source of Debian"
    for name in ("lists/partial", "archives/partial", "root"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    with open(f"{folder}/sources", "w") as f:
        sources = [("Debian", suite)]
        if suite in SECURITY and "Debian-Security" in where:
            sources.append(("Debian-Security", f"{suite}-security"))
        for label, name in sources:
            f.write(f"deb [signed-by={KEYS}] {where[label]} {name} main\n")
    open(f"{folder}/status", "w").close()
    options = {
        "Dir::Etc::sourcelist": f"{folder}/sources", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": folder, "Dir::State::lists": f"{folder}/lists",
        "Dir::State::status": f"{folder}/status", "Dir::Cache": folder,
        "Dir::Cache::archives": f"{folder}/archives", "APT::Architecture": arch,
        "APT::Architectures": arch, "APT::Sandbox::User": "root", "Debug::NoLocking": "true",
        "Acquire::Languages": "none", "Acquire::Check-Valid-Until": "false", "APT::Install-Recommends": "false",
        "Acquire::Retries": "2", "Acquire::http::Timeout": "20",
    }
    apt = ["apt-get", "-q", "-y"] + [w for k, v in options.items() for w in ("-o", f"{k}={v}")]
    for step in (["update"], ["install", "--download-only", *PACKAGES]):
        status, out = run(*apt, *step)
        if status:
            return f"apt-get {step[0]}: {out.strip()[-300:]}"
    # base-files makes lib a link to usr/lib where the suite has it so: everything else after it.
    debs = sorted(glob.glob(f"{folder}/archives/*.deb"), key=lambda d: "/base-files_" not in d)
    for deb in debs:
        status, out = run("dpkg-deb", "-x", deb, f"{folder}/root")
        if status:
            return f"dpkg-deb: {out.strip()[-300:]}"
    return links(f"{folder}/root")


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
    status, out = run("chroot", root, "curl", "--version")
    return None if not status else f"its curl does not run: {out.strip()[-300:]}"


def unpacked(lab, suite):
    """The root of a suite, or Skip with the reason."""
    arch = subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE,
                          check=True).stdout.decode().strip()
    folder = os.path.join(cache(), f"{suite}-{arch}")
    os.makedirs(folder, exist_ok=True)
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(f"{folder}/complete"):
            shutil.rmtree(folder)
            os.makedirs(folder)
            why = fetch(suite, arch, folder)
            if why:
                raise Skip(f"the programs of {suite} cannot be had: {why}")
            shutil.rmtree(f"{folder}/archives")
            shutil.rmtree(f"{folder}/lists")
            open(f"{folder}/complete", "w").close()
    return f"{folder}/root"
