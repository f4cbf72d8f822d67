//! How the command exits. The codes are part of the interface.

use std::process::ExitCode;

use crate::{
    api::{ClientError, model::ErrorKind},
    config::InvalidConfig,
};

/// The exit code, by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Success,
    /// 1: the operation failed.
    Failure,
    /// 2: the command line makes no sense. What clap finds out itself ends with the same code.
    Usage,
    /// 3: the configuration is not valid.
    InvalidConfig,
    /// 4: the daemon cannot be reached.
    Unreachable,
    /// 5: `doctor` found warnings, and no problems.
    Warnings,
    /// 6: `doctor` found problems.
    Problems,
    /// 10: a plan changes something and loses no connection.
    SafeChange,
    /// 11: a plan or a hand-over loses connections.
    LossyChange,
    /// 12: the deadline of a drain passed.
    NotDrained,
    /// 13: no other node took over a VIP, or not the one that was named.
    NotTaken,
    /// 14: a peer is missing, or does otherwise.
    PeersDisagree,
}

impl Exit {
    /// The code for an error that ended a command, by the first error of the chain that has a code of its own.
    pub fn of(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(|error| {
                if error.is::<InvalidConfig>() {
                    Some(Self::InvalidConfig)
                } else if error.is::<UsageError>() {
                    Some(Self::Usage)
                } else {
                    error.downcast_ref().map(Self::of_client)
                }
            })
            .unwrap_or(Self::Failure)
    }

    fn of_client(error: &ClientError) -> Self {
        match error {
            ClientError::NotRunning { .. }
            | ClientError::NotAllowed { .. }
            | ClientError::Connect { .. }
            | ClientError::Silent { .. } => Self::Unreachable,
            ClientError::Refused(error) if error.kind == ErrorKind::InvalidConfig => Self::InvalidConfig,
            ClientError::Refused(_) | ClientError::BrokenOff { .. } | ClientError::NotUnderstood { .. } => {
                Self::Failure
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::InvalidConfig => 3,
            Exit::Unreachable => 4,
            Exit::Warnings => 5,
            Exit::Problems => 6,
            Exit::SafeChange => 10,
            Exit::LossyChange => 11,
            Exit::NotDrained => 12,
            Exit::NotTaken => 13,
            Exit::PeersDisagree => 14,
        })
    }
}

/// Arguments that are right one by one but make no sense together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use anyhow::Context;

    use super::*;
    use crate::api::model::ApiError;

    #[test]
    fn the_code_is_found_under_any_context() {
        let socket = PathBuf::from("/run/x");
        let refused = |kind| anyhow::Error::from(ClientError::Refused(ApiError::new(kind, "no")));
        let invalid = InvalidConfig { path: "a.yaml".into(), mistakes: vec!["line 1: no".into()] };
        for (error, exit) in [
            (anyhow::anyhow!("disk on fire"), Exit::Failure),
            (invalid.into(), Exit::InvalidConfig),
            (UsageError("no".into()).into(), Exit::Usage),
            (refused(ErrorKind::InvalidConfig), Exit::InvalidConfig),
            (refused(ErrorKind::NotFound), Exit::Failure),
            (ClientError::Silent { socket }.into(), Exit::Unreachable),
        ] {
            let text = format!("{error:?}");
            assert_eq!(Exit::of(&error), exit, "{text}");
            let wrapped = Err::<(), _>(error).context("cannot do it").unwrap_err();
            assert_eq!(Exit::of(&wrapped), exit, "{text} in a context");
        }
    }
}
