//! Virtual machines that boot another kernel, run a script and end.
//!
//! QEMU emulates the processor (TCG), so neither KVM nor a particular host is needed. With [`Guest::icount`] the
//! guest's clock advances one nanosecond for each instruction, whatever the load of the host: a time measured in the
//! guest is then a number of instructions, the same in every run.
//!
//! ```no_run
//! # use std::{path::Path, time::Duration};
//! # use xtask::guest::{Guest, Kernel};
//! let kernel = Kernel::debian("6.12", Path::new("target/kernels"))?;
//! let output = Guest::new(&kernel).binary(Path::new("/usr/sbin/ip"))?.module("veth")?.run("ip link add type veth")?;
//! assert_eq!(output.code, 0, "{}", output.text);
//! # Ok::<(), anyhow::Error>(())
//! ```

mod archive;
mod kernel;
mod nic;
mod watch;

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use archive::Archive;
pub use kernel::Kernel;
pub use nic::Nic;
use watch::watch;

const QEMU: &str = "qemu-system-x86_64";
const INIT: &str = include_str!("init.sh");

/// On a busy machine an emulated timer comes too late for the kernel's test of it, which then panics.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 quiet panic=-1 nokaslr tsc=reliable clocksource=tsc no_timer_check";

/// Servers look up who they are to become, even those that stay root.
const ACCOUNTS: [(&str, &str); 2] = [
    ("/etc/passwd", "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/false\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// A virtual machine that is being put together. Its root file system lies in memory.
#[derive(Debug)]
pub struct Guest<'kernel> {
    kernel: &'kernel Kernel,
    archive: Archive,
    /// Names of the programs that go before busybox's own.
    programs: Vec<String>,
    /// In the order of loading.
    modules: Vec<String>,
    memory: u32,
    limit: Duration,
    icount: bool,
    echo: bool,
    collect: Option<String>,
    nic: Option<Nic>,
    off: Arc<AtomicBool>,
}

/// What a guest left.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code of the script; 125 when a module could not be loaded.
    pub code: i32,
    /// What the script wrote to standard output and error.
    pub text: String,
    /// The kernel's messages.
    pub console: String,
    /// The file named by [`Guest::collect`]; empty when there was none.
    pub collected: Vec<u8>,
}

impl<'kernel> Guest<'kernel> {
    /// A guest with 1 GiB of memory, 5 minutes to live, and busybox.
    pub fn new(kernel: &'kernel Kernel) -> Self {
        Self {
            kernel,
            archive: Archive::default(),
            programs: Vec::new(),
            modules: Vec::new(),
            memory: 1024,
            limit: Duration::from_secs(300),
            icount: false,
            echo: false,
            collect: None,
            nic: None,
            off: Arc::default(),
        }
    }

    /// Puts a program of this machine into the guest's `/bin`, with the shared libraries it needs.
    ///
    /// # Errors
    ///
    /// When it, or a library, cannot be read.
    pub fn binary(self, path: &Path) -> Result<Self> {
        let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
        self.binary_named(path, &name.to_string_lossy())
    }

    /// As [`Self::binary`], by another name: cargo's test binaries have a hash in theirs.
    ///
    /// # Errors
    ///
    /// When it, or a library, cannot be read.
    pub fn binary_named(mut self, path: &Path, name: &str) -> Result<Self> {
        // The package's busybox links its commands into /bin; a program of that name goes before them.
        self.archive.file(&format!("/bin/{name}"), &read(path)?);
        self.programs.push(name.to_owned());
        for library in shared_libraries(path)? {
            let target = library.display().to_string();
            if !self.archive.contains(&target) {
                self.archive.file(&target, &read(&library)?);
            }
        }
        Ok(self)
    }

    /// As [`Self::binary`], of a command that is looked for where commands are.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be read.
    pub fn command(self, name: &str) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
        let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
        self.binary(&found.with_context(|| format!("a guest needs the command {name}"))?)
    }

    /// Copies a file of this machine to an absolute path in the guest.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn file(mut self, source: &Path, target: &str) -> Result<Self> {
        self.archive.file(target, &read(source)?);
        Ok(self)
    }

    /// Loads a kernel module, after those it depends on. One that is built in needs no loading.
    ///
    /// # Errors
    ///
    /// When the kernel has no such module.
    pub fn module(mut self, name: &str) -> Result<Self> {
        for (name, content) in self.kernel.module_with_dependencies(name, &mut Vec::new())? {
            if !self.modules.contains(&name) {
                self.archive.file(&format!("/guest/modules/{name}.ko"), &content);
                self.modules.push(name);
            }
        }
        Ok(self)
    }

    /// One nanosecond of guest time for each instruction.
    #[must_use]
    pub fn icount(mut self, icount: bool) -> Self {
        self.icount = icount;
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// The time after which a guest that has not ended is killed, and [`Guest::run`] fails.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Kills the guest once this is true; [`Guest::run`] then fails.
    #[must_use]
    pub fn switched_off_by(mut self, off: Arc<AtomicBool>) -> Self {
        self.off = off;
        self
    }

    /// Prints what the script writes while it runs.
    #[must_use]
    pub fn echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// Brings this file of the guest back as [`Output::collected`] after the script has ended.
    #[must_use]
    pub fn collect(mut self, path: &str) -> Self {
        self.collect = Some(path.to_owned());
        self
    }

    /// Gives the guest a network interface, `eth0`, with the module for it.
    ///
    /// # Errors
    ///
    /// When the kernel has no driver for it.
    pub fn nic(mut self, nic: Nic) -> Result<Self> {
        self.nic = Some(nic);
        // Built in since 6.12 of Debian, modules before.
        for module in ["virtio_pci", "virtio_net"] {
            self = self.module(module)?;
        }
        Ok(self)
    }

    /// Boots, runs a busybox shell script as root, powers off.
    ///
    /// # Errors
    ///
    /// When QEMU or busybox is missing, the guest did not get as far as running the script, or its time was up.
    /// A script that fails is not an error: see [`Output::code`].
    pub fn run(mut self, script: &str) -> Result<Output> {
        let folder = WorkFolder::create()?;
        let busybox = Path::new("/bin/busybox");
        let busybox = read(busybox).context("a guest needs the package busybox-static")?;
        self.archive.file("/bin/busybox", &busybox);
        for path in ["/dev", "/proc", "/sys", "/tmp", "/sbin", "/usr/bin", "/usr/sbin"] {
            self.archive.folder(path);
        }
        for (file, content) in ACCOUNTS {
            self.archive.file(file, content.as_bytes());
        }
        self.archive.file("/init", INIT.as_bytes());
        self.archive.file("/guest/script.sh", (functions(&self.programs) + script).as_bytes());
        self.archive.file("/guest/modules.list", (self.modules.join("\n") + "\n").trim_start().as_bytes());
        self.archive.file("/guest/collect", self.collect.as_deref().unwrap_or_default().as_bytes());
        if self.icount {
            self.archive.file("/guest/icount", &[]);
        }
        let initrd = folder.0.join("initrd");
        fs::write(&initrd, self.archive.finish()).with_context(|| format!("write {}", initrd.display()))?;

        let (console, collected) = (folder.0.join("console"), folder.0.join("collected"));
        let mut command = self.nic.as_ref().map_or_else(|| Command::new(QEMU), |nic| nic.command(QEMU));
        command
            .args([
                "-m",
                &self.memory.to_string(),
                "-cpu",
                "max",
                "-nodefaults",
                "-no-reboot",
                "-display",
                "none",
            ])
            .args(if self.icount {
                &["-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off"][..]
            } else {
                &["-accel", "tcg", "-smp", "2"][..]
            })
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&initrd)
            .args(["-append", KERNEL_ARGUMENTS])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", "stdio"])
            .args(["-serial", &format!("file:{}", collected.display())])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let text = watch(command, self.limit, &self.off, self.echo);

        let console = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).replace('\r', "");
        let text =
            text.with_context(|| format!("the guest's console ends with:\n{}", last_lines(&console, 20)))?;
        let code =
            console.lines().rev().find_map(|line| line.strip_prefix("guest-exit-code ")?.trim().parse().ok());
        let Some(code) = code else {
            bail!("the guest ended without running the script; its console:\n{}", last_lines(&console, 40));
        };
        let collected = fs::read(&collected).unwrap_or_default();
        Ok(Output { code, text, console, collected })
    }
}

/// busybox's shell runs its own `ip` without a look at PATH, but a function goes before that.
fn functions(programs: &[String]) -> String {
    let is_name = |name: &&String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    programs.iter().filter(is_name).map(|name| format!("{name}() {{ /bin/{name} \"$@\"; }}\n")).collect()
}

/// A part of a file name that nobody else uses at this time.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A folder for the files of one guest.
struct WorkFolder(PathBuf);

impl WorkFolder {
    fn create() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("vip-lb-guest-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// The libraries and the loader of a program, none for a static one.
fn shared_libraries(path: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(path).env("LC_ALL", "C").output().context("start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", path.display(), missing.trim());
    }
    // ldd fails for a static program.
    Ok(if output.status.success() { parse_ldd(&text) } else { Vec::new() })
}

/// The paths in lines such as `libc.so.6 => /lib/libc.so.6 (0x7f)` and `/lib64/ld-linux-x86-64.so.2 (0x7f)`.
fn parse_ldd(text: &str) -> Vec<PathBuf> {
    let paths = text.lines().filter_map(|line| {
        let line = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        line.starts_with('/').then(|| line.split(" (").next().unwrap_or(line))
    });
    paths.map(PathBuf::from).collect()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("read {}", path.display()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_is_understood() {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f3a)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f3b)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse_ldd(text), expected.map(PathBuf::from));
        assert!(parse_ldd("\tstatically linked\n").is_empty());
    }

    #[test]
    fn programs_become_functions() {
        let programs = ["ip", "g++"].map(str::to_owned);
        assert_eq!(functions(&programs), "ip() { /bin/ip \"$@\"; }\n");
    }

    #[test]
    fn the_last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 2), "a");
    }
}
