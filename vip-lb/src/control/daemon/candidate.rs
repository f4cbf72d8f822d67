//! Configurations as they are written: the one in force, and one that may come in force.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{Daemon, orders::internal, wall_clock};
use crate::{
    api::model::{ApiError, ConfigRequest, ErrorKind},
    config::{self, Config, ConfigErrors, Loaded},
    state::{self, Folder},
};

/// The configuration in force as it was written.
pub(super) struct ConfigFile {
    /// The file that the daemon was started with.
    pub(super) path: PathBuf,
    /// Fingerprint of the text.
    pub(super) hash: String,
    pub(super) loaded_at: SystemTime,
    pub(super) text: Arc<str>,
    /// Set if the text is not the file's.
    pub(super) replaced: Option<Replaced>,
}

/// That something else is in force than the file.
pub(super) struct Replaced {
    /// What is.
    pub(super) name: String,
    /// Fingerprint of the file.
    pub(super) of_file: String,
}

/// A valid configuration that may come in force.
pub(super) struct Candidate {
    pub(super) config: Config,
    pub(super) file: ConfigFile,
    pub(super) warnings: Vec<String>,
}

impl Candidate {
    /// Validates a text.
    pub(super) fn parse(
        path: &Path,
        name: &Path,
        text: &str,
        replaced: Option<Replaced>,
    ) -> Result<Self, ConfigErrors> {
        let Loaded { config, warnings } = config::parse(text, name)?;
        let file = ConfigFile {
            path: path.to_owned(),
            hash: state::fingerprint(text.as_bytes()),
            loaded_at: wall_clock(),
            text: Arc::from(text),
            replaced,
        };
        Ok(Self { config, file, warnings: warnings.iter().map(ToString::to_string).collect() })
    }
}

/// The configuration that a daemon begins with: the file's, or what an operator had brought in force instead of this very file.
pub(super) fn at_start(path: &Path) -> Result<Candidate, ConfigErrors> {
    let text = config::read(path)?;
    let mut of_file = Candidate::parse(path, path, &text, None)?;
    let folder = Folder::new(&state::folder_of(of_file.config.node.state_dir.as_deref()));
    let instead = match state::keeper::in_force_instead_of(&folder, &of_file.file.hash) {
        Ok(instead) => instead,
        Err(error) => {
            of_file.warnings.push(format!("{error}; the file is in force"));
            None
        }
    };
    let Some((name, text)) = instead else { return Ok(of_file) };
    let replaced = Replaced { name: name.clone(), of_file: of_file.file.hash.clone() };
    match Candidate::parse(path, Path::new(&name), &text, Some(replaced)) {
        Ok(mut candidate) => {
            candidate.config.node.state_dir.clone_from(&of_file.config.node.state_dir);
            Ok(candidate)
        }
        Err(errors) => {
            of_file.warnings.push(format!("{name} is not valid any more, the file is in force: {errors}"));
            Ok(of_file)
        }
    }
}

impl Daemon {
    /// Reads the configuration that a request is about.
    pub(super) async fn candidate(&self, request: &ConfigRequest) -> Result<Candidate, ApiError> {
        let path = self.file.path.clone();
        let (name, text) = match (&request.text, request.revision) {
            (None, None) => (None, config::read(&path).map_err(|errors| invalid(&path, &errors))?),
            (Some(text), None) => (Some(text.name.clone()), text.yaml.clone()),
            (None, Some(revision)) => {
                (Some(state::keeper::name_of(revision)), self.revision(revision).await?)
            }
            (Some(_), Some(_)) => {
                let error = "a text and a revision are two configurations; only one can be in force";
                return Err(ApiError::new(ErrorKind::BadRequest, error));
            }
        };
        // A file that cannot be read has no text that anything could be in force instead of.
        let of_file = config::read(&path).map(|text| state::fingerprint(text.as_bytes())).unwrap_or_default();
        let hash = state::fingerprint(text.as_bytes());
        let replaced = name.clone().filter(|_| hash != of_file).map(|name| Replaced { name, of_file });
        let name = name.map_or_else(|| path.clone(), Into::into);
        let mut candidate =
            Candidate::parse(&path, &name, &text, replaced).map_err(|errors| invalid(&name, &errors))?;
        // Given on the command line, it is not the file's to change.
        candidate.config.node.socket.clone_from(&self.config.node.socket);
        let refusals = self.refusals(&candidate.config);
        if !refusals.is_empty() {
            return Err(ApiError::invalid_config(format!("cannot apply {}", name.display()), refusals));
        }
        Ok(candidate)
    }

    async fn revision(&self, revision: u64) -> Result<String, ApiError> {
        let unknown = || {
            let error = format!(
                "there is no revision {revision}: `vip-lb rollback --list` names those that are kept"
            );
            ApiError::new(ErrorKind::NotFound, error)
        };
        let text = self.keeper.text_of(revision).wait().await.map_err(internal)?.ok_or_else(unknown)?;
        String::from_utf8(text).map_err(internal)
    }
}

fn invalid(name: &Path, errors: &ConfigErrors) -> ApiError {
    let lines = errors.errors.iter().map(ToString::to_string).collect();
    ApiError::invalid_config(format!("cannot apply {}", name.display()), lines)
}
