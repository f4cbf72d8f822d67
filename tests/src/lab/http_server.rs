//! nginx, one per backend.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{http_load::fetch, namespace::Namespace, scratch::Scratch, topology::Node, wait_for};

/// A running nginx that answers its node's name on `/` and `ok` on `/healthz`, on port 80 of every address, and keeps files under `/files/`.
#[derive(Debug)]
pub struct HttpServer {
    child: Child,
    files: PathBuf,
    sick: PathBuf,
}

impl HttpServer {
    /// The port it listens on.
    pub const PORT: u16 = 80;

    /// Starts it in the node's namespace and waits until it answers.
    ///
    /// # Errors
    ///
    /// nginx is not installed, does not start or does not answer; the error holds its log.
    pub fn start(node: &Node, scratch: &Scratch) -> Result<Self> {
        let folder = scratch.path().join(format!("{}.nginx", node.name));
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let files = folder.join("files");
        fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
        let sick = folder.join("sick");
        let _ = fs::remove_file(&sick);
        let config = folder.join("nginx.conf");
        fs::write(&config, configuration(&node.name, &folder))
            .with_context(|| format!("write {}", config.display()))?;
        let child = node
            .namespace
            .command("nginx")
            .arg("-c")
            .arg(&config)
            .arg("-p")
            .arg(&folder)
            .args(["-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start nginx (Debian package nginx-light)")?;
        let mut server = Self { child, files, sick };
        server
            .wait_until_it_answers(&node.namespace)
            .with_context(|| fs::read_to_string(folder.join("error.log")).unwrap_or_default())
            .with_context(|| format!("start nginx on {}", node.name))?;
        Ok(server)
    }

    /// Decides what `/healthz` says: 200, or 503 while `/` goes on answering.
    ///
    /// # Errors
    ///
    /// The marker file cannot be written.
    pub fn set_healthy(&self, healthy: bool) -> Result<()> {
        if healthy {
            fs::remove_file(&self.sick).with_context(|| format!("remove {}", self.sick.display()))
        } else {
            fs::write(&self.sick, "").with_context(|| format!("write {}", self.sick.display()))
        }
    }

    /// Stops the process amidst of whatever it does, or has it go on: the kernel goes on to accept connections for it.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn set_running(&self, runs: bool) -> Result<()> {
        let signal = if runs { libc::SIGCONT } else { libc::SIGSTOP };
        // SAFETY: it only sends a signal, to a child that is not waited for yet.
        let failed = unsafe { libc::kill(self.child.id().cast_signed(), signal) };
        if failed == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("signal nginx") }
    }

    /// Where the files lie that it serves, and takes by PUT, under `/files/`.
    #[must_use]
    pub fn files(&self) -> &Path {
        &self.files
    }

    /// Ends it without any farewell, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    fn wait_until_it_answers(&mut self, namespace: &Namespace) -> Result<()> {
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, Self::PORT));
        wait_for("an answer from nginx", Duration::from_secs(10), || {
            if let Some(status) = self.child.try_wait()? {
                bail!("nginx ended with {status}");
            }
            Ok(fetch(namespace, own, "/healthz").is_ok_and(|answer| answer.0 == 200).then_some(()))
        })
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One process only, so that ending it ends all of it.
fn configuration(name: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 0.0.0.0:{port} backlog=4096;
        listen [::]:{port} ipv6only=on backlog=4096;
        location = / {{ return 200 \"{name}\\n\"; }}
        location = /healthz {{
            if (-f {folder}/sick) {{ return 503 \"sick\\n\"; }}
            return 200 \"ok\\n\";
        }}
        location /files/ {{
            root {folder};
            client_max_body_size 0;
            dav_methods PUT;
        }}
    }}
}}
",
        port = HttpServer::PORT
    )
}
