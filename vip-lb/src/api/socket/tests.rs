//! Sockets claimed, stale and in use.

use std::os::unix::net::UnixListener as StdListener;

use super::*;
use crate::api::samples::TempFolder;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn makes_the_folder_and_the_socket_with_their_modes() {
    let folder = TempFolder::new();
    let path = folder.join("run/vip-lb/control.sock");
    let (_listener, claim) = claim(&path).await.unwrap();
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(&folder.join("run/vip-lb")), 0o755);
    assert_eq!(claim.path(), path);
    assert!(!suffixed(&path, ".new").exists());
}

#[tokio::test]
async fn leaves_the_mode_of_a_folder_that_exists() {
    let folder = TempFolder::new();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let _claimed = claim(&folder.join("control.sock")).await.unwrap();
    assert_eq!(mode(folder.path()), 0o700);
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let folder = TempFolder::new();
    let path = folder.join("control.sock");
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists(), "closing a listener leaves its socket");
    let _claimed = claim(&path).await.unwrap();
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_second_daemon_is_refused_with_the_process_of_the_first() {
    let folder = TempFolder::new();
    let path = folder.join("control.sock");
    let _claimed = claim(&path).await.unwrap();
    let error = claim(&path).await.unwrap_err();
    let expected = format!(
        "another vip-lb daemon is running, pid {}, and answers on {}",
        std::process::id(),
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    UnixStream::connect(&path).await.expect("the first one still answers");
}

#[tokio::test]
async fn a_live_socket_is_refused_even_if_its_lock_file_is_gone() {
    let folder = TempFolder::new();
    let path = folder.join("control.sock");
    let _listener = StdListener::bind(&path).unwrap();
    let error = claim(&path).await.unwrap_err();
    assert!(matches!(error, SocketError::InUse { pid: Some(_), .. }), "{error}");
    assert!(path.exists());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = TempFolder::new();
    let path = folder.join("control.sock");
    fs::write(&path, "notes").unwrap();
    let error = claim(&path).await.unwrap_err();
    assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
}

#[tokio::test]
async fn the_path_is_free_again_after_the_claim() {
    let folder = TempFolder::new();
    let path = folder.join("control.sock");
    let claimed = claim(&path).await.unwrap();
    drop(claimed);
    assert!(!path.exists());
    let _claimed = claim(&path).await.unwrap();
}
