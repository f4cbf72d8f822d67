//! Debian's kernels: fetched by package name, unpacked into a cache, never installed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::unique;

/// An unpacked kernel that a [`Guest`](super::Guest) can boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `uname -r` of it.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// Every module file by the module's name, with underscores.
    modules: BTreeMap<String, PathBuf>,
    /// What other kernels have as modules.
    built_in: BTreeSet<String>,
}

impl Kernel {
    /// Debian's newest `cloud` kernel of a series such as `6.12`, which has BPF, its JIT and BTF built in. It is taken
    /// from `cache`, or fetched by `apt-get download` and unpacked there.
    ///
    /// # Errors
    ///
    /// When the cache has none and Debian's package lists name none, or it cannot be fetched.
    pub fn debian(series: &str, cache: &Path) -> Result<Self> {
        if let Some(folder) = newest(cached(series, cache)?) {
            return Self::unpacked(&cache.join(folder));
        }
        let package = newest(offered(series)?).with_context(|| {
            format!("apt names no package linux-image-{series}.*-cloud-amd64: try `apt-get update`")
        })?;
        // Another may do the same at this time: each unpacks in a folder of its own, and the first to rename wins.
        let work = cache.join(format!("{package}.{}", unique()));
        fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
        let fetched = fetch(&package, &work);
        let folder = cache.join(&package);
        let moved = fetched.and_then(|()| match fs::rename(work.join("root"), &folder) {
            Err(_) if folder.is_dir() => Ok(()),
            result => result.with_context(|| format!("move the kernel to {}", folder.display())),
        });
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        moved?;
        Self::unpacked(&folder)
    }

    /// A kernel in a folder that its package was unpacked into.
    ///
    /// # Errors
    ///
    /// When there is no `boot/vmlinuz-*` in it.
    pub fn unpacked(folder: &Path) -> Result<Self> {
        let boot = folder.join("boot");
        let files = fs::read_dir(&boot).with_context(|| format!("read {}", boot.display()))?;
        let release = files
            .filter_map(|file| file.ok()?.file_name().into_string().ok())
            .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
            .with_context(|| format!("no vmlinuz-* in {}", boot.display()))?;
        let mut modules = BTreeMap::new();
        let mut built_in = BTreeSet::new();
        // Debian 13 moved /lib to /usr/lib, in kernel packages too.
        for lib in ["lib/modules", "usr/lib/modules"] {
            let tree = folder.join(lib).join(&release);
            if tree.is_dir() {
                find_modules(&tree, &mut modules)?;
                let list = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
                built_in.extend(list.lines().filter_map(module_name));
            }
        }
        Ok(Self { image: boot.join(format!("vmlinuz-{release}")), release, modules, built_in })
    }

    /// A module after all modules it depends on, as `(name, content)`, without what is built in or in `loaded`; each that
    /// is returned is added there.
    ///
    /// # Errors
    ///
    /// When the kernel has no such module.
    pub(super) fn module_with_dependencies(
        &self,
        name: &str,
        loaded: &mut Vec<String>,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let name = name.replace('-', "_");
        if loaded.contains(&name) || self.built_in.contains(&name) {
            return Ok(Vec::new());
        }
        let path = self
            .modules
            .get(&name)
            .with_context(|| format!("kernel {} has no module {name}", self.release))?;
        let content = unpack_module(path)?;
        loaded.push(name.clone());
        let mut modules = Vec::new();
        for dependency in depends(&content) {
            modules.extend(self.module_with_dependencies(&dependency, loaded)?);
        }
        modules.push((name, content));
        Ok(modules)
    }
}

/// Package names of a series that are unpacked already.
fn cached(series: &str, cache: &Path) -> Result<Vec<String>> {
    if !cache.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(cache).with_context(|| format!("read {}", cache.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| is_of_series(name, series)).collect())
}

/// Package names of a series in the package lists.
fn offered(series: &str) -> Result<Vec<String>> {
    let names = run(Command::new("apt-cache").args(["pkgnames", &format!("linux-image-{series}.")]))?;
    Ok(names.lines().filter(|name| is_of_series(name, series)).map(str::to_owned).collect())
}

/// `linux-image-6.12.117+deb12-cloud-amd64` is of series 6.12; meta packages and debug symbols are not.
fn is_of_series(package: &str, series: &str) -> bool {
    package
        .strip_prefix("linux-image-")
        .and_then(|rest| rest.strip_prefix(series)?.strip_prefix('.')?.strip_suffix("-cloud-amd64"))
        .is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}

/// The newest by the numbers in the name: 6.12.117 after 6.12.11.
fn newest(mut packages: Vec<String>) -> Option<String> {
    packages.sort_by_key(|package| {
        let numbers = package.split(|c: char| !c.is_ascii_digit());
        Reverse(numbers.filter_map(|number| number.parse::<u64>().ok()).collect::<Vec<_>>())
    });
    packages.into_iter().next()
}

fn fetch(package: &str, work: &Path) -> Result<()> {
    run(Command::new("apt-get").args(["download", "-q", package]).current_dir(work))?;
    let files = fs::read_dir(work).with_context(|| format!("read {}", work.display()))?;
    let archive = files
        .filter_map(|file| Some(file.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download {package} left no .deb"))?;
    run(Command::new("dpkg").arg("-x").arg(&archive).arg(work.join("root")))?;
    Ok(())
}

fn find_modules(folder: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("read {}", folder.display()))?;
        let path = entry.path();
        // `build` and `source` are links to elsewhere.
        if entry.file_type().with_context(|| format!("look at {}", path.display()))?.is_dir() {
            find_modules(&path, modules)?;
        } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
            modules.insert(name, path);
        }
    }
    Ok(())
}

/// The name of the module in a file such as `kernel/net/ipv4/ip-tunnel.ko.xz`.
fn module_name(path: &str) -> Option<String> {
    match path.rsplit('/').next()?.split_once('.') {
        Some((name, "ko" | "ko.xz")) => Some(name.replace('-', "_")),
        _ => None,
    }
}

fn unpack_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "ko") {
        return fs::read(path).with_context(|| format!("read {}", path.display()));
    }
    let mut xz = Command::new("xz");
    let output = xz.args(["--decompress", "--stdout"]).arg(path).stderr(Stdio::inherit()).output();
    let output = output.context("start xz")?;
    if !output.status.success() {
        bail!("xz cannot unpack {}: {}", path.display(), output.status);
    }
    Ok(output.stdout)
}

/// The names after `depends=` in a module's `.modinfo` section, a list of strings that end in a zero byte.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let list = module[start + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(list).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_of_a_series_is_chosen() {
        let packages = [
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.11+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.101+deb12-cloud-amd64",
            "linux-image-6.12.200+deb12-cloud-amd64-dbg",
            "linux-image-6.12.200+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.200+deb12-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64.4711-0",
        ];
        let of = |series: &str| {
            newest(
                packages.iter().filter(|name| is_of_series(name, series)).map(ToString::to_string).collect(),
            )
        };
        assert_eq!(of("6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(of("6.1").as_deref(), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(of("6.6"), None);
    }

    #[test]
    fn dependencies_are_read_from_the_module() {
        assert_eq!(
            depends(b"\x7fELF..\0license=GPL\0depends=tunnel4,ip_tunnel\0name=ipip\0"),
            ["tunnel4", "ip_tunnel"]
        );
        assert!(depends(b"\x7fELF..\0license=GPL\0depends=\0name=veth\0").is_empty());
        assert!(depends(b"\x7fELF").is_empty());
    }

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let folder = std::env::temp_dir().join(format!("vip-lb-kernel-{}", std::process::id()));
        let tree = folder.join("lib/modules/6.12.1/kernel/net");
        fs::create_dir_all(&tree).unwrap();
        fs::create_dir_all(folder.join("boot")).unwrap();
        fs::write(folder.join("boot/vmlinuz-6.12.1"), "").unwrap();
        for (file, depends) in
            [("ipip.ko", "ip-tunnel,tunnel4"), ("ip-tunnel.ko", "tunnel4"), ("tunnel4.ko", "")]
        {
            fs::write(tree.join(file), format!("x\0depends={depends}\0")).unwrap();
        }

        let list = tree.parent().unwrap().parent().unwrap().join("modules.builtin");
        fs::write(list, "kernel/drivers/virtio/virtio-pci.ko\nkernel/fs/fuse/virtiofs.ko\n").unwrap();

        let kernel = Kernel::unpacked(&folder).unwrap();
        assert_eq!(kernel.release, "6.12.1");
        assert!(kernel.module_with_dependencies("virtio_pci", &mut Vec::new()).unwrap().is_empty());
        let mut loaded = Vec::new();
        let modules = kernel.module_with_dependencies("ipip", &mut loaded).unwrap();
        let names: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tunnel4", "ip_tunnel", "ipip"]);
        assert!(kernel.module_with_dependencies("tunnel4", &mut loaded).unwrap().is_empty());
        let error = kernel.module_with_dependencies("veth", &mut loaded).unwrap_err();
        assert_eq!(error.to_string(), "kernel 6.12.1 has no module veth");
        fs::remove_dir_all(&folder).unwrap();
    }
}
